"""Networks of several inputs, from PyTorch to the RTL, files and exports."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.errors import InputError
from nupes.model.network import IntegerNetwork
from nupes.quantizer.options.recipe import METHODS, Phase, Recipe
from nupes.verify import check_layers, check_outputs
from tests.export.test_onnx import check_ends
from tests.networks import many
from tests.quantizer.close import images, module_output, signal_to_noise
from tests.whole import ARRAY, run_whole


class Conditioned(nn.Module):
    """A map with an offset and a gate for each channel, from a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 1)
        self.offset, self.gate = nn.Linear(5, 6), nn.Linear(5, 6)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        x = self.conv(image) * torch.sigmoid(self.gate(vector))[:, :, None, None]
        return self.head(F.relu(x + self.offset(vector)[:, :, None, None]))


class Siamese(nn.Module):
    """One convolution on two images, and what differs between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = (F.relu(self.conv(x)) for x in (left, right))
        return self.head((a - b).mean((2, 3)))


class Stacked(nn.Module):
    """Two maps side by side, which share their codes; a scale of one of them first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(5, 3, 3, padding=1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.cat([2 * a + 1, b], 1))


class Sum(nn.Module):
    """Three inputs of different kinds: a map, tokens, a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 4, 1), nn.Linear(3, 4), nn.Linear(6, 4)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
        y = torch.tanh(self.b(tokens)) + self.c(vector)[:, None]
        return self.head(y.mean(1)) + self.a(x).mean((2, 3))


class Bare(nn.Module):
    """Inputs that are added, without any weights."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.relu(x + 0.5 * y)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "conditioned": (Conditioned, ((3, 6, 5), (5,))),
    "siamese": (Siamese, ((3, 7, 7), (3, 7, 7))),
    "siamese, two sizes": (Siamese, ((3, 7, 7), (3, 8, 8))),
    "stacked": (Stacked, ((2, 5, 6), (3, 5, 6))),
    "sum": (Sum, ((2, 3, 4), (12, 3), (6,))),
    "bare": (Bare, ((3, 4, 5), (3, 4, 5))),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("method", "scheme"), [("rtn", "W8A8"), ("search", "W4A4")])
def test_several_inputs_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str, method: str, scheme: str
) -> None:
    network = run_whole(running, *NETWORKS[name], scheme, method)
    assert len(network.inputs) == len(NETWORKS[name][1])


@st.composite
def modules(draw: st.DrawFn) -> tuple[nn.Module, tuple[tuple[int, ...], ...]]:
    """Draw a module of two maps that meet somewhere, and the shapes of these."""
    size = draw(st.integers(3, 7)), draw(st.integers(3, 7))
    channels = [draw(st.integers(1, 6)) for _ in range(2)]
    join = draw(st.sampled_from(["add", "cat", "mul", "sub"]))
    depth = [draw(st.integers(0 if join == "cat" else 1, 2)) for _ in range(2)]
    function = draw(st.sampled_from([F.relu, torch.tanh, F.silu]))

    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.paths = nn.ModuleList(
                nn.ModuleList(nn.Conv2d(c if i == 0 else 4, 4, 3, padding=1) for i in range(n))
                for c, n in zip(channels, depth, strict=True)
            )
            ends = [4 if n else c for c, n in zip(channels, depth, strict=True)]
            self.head = nn.Conv2d(sum(ends) if join == "cat" else 4, 2, 1)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            ends = []
            for value, path in zip((x, y), self.paths, strict=True):
                for conv in path:  # type: ignore[attr-defined]
                    value = function(conv(value))
                ends.append(value)
            a, b = ends
            joined = {"add": a + b if join == "add" else a}
            if join == "cat":
                return self.head(torch.cat([a, b], 1))
            joined |= {"sub": a - b, "mul": a * b} if join != "add" else {}
            return self.head(joined[join])

    return Drawn(), tuple((c, *size) for c in channels)


@many(6)
@given(st.data())
def test_drawn_modules_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], data: st.DataObject
) -> None:
    module, shapes = data.draw(modules())
    scales = [data.draw(st.sampled_from([0.1, 1.0, 30.0])) for _ in shapes]
    x = tuple(images(24, *s, seed=i) * f for i, (s, f) in enumerate(zip(shapes, scales)))  # noqa: B905
    network = nupes.quantize(module, "W8A8", x, method="rtn")
    assert signal_to_noise(module_output(module, *x), network(*x)) > 20
    program, few = nupes.compile(network, ARRAY), tuple(part[:2] for part in x)
    hw = running(ARRAY)
    assert check_layers(hw, program, check_outputs(hw, program, few), few).exact


def conditioned(method: str | Recipe = "rtn", **options: object) -> IntegerNetwork:
    """Return the integer network of a conditioned map."""
    torch.manual_seed(0)
    data = None if "input_shape" in options else (images(60, 3, 6, 5), 9 * images(60, 5, seed=1))
    return nupes.quantize(Conditioned(), "W8A8", data, method=method, **options)  # type: ignore[arg-type]


def test_every_input_has_its_own_range() -> None:
    image, vector = (item.tensor for item in conditioned().inputs)
    assert (image.name, vector.name) == ("input.image", "input.vector")
    assert vector.scale == pytest.approx(9 * image.scale, rel=0.05)
    ranges = ((-1, 1), (-20, 20))
    made_up = {"input_shape": ((3, 6, 5), (5,)), "input_range": ranges}
    image, vector = (item.tensor for item in conditioned(**made_up).inputs)  # type: ignore[arg-type]
    assert vector.scale == pytest.approx(20 * image.scale, rel=0.01)


def test_without_data_inputs_are_made_up() -> None:
    options = {"input_shape": ((3, 6, 5), (5,)), "input_range": (-1, 1)}
    network, x = conditioned("search", **options), (images(9, 3, 6, 5), images(9, 5, seed=1))
    torch.manual_seed(0)
    assert signal_to_noise(module_output(Conditioned(), *x), network(*x)) > 25


def test_learning_and_checkpoints(tmp_path: Path) -> None:
    seen = []

    def mirror(parts: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        seen.append(parts)
        return parts[0].flip(-1), parts[1]

    recipe = Recipe(phases=(Phase("layer", steps=2), Phase("network", "straight", steps=4)))
    kept = tmp_path / "kept"
    first = conditioned(recipe, augment=mirror, checkpoint=kept)
    assert not kept.exists()
    assert [tuple(part.shape[1:]) for part in seen[0]] == [(3, 6, 5), (5, 1, 1)]
    x = images(9, 3, 6, 5), 9 * images(9, 5, seed=1)
    np.testing.assert_array_equal(conditioned(recipe, augment=mirror)(*x), first(*x))
    with pytest.raises(InputError, match="augment must return a tuple of 2 tensors, one for each"):
        conditioned(recipe, augment=lambda parts, _: parts[0])


def test_an_exported_program_has_its_own_inputs() -> None:
    torch.manual_seed(0)
    x = images(60, 3, 6, 5), 9 * images(60, 5, seed=1)
    dims = {"image": {0: torch.export.Dim("batch")}, "vector": {0: torch.export.Dim("batch")}}
    args = tuple(torch.from_numpy(part[:2]) for part in x)
    program = torch.export.export(
        Conditioned().eval(), (), dict(zip(dims, args, strict=True)), dynamic_shapes=dims
    )
    network = nupes.quantize(program, "W8A8", x, method="rtn")
    np.testing.assert_array_equal(network(*x), conditioned()(*x))


def test_optional_inputs_are_given_by_shapes() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
            y = self.conv(x)
            return y if skip is None else y + skip

    x, skip = images(8, 3, 4, 4), images(8, 2, 4, 4)
    assert len(nupes.quantize(Optional(), "W8A8", x, method="rtn").inputs) == 1
    shapes = ((3, 4, 4), (2, 4, 4))
    both = nupes.quantize(Optional(), "W8A8", (x, skip), input_shape=shapes, method="rtn")
    assert len(both.inputs) == 2


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((images(8, 3, 6, 5), images(8, 5), images(8, 5)), {}, "module's 2 inputs, in a tuple"),
        (images(8, 3, 6, 5), {}, "an array for each of the module's 2 inputs, in a tuple, not 1"),
        ((images(8, 3, 6, 5), images(7, 5)), {}, r"as many images of each input, not \[8, 7\]"),
        (
            (images(8, 3, 6, 5), images(8, 4)),
            {},
            r"images of shape \(3, 6, 5\) and \(4,\), not fail",
        ),
        (
            (images(8, 3, 6, 5), images(8, 5)),
            {"input_shape": ((3, 6, 5), (4,))},
            r"must have the shape \(4,\) of input_shape, not \(5,\)",
        ),
        (
            images(8, 3, 6, 5),
            {"input_shape": (3, 6, 5)},
            r"of its 2 inputs \(image, vector\), not 1",
        ),
        (None, {"input_shape": ((3, 6, 5), (5,))}, "or both input_shape and input_range, not"),
        (
            None,
            {"input_shape": ((3, 6, 5), (5,)), "input_range": ((0, 1), (0, 1), (0, 1))},
            "or one for each of the module's 2 inputs, not 3 of them",
        ),
    ],
)
def test_bad_inputs_are_refused(data: object, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nupes.quantize(Conditioned(), "W8A8", data, method="rtn", **options)


def test_bad_batches_are_refused(running: Callable[..., nupes.Simulator]) -> None:
    network = conditioned()
    x = images(3, 3, 6, 5), images(2, 5)
    with pytest.raises(InputError, match=r"inputs must have one batch size, not \[3, 2\]"):
        network(*x)
    with pytest.raises(InputError, match="network must get 2 inputs, not 1"):
        network(x[0])
    hw, program = running(ARRAY), nupes.compile(network, ARRAY)
    for bad in (x, x[0]):
        with pytest.raises(
            InputError, match=r"inputs must have one batch|must get 2 inputs, not 1"
        ):
            hw.run(program, bad)


def test_files_and_exports(tmp_path: Path) -> None:
    network, x = conditioned(), [images(3, 3, 6, 5), images(3, 5)]
    loaded = nupes.load(network.save(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(loaded(*x), network(*x))
    check_ends(network, [x[0], x[1].reshape(3, 5, 1, 1)])


@pytest.mark.slow
def test_the_search_is_as_good_for_each_input() -> None:
    torch.manual_seed(0)
    module, x = Conditioned(), (images(64, 3, 6, 5), images(64, 5, seed=1))
    for method in METHODS:
        network = nupes.quantize(module, "W8A8", x, method=method)
        assert signal_to_noise(module_output(module, *x), network(*x)) > 20
