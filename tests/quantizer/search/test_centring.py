"""Keys and values without what is constant in them; the network stays the same."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.options.recipe import METHODS
from nupes.quantizer.search.centring import center, movable, take_out
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.operators import Matmul, WeightedMean, column
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork
from tests.test_attention import Encoder
from tests.test_rotary import ROTATIONS, TOKENS, Decoder

M = TypeVar("M", bound=nn.Module)


def drawn(module: M) -> M:
    """Return a module of large biases."""
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 3.0)
    return module.eval()


def centred(module: nn.Module, x: Tensor) -> tuple[FusedNetwork, FusedNetwork]:
    """Return the stages of a module before and behind, which give the same."""
    network = fuse(capture(export_module(module, (2, *x.shape[1:]))))
    batch = network.maps(Batch((x,)))
    found = center(network, batch, dict.fromkeys(network.shapes, 4), METHODS["search"])
    before, behind = (
        run_float(some.stages, some.start(batch))[some.emitted[0]] for some in (network, found)
    )
    torch.testing.assert_close(behind, before, rtol=1e-4, atol=1e-4)
    return network, found


def means(network: FusedNetwork, x: Tensor, kind: type, number: int = 1) -> list[float]:
    """Return the largest mean of a channel of each operand, by number, of operators of a kind."""
    maps = run_float(network.stages, network.start(network.maps(Batch((x,)))))
    names = [stage.sources[number] for stage in network.stages if isinstance(stage.op, kind)]
    return [float(maps[name].mean((0, 2, 3)).abs().max()) for name in names]


@pytest.mark.parametrize("kind", [Matmul, WeightedMean])
def test_keys_and_values_have_no_mean(kind: type) -> None:
    x = torch.randn(6, 5, 6)
    before, behind = centred(drawn(Encoder()), x)
    assert max(means(behind, x, kind)) < 0.1 * max(means(before, x, kind))
    assert means(behind, x, kind, 0) == pytest.approx(means(before, x, kind, 0), rel=1e-3)


@pytest.mark.parametrize("early", [False, True])
def test_rotated_keys_take_any_constant(early: bool) -> None:
    module = Decoder(ROTATIONS["halves"], early).eval()
    network = fuse(capture(export_module(module, (2, TOKENS, 5))))
    batch = network.maps(Batch((torch.randn(6, TOKENS, 5),)))
    names = movable(network)
    assert len(names) == 2  # the keys of all heads, and the values
    rng = np.random.default_rng(0)
    constants = {name: rng.normal(size=network.shapes[name][2]) for name in names}
    found = take_out(network, constants)
    before, behind = (run_float(some.stages, some.start(batch)) for some in (network, found))
    torch.testing.assert_close(behind["head"], before["head"], rtol=1e-4, atol=1e-4)
    for name, constant in constants.items():
        less = before[name] - column(constant)
        torch.testing.assert_close(behind[name], less, rtol=1e-4, atol=1e-4)


class Shared(nn.Module):
    """Attention whose keys or values are read elsewhere too."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part
        self.query, self.key, self.value, self.other, self.last = (
            nn.Linear(6, 6) for _ in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.part == "one tensor":
            v = k
        heads = [y.unflatten(2, (2, 3)).transpose(1, 2) for y in (q, k, v)]
        scores = heads[0] @ heads[1].transpose(2, 3)
        y = (torch.softmax(scores, -1) @ heads[2]).transpose(1, 2).flatten(2)
        if self.part in ("keys", "values"):
            y = y + self.other(k if self.part == "keys" else v)
        return self.last(y)


@pytest.mark.parametrize(
    ("part", "keys", "values"),
    [
        ("nothing", True, True),
        ("keys", False, True),
        ("values", True, False),
        ("one tensor", True, True),
    ],
)
def test_what_is_read_elsewhere_stays(part: str, keys: bool, values: bool) -> None:
    x = torch.randn(8, 5, 6)
    before, behind = centred(drawn(Shared(part)), x)
    for kind, moves in ((Matmul, keys), (WeightedMean, values)):
        same = means(behind, x, kind) == pytest.approx(means(before, x, kind), rel=1e-3)
        assert same == (not moves)


def of_first_channel(queries: float, keys: float) -> Shared:
    """Return attention by the first channel, which is what values are."""
    module = drawn(Shared("nothing"))
    with torch.no_grad():
        for layer in (module.query, module.key, module.value):
            layer.weight.zero_()
            layer.bias.zero_()
        module.query.bias.fill_(queries)
        module.key.weight[:, 0] = keys
        module.value.weight[:, 0] = 1.0
    return module


def test_tokens_that_count_say_what_a_mean_is() -> None:
    x = torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(0))
    x[:, :, 0] = 4 + 0.3 * x[:, :, 0]
    x[:, 0, 0] = 0
    # All look at the first token, a sink, whose values are zero.
    before, behind = centred(of_first_channel(10.0, -2.0), x)
    (far,), (near,) = (means(network, x, WeightedMean)[:1] for network in (before, behind))
    assert near == pytest.approx(far, rel=1e-2)
    _, behind = centred(of_first_channel(0.0, 0.0), x)  # all look everywhere
    assert means(behind, x, WeightedMean)[0] < 0.1 * far


def test_a_mean_stays_where_codes_err_more_without_it() -> None:
    x = torch.randn(8, 20, 6, generator=torch.Generator().manual_seed(0))
    x[:, :, 0] *= 0.003
    x[:, ::10, 0] = 1.0
    before, behind = centred(of_first_channel(0.0, 0.0), x)
    assert means(behind, x, WeightedMean) == means(before, x, WeightedMean)


def test_scores_that_leave_the_network_stay() -> None:
    x = torch.randn(8, 5, 6)
    network, _ = centred(drawn(Shared("nothing")), x)
    scores = next(stage for stage in network.stages if isinstance(stage.op, Matmul))
    told = replace(network, outputs=(*network.outputs, (scores.name, scores.shape)))
    batch = network.maps(Batch((x,)))
    before, behind = (
        run_float(some.stages, some.start(batch))[scores.name]
        for some in (told, center(told, batch, dict.fromkeys(told.shapes, 4), METHODS["search"]))
    )
    torch.testing.assert_close(behind, before)
