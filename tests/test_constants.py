"""Constant maps that are added or multiplied, from PyTorch to the RTL, files and exports."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.errors import InputError
from nupes.model.network import Constant, IntegerNetwork
from nupes.quantizer.options.recipe import METHODS, Phase, Recipe
from nupes.report.gather import observe_codes
from tests.export.test_firmware import check as check_firmware
from tests.export.test_firmware import needs_compiler
from tests.export.test_onnx import check as check_onnx
from tests.quantizer.close import images, module_output, signal_to_noise
from tests.whole import ARRAY, run_whole


class Positions(nn.Module):
    """Tokens of patches with a position embedding for each."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 3)
        self.positions = nn.Parameter(torch.randn(1, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(F.gelu(tokens)).mean(1)


class Bias(nn.Module):
    """A bias for each value of a map, for each row, and for each pixel of the input."""

    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1)
        self.values, self.rows = nn.Parameter(torch.randn(5, 2, 4)), torch.randn(2, 1)
        self.register_buffer("pixels", torch.rand(1, 1, 4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x - self.pixels) + self.values)
        return self.head(2 * self.rows - x)


class Mask(nn.Module):
    """A mask of the pixels, one of the channels and rows, and a divisor for each value."""

    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 2, 1)
        self.register_buffer("pixels", (torch.rand(1, 1, 4, 6) > 0.3).float())
        self.lines, self.values = torch.rand(5, 4, 1), torch.rand(5, 4, 6) + 0.5

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)) * self.pixels
        return self.head((self.lines * x).sigmoid() / self.values)


class Several(nn.Module):
    """Constants that are only added, in layers one after another, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.table = nn.ParameterList(torch.randn(4, 6, 5) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for conv, table in zip(self.convs, self.table, strict=True):
            x = F.relu(conv(x) + table)
        return x + self.table[0]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "positions": (Positions, (3, 4, 6)),
    "bias": (Bias, (3, 4, 6)),
    "mask": (Mask, (3, 4, 6)),
    "several": (Several, (4, 6, 5)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("method", "scheme"),
    [("rtn", "W8A8"), pytest.param("search", "W4A4", marks=pytest.mark.slow)],
)
def test_constants_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str, method: str, scheme: str
) -> None:
    assert run_whole(running, *NETWORKS[name], scheme, method).constants


def quantized(make: Callable[[], nn.Module] = Positions, **options: object) -> IntegerNetwork:
    """Return the integer network of a module with constants."""
    torch.manual_seed(0)
    x = images(60, 3, 4, 6)
    return nupes.quantize(make(), "W8A8", x, **{"method": "rtn", **options})  # type: ignore[arg-type]


@pytest.mark.slow
def test_every_method_is_near_the_module() -> None:
    torch.manual_seed(0)
    expected = module_output(Bias(), images(60, 3, 4, 6))
    learning = Recipe(phases=(Phase("block", steps=3), Phase("network", steps=3)))
    for method in (*METHODS, learning):
        found = quantized(Bias, method=method)(images(60, 3, 4, 6))
        assert signal_to_noise(expected, found) > 25


def test_without_data_too() -> None:
    torch.manual_seed(0)
    options = {"input_shape": (3, 4, 6), "input_range": (-1, 1)}
    network = nupes.quantize(Bias(), "W8A8", **options)  # type: ignore[arg-type]
    torch.manual_seed(0)
    x = images(20, 3, 4, 6)
    assert signal_to_noise(module_output(Bias(), x), network(x)) > 25


@pytest.mark.parametrize("make", [Positions, Bias, Mask])
def test_files_and_exports(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    network, x = quantized(make), images(3, 3, 4, 6)
    loaded = nupes.load(network.save(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(loaded(x), network(x))
    check_onnx(network, x, "float32")


@needs_compiler
def test_firmware_writes_constants_anew_for_every_image() -> None:
    for make in (Positions, Bias, Mask):
        network = quantized(make)
        check_firmware(network, network.encode(images(3, 3, 4, 6)))


def test_a_report_counts_what_is_made_of_constants() -> None:
    observed = observe_codes(quantized(Bias), images(3, 3, 4, 6))
    codes, *_ = observed[next(iter(observed))]
    assert codes is not None
    assert int(codes.counts.sum()) > 0


def test_a_constant_that_is_the_same_for_every_pixel_is_none() -> None:
    class Channels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) + torch.arange(4.0).reshape(4, 1, 1).expand(4, 4, 6)

    network = quantized(Channels)
    assert not network.constants
    assert len(network.layers) == 1


def test_constants_that_do_not_fit_are_refused() -> None:
    network = quantized()
    with pytest.raises(nupes.CapacityError, match="activation memory must hold"):
        nupes.compile(network, nupes.ArrayConfig(4, 4, act_depth=16, acc_depth=16))


def test_codes_of_constants_are_checked() -> None:
    network = quantized()
    (item,) = network.constants
    for codes in (item.codes[:1], item.codes.astype(np.int32)):
        with pytest.raises(
            InputError, match=r"constant .*: its codes must be uint8 of shape \(2, 3, 6\)"
        ):
            IntegerNetwork(
                network.inputs,
                network.layers,
                network.outputs,
                constants=(Constant(item.tensor, codes),),
            )


def test_an_array_without_products_refuses_a_mask_by_name() -> None:
    with pytest.raises(nupes.UnsupportedError, match="products=True"):
        nupes.compile(quantized(Mask), nupes.ArrayConfig(4, 4, acc_depth=16))
    assert nupes.compile(quantized(Mask), ARRAY).cycles
