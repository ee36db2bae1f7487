"""The front verb: options, data-free quantization, random networks, and the digits example."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from examples.digits.network import load_network, load_split
from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.artifact.reader import load
from nupes.model.errors import InputError
from nupes.model.operators import Conv
from nupes.quantizer import pipeline, quantize
from nupes.quantizer.codes.decisions import Choices
from nupes.quantizer.data import inputs as prepared
from nupes.quantizer.options.recipe import METHODS, Phase, Recipe
from tests.quantizer.close import (
    images,
    module_output,
    quantize_and_compare,
    randomize_norms,
    signal_to_noise,
)
from tests.quantizer.test_operators import conv


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "W4"}, "scheme must be WxAy .* not 'W4'"),
        ({"ends": 9}, "ends must be 2 to 8 bits or None, not 9"),
        ({"ends": True}, "ends must be 2 to 8 bits or None, not True"),
        ({"residual_bits": 1}, "residual_bits must be 2 to 8 bits or None, not 1"),
        ({"codebook": "log"}, "codebook must be 'power' or 'uniform', not 'log'"),
        ({"cell": "cube"}, "cell must be one of decode, .* not 'cube'"),
        ({"cell": "product"}, "cell must not be 'product': .* use cell 'pair'"),
        (
            {"cell": "uniform", "codebook": "power"},
            "codebook must be 'uniform' on the cell 'uniform', not 'power'; or use the cell square",
        ),
        (
            {"cell": "square", "method": "powerquant"},
            "exponent must be 'layer' on the cell 'square', not 'network': .* method search",
        ),
        ({"method": "magic"}, "method must be one of rtn, powerquant, .* not 'magic'"),
        ({"method": 3}, "method must be a name or a Recipe, not int"),
        ({"overrides": {"x*": "W2A2"}}, r"must match a layer, not 'x\*'; layers: conv2d"),
        ({"input_shape": (3, 4, 4)}, r"must have the shape \(3, 4, 4\) of input_shape, not"),
        ({"module": 3}, "module must be a torch.nn.Module or an ExportedProgram, not int"),
        ({"calibration": None}, "calibration must be given, or both input_shape and input_range"),
        ({"input_shape": 8}, r"input_shape must be .* or \(features,\), not 8"),
        ({"input_range": (1, 0)}, "input_range must be .* with low < high"),
        ({"overrides": ["W8A8"]}, "overrides must be a mapping of patterns .* not list"),
        ({"checkpoint": 5}, "checkpoint must be a path, not int"),
        ({"calibration": None, "method": "nupes"}, "method must .* not learn .* use 'search'"),
        ({"augment": 3}, "augment must be a function, not int"),
        ({"progress": 3}, "progress must be a function, not int"),
        ({"overrides": {"x": "W9"}}, "scheme must be WxAy .* not 'W9'"),
        ({"augment": abs, "method": "search"}, "augment must come with a method .* never call it"),
        (
            {"method": "powerquant", "codebook": "uniform"},
            "codebook must be 'power' for a method with one exponent .* method 'rtn'",
        ),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    arguments = {"module": conv(), "calibration": images(4, 3, 8, 8), **options}
    with pytest.raises(InputError, match=message):
        quantize(**arguments)


def test_an_input_of_eight_bits_covers_the_range_that_is_given() -> None:
    x = images(16, 3, 8, 8, low=0.1, high=0.5)
    for span, expected in ((None, (0.0, 0.5)), ((-1, 2), (-1.0, 2.0))):
        tensor = quantize(conv(), "W4A4", x, input_range=span, method="rtn").the_input.tensor
        found = tensor.codebook.levels[[0, -1]] * tensor.scale
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_metadata_say_how_many_images_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(16, 3, 8, 8)
    assert quantize(conv(), "W4A4", x, method="rtn").metadata["images"] == 16
    monkeypatch.setattr(prepared, "BUDGET", 5 * 3 * 8 * 8)
    assert quantize(conv(), "W4A4", x, method="rtn").metadata["images"] < 16


@pytest.mark.parametrize("cell", ["uniform", "square", "pair"])
@pytest.mark.parametrize(
    "bits", [3, 4, pytest.param(2, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
)
def test_an_array_of_the_cells_takes_the_network(cell: str, bits: int) -> None:
    module = nn.Sequential(conv(4, 2), nn.SiLU(), conv(4, 4, 1), nn.ReLU(), conv(3, 4, 1))
    scheme = f"W{bits}A{bits}"
    network = quantize(module, scheme, images(4, 2, 6, 6), ends=None, method="search", cell=cell)
    # Refused if a cell does not hold a codebook. 5-bit codes enter as planes, with any levels.
    assert compile(network, ArrayConfig(4, 4, code_bits=min(bits, 4), mac=cell)).layers


def test_learning_keeps_what_the_cells_fix() -> None:
    recipe = Recipe(phases=(Phase("layer", steps=2, exponents=1.0),), cell="square")
    module = nn.Sequential(conv(), nn.ReLU(), conv(4, 6))
    network = quantize(module, "W4A4", images(8, 3, 8, 8), ends=None, method=recipe)
    books = [layer.op.codebook for layer in network.layers if isinstance(layer.op, Conv)]
    assert [book.levels[-4:].tolist() for book in books] == [[16, 25, 36, 49]] * 2


def test_calibration_must_fit_an_exported_program() -> None:
    program = torch.export.export(conv().eval(), (torch.zeros(2, 3, 8, 8),))
    with pytest.raises(InputError, match=r"must have shape \(3, 8, 8\), not \(3, 9, 8\)"):
        quantize(program, "W4A4", images(4, 3, 9, 8))
    assert quantize(program, "W4A4", images(4, 3, 8, 8))(images(2, 3, 8, 8)).shape == (2, 6, 6, 6)


def test_progress_names_every_layer() -> None:
    calls = []
    module = nn.Sequential(conv(), nn.ReLU(), conv(4, 6))
    options = {"calibration": images(4, 3, 8, 8), "progress": lambda *call: calls.append(call)}
    quantize(module, method="search", **options)
    assert calls == [("0", 0, 2), ("2", 1, 2), ("", 2, 2)]
    calls.clear()
    quantize(module, method=Recipe(phases=(Phase("layer", steps=2),)), **options)
    learned = [("0", 1, 4), ("0", 2, 4), ("2", 3, 4), ("2", 4, 4)]
    assert calls == [("0", 0, 2), ("2", 1, 2), ("", 2, 2), *learned]


@pytest.mark.parametrize("count", [20, 60], ids=["few images", "images held out"])
def test_what_spoils_the_outputs_is_not_kept(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Units may each have become better, and the network worse."""

    def spoil(network: Any, inputs: Any, choices: Choices, *_: Any, **__: Any) -> Choices:
        learned = replace(choices.copy(), learned=True)
        learned.bias["2"] = choices.bias["2"] + 1.0
        return learned

    module, x = nn.Sequential(conv(), nn.ReLU(), conv(4, 6)), images(count, 3, 8, 8)
    expected = quantize(module, "W3A3", x, method="search")(x)
    monkeypatch.setattr(pipeline, "learn", spoil)
    np.testing.assert_array_equal(quantize(module, "W3A3", x, method="nupes")(x), expected)


def test_same_arguments_same_network(tmp_path) -> None:
    module = randomize_norms(nn.Sequential(conv(), nn.BatchNorm2d(6), nn.ReLU(), conv(4, 6)))
    first, second = (quantize(module, "W3A3", images(20, 3, 8, 8)) for _ in range(2))
    a, b = first.save(tmp_path / "a"), second.save(tmp_path / "b")
    assert a.read_bytes() == b.read_bytes()
    x = images(5, 3, 8, 8, seed=1)
    np.testing.assert_array_equal(load(a)(x), first(x))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.weight.data.zero_(),
        lambda m: m.weight.data[1].zero_(),
        lambda m: m.weight.data.mul_(1e15),
        lambda m: m.weight.data.mul_(1e-15),
        lambda m: m.bias.data.fill_(1e6),
    ],
    ids=["zero", "dead channel", "huge", "tiny", "bias"],
)
@pytest.mark.parametrize("magnitude", [0.0, 1e-10, 1.0, 1e10])
def test_extreme_values_still_lower(spoil, magnitude: float) -> None:
    first = conv()
    spoil(first)
    module = nn.Sequential(first, nn.ReLU(), conv(4, 6))
    network = quantize(module, "W4A4", magnitude * images(8, 3, 6, 6), method="search")
    assert np.isfinite(network(magnitude * images(2, 3, 6, 6))).all()


def test_a_single_image_and_a_single_pixel() -> None:
    network = quantize(
        nn.Sequential(conv(k=1), nn.ReLU()), "W4A4", images(1, 3, 1, 1), method="nupes"
    )
    assert network.metadata["recipe"]["phases"]
    assert network(images(2, 3, 1, 1)).shape == (2, 6, 1, 1)


def test_without_data() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        conv(8, bias=False), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8), nn.BatchNorm2d(8), nn.ReLU()
    )
    module = nn.Sequential(module, nn.Flatten(), nn.Linear(8 * 36, 5))
    module.train()
    for seed in range(30):
        module(torch.from_numpy(images(64, 3, 10, 10, low=0, seed=seed)))
    network = quantize(module, "W8A8", input_shape=(3, 10, 10), input_range=(0, 1))
    assert network.metadata["calibration"] == "batch-norm statistics"
    x = images(64, 3, 10, 10, low=0, seed=99)
    assert signal_to_noise(module_output(module, x), network(x)) > 25


def accuracy(network: Any, scheme: str, **options: Any) -> float:
    """Return the test accuracy of the digits network under a scheme."""
    split = load_split()
    options = {"method": "search", **options}
    integer = quantize(network, scheme, split["calibration"][0], **options)
    x, labels = split["test"]
    return float((integer(x).argmax(1) == labels).mean())


@pytest.mark.slow
def test_digits_keep_their_accuracy() -> None:
    network = load_network()
    x, labels = load_split()["test"]
    expected = float((module_output(network, x).argmax(1) == labels).mean())
    assert expected >= 0.97
    assert accuracy(network, "W8A8") >= expected - 0.004
    assert accuracy(network, "W4A4") >= expected - 0.012
    assert accuracy(network, "W4A4", codebook="uniform") >= expected - 0.012


@pytest.mark.parametrize("method", METHODS)
def test_every_method_quantizes_and_reports(method: str) -> None:
    recipe = quick(method)
    torch.manual_seed(0)
    module = nn.Sequential(conv(), nn.ReLU(), conv(4, 6), nn.ReLU(), conv(4, 4))
    x = images(60, 3, 12, 12)
    network = quantize(module, "W4A4", x, method=recipe)
    assert signal_to_noise(module_output(module, x), network(x)) > 8
    entries = network.metadata["layers"]
    assert [entry["name"] for entry in entries] == ["input", "0", "2", "4"]
    exponents = [entry["weights"]["exponent"] for entry in entries[2:3]]
    assert (exponents == [None]) == (recipe.family == "uniform")
    for entry in entries[1:]:
        assert entry["sqnr"] > 5
        assert 0 <= entry["weights"]["beyond"] <= entry["weights"]["moved"] <= 1


def quick(method: str) -> Recipe:
    """Return a method that learns for a few steps alone."""
    recipe = METHODS[method]
    return replace(recipe, phases=tuple(replace(phase, steps=3) for phase in recipe.phases))


def test_powerquant_has_one_exponent() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(conv(), nn.ReLU(), conv(4, 6), nn.ReLU(), conv(4, 4))
    network = quantize(module, "W4A4", images(20, 3, 12, 12), method="powerquant", ends=None)
    books = [layer.op.codebook for layer in network.layers if isinstance(layer.op, Conv)]
    books += [layer.output.codebook for layer in network.layers if not layer.wide]
    assert len({book.exponent for book in books}) == 1


ACTIVATIONS = [nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Identity]


class Residual(nn.Module):
    """A part with a skip connection."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the part's output plus its input."""
        return self.part(x) + x


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """Draw a small network for inputs (3, 9, 8)."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    parts: list[nn.Module] = []
    channels, groups = 3, 1
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "depthwise", "residual", "pool"]))
        if kind == "pool":
            parts.append(draw(st.sampled_from([nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1)])))
            continue
        n = draw(st.sampled_from([2, 4, 6])) if kind == "conv" else channels
        groups = channels if kind == "depthwise" else 1
        core: list[nn.Module] = [
            nn.Conv2d(channels, n, 3, padding=1, groups=groups, bias=draw(st.booleans()))
        ]
        if draw(st.booleans()):
            core.append(nn.BatchNorm2d(n))
        core.append(draw(st.sampled_from(ACTIVATIONS))())
        block: nn.Module = nn.Sequential(*core)
        parts.append(Residual(block) if kind == "residual" else block)
        channels = n
    if draw(st.booleans()):
        parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)]
    return randomize_norms(nn.Sequential(*parts))


@settings(max_examples=8)
@given(networks())
def test_random_networks_are_close_at_eight_bits(module: nn.Module) -> None:
    x = images(64, 3, 9, 8)
    assume(module_output(module, x[:32]).std() > 1e-3)  # a dead network has no ratio
    _, ratio = quantize_and_compare(module, x, residual_bits=None)
    assert ratio > 20


@settings(max_examples=8)
@given(networks(), st.integers(2, 8), st.integers(2, 8), st.sampled_from(["power", "uniform"]))
def test_random_networks_lower_at_any_bits(
    module: nn.Module, weights: int, activations: int, family: Any
) -> None:
    scheme = f"W{weights}A{activations}"
    network, ratio = quantize_and_compare(
        module, images(32, 3, 9, 8), scheme, codebook=family, ends=None
    )
    assert np.isfinite(ratio)
    for tensor in network.stored.values():
        assert len(tensor.codebook) <= 2**tensor.codebook.bits


@pytest.mark.parametrize(
    "names", [("values", "keys"), ("pop", "get"), ("x/y", "items"), ("input", "output")]
)
def test_layers_may_have_any_name(names: tuple[str, str]) -> None:
    module = nn.Module()
    parts = (conv(), conv(4, 6))
    module._modules.update(zip(names, parts, strict=True))
    module.forward = lambda x: parts[1](torch.relu(parts[0](x)))  # type: ignore[method-assign]
    phase = Phase("network", "straight", codes=1e-2, steps=5)
    network = quantize(module, "W3A3", images(20, 3, 8, 8), method=Recipe(phases=(phase,)))
    found = [layer.name for layer in network.layers]
    assert found == [name.replace("input", "input_1") for name in names]
    assert len({network.the_input.tensor.name, *found}) == 3


@pytest.mark.parametrize("method", ["nupes", "adaround", "qdrop"])
def test_one_image_with_one_output_value(method: str) -> None:
    module = nn.Sequential(conv(k=1), nn.ReLU(), conv(1, 6, 8))
    recipe = replace(METHODS["rtn"], phases=quick(method).phases)
    network = quantize(module, "W4A4", images(1, 3, 8, 8), method=recipe)
    assert np.isfinite(network(images(2, 3, 8, 8))).all()


def test_modes_around_the_call_change_nothing() -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), images(8, 3, 6, 6)
    expected = quantize(module, "W4A4", x)(x)
    with torch.inference_mode():
        np.testing.assert_array_equal(quantize(module, "W4A4", x)(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        np.testing.assert_array_equal(quantize(module, "W4A4", torch.from_numpy(x))(x), expected)
