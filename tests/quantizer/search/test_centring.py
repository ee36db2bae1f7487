"""Keys and values without what is constant in them; the network stays the same."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.search.centring import center
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.operators import Matmul, WeightedMean
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork
from tests.test_attention import Encoder
from tests.test_rotary import ROTATIONS, TOKENS, Decoder


def drawn(module: nn.Module) -> nn.Module:
    """Return a module of large biases."""
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 1.0)
    return module.eval()


def centred(module: nn.Module, x: Tensor) -> tuple[FusedNetwork, FusedNetwork]:
    """Return the stages of a module before and behind, which give the same."""
    network = fuse(capture(export_module(module, (2, *x.shape[1:]))))
    batch = network.maps(Batch((x,)))
    found = center(network, batch)
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
@pytest.mark.parametrize(
    ("module", "shape"),
    [(Encoder, (5, 6)), (lambda: Decoder(ROTATIONS["halves"]), (TOKENS, 5))],
    ids=["heads", "rotated"],
)
def test_keys_and_values_have_no_mean(
    module: Callable[[], nn.Module], shape: tuple[int, int], kind: type
) -> None:
    x = torch.randn(6, *shape)
    before, behind = centred(drawn(module()), x)
    assert max(means(before, x, kind)) > 0.02
    assert max(means(behind, x, kind)) < 1e-4
    assert means(behind, x, kind, 0) == pytest.approx(means(before, x, kind, 0), rel=1e-3)


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
    _, behind = centred(drawn(Shared(part)), x)
    assert (max(means(behind, x, Matmul)) < 1e-4) == keys
    assert (max(means(behind, x, WeightedMean)) < 1e-4) == values


def test_scores_that_leave_the_network_stay() -> None:
    x = torch.randn(8, 5, 6)
    network, _ = centred(drawn(Shared("nothing")), x)
    scores = next(stage for stage in network.stages if isinstance(stage.op, Matmul))
    told = replace(network, outputs=(*network.outputs, (scores.name, scores.shape)))
    batch = network.maps(Batch((x,)))
    before, behind = (
        run_float(some.stages, some.start(batch))[scores.name]
        for some in (told, center(told, batch))
    )
    torch.testing.assert_close(behind, before)
