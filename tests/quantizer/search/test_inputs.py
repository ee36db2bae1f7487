"""Images that are pixels are coded without error, whatever affine lies before the network."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nupes.quantizer import quantize
from nupes.quantizer.codes.decisions import round_values
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.recipe import METHODS
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.search.inputs import code_input, equal_steps, input_error, pixel_steps, thin
from nupes.quantizer.search.tensors import TensorCode, fixed_range
from nupes.quantizer.stages.fuser import FusedNetwork, fuse
from nupes.quantizer.stages.run import run_float
from tests.networks import many

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (12, 3, 8, 8))
PIXELS[0, :, 0, 0], PIXELS[0, :, 0, 1] = 0, 255


class Normalised(nn.Module):
    """An affine per channel, then something that reads the input."""

    def __init__(self, reader: nn.Module, std: np.ndarray = STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).float().reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).float().reshape(1, 3, 1, 1))
        self.reader = reader

    def forward(self, x: Tensor) -> Tensor:
        return self.reader((x - self.mean) / self.std)


def convolution(padding: int = 1) -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(3, 4, 3, padding=padding)


def fused(module: nn.Module) -> FusedNetwork:
    return fuse(capture(export_module(module, (2, 3, 8, 8))))


def coded(
    module: nn.Module,
    images: np.ndarray,
    scheme: str = "W8A8",
    method: str = "search",
    input_range: tuple[float, float] | None = None,
) -> tuple[FusedNetwork, TensorCode, np.ndarray]:
    """Return the network, the code of its input, and by how many steps each value is off, what is
    constant in a channel taken out."""
    network, x = fused(module.eval()), torch.from_numpy(images.astype(np.float32))
    plan = plan_bits(network, parse_scheme(scheme), 8, None, 8, {})
    scaled, code = code_input(network, "input", x, plan, METHODS[method], input_range)
    assert code is not None
    values = scaled.inputs[0].start(x)
    error = ((round_values(values, code) - values) / code.scale).numpy()
    return scaled, code, error - error.mean((0, 2, 3), keepdims=True)


@many(50)
@given(st.data())
def test_steps_are_found_behind_any_affine(data: st.DataObject) -> None:
    steps = [data.draw(st.floats(1e-3, 50)) for _ in range(3)]
    offsets = [data.draw(st.floats(-100, 100)) * step for step in steps]
    affine = [np.array(values).reshape(1, 3, 1, 1) for values in (steps, offsets)]
    images = torch.from_numpy((PIXELS * affine[0] + affine[1]).astype(np.float32))
    found = pixel_steps(images)
    assert found is not None
    np.testing.assert_allclose(found[0], steps, rtol=1e-4)
    np.testing.assert_array_equal(found[1], np.ptp(PIXELS, (0, 2, 3)))


@pytest.mark.parametrize(
    "images",
    [
        RNG.normal(size=(12, 3, 8, 8)),
        PIXELS * 2 + (PIXELS == 7),
        np.where(PIXELS < 9, PIXELS + 0.5, PIXELS),
        RNG.integers(0, 400, (12, 3, 8, 8)),
    ],
    ids=["real", "wide", "between", "many"],
)
def test_other_images_have_no_steps(images: np.ndarray) -> None:
    x = torch.from_numpy(images.astype(np.float32))
    assert pixel_steps(x) is None
    assert equal_steps(fused(convolution()), "input", x) is None


def test_a_value_between_pixels_is_seen_in_any_image() -> None:
    images = np.zeros((5, 1, 1024, 1024), np.float32)
    images[:, :, ::2] = np.arange(1024) % 256
    images[3, 0, 517, 3] = 0.5
    assert pixel_steps(torch.from_numpy(images)) is None


def test_a_channel_is_constant_only_if_all_of_it_is() -> None:
    images = RNG.normal(size=(4096, 1, 256, 4)).astype(np.float32)
    images[..., 0] = 0
    assert pixel_steps(torch.from_numpy(images)) is None


@pytest.mark.parametrize("groups", [1, 3])
def test_equal_steps_leave_the_network_the_same(groups: int) -> None:
    module = Normalised(nn.Conv2d(3, 6, 3, padding=1, groups=groups), STD * [1, 3, 0.2])
    network = fused(module.eval())
    images = torch.from_numpy(PIXELS.astype(np.float32) / 255)
    aligned = equal_steps(network, "input", images)
    assert aligned is not None
    scaled, step = aligned
    values = scaled.inputs[0].start(images) / step
    apart = values - values[:1, :, :1, :1]
    np.testing.assert_allclose(apart, apart.round(), atol=1e-3)
    outputs = [
        run_float(n.stages, n.start(Batch((images,))))[n.stages[-1].name] for n in (network, scaled)
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)


def test_pixels_of_one_offset_have_no_error() -> None:
    gray = (PIXELS[:, :1] / 255 - 0.1307) / 0.3081
    _, code, error = coded(convolution(), np.repeat(gray, 3, 1), "W4A4")
    assert np.abs(error).max() < 1e-3
    assert len(code.codebook) == 256


def test_few_values_take_parts_of_steps() -> None:
    # Of 17 pixels each has 15 codes; values between calibrated ones lose little.
    _, code, error = coded(convolution(), (PIXELS // 16 + (PIXELS == 255)) / 16, "W4A4")
    assert code.scale == pytest.approx(1 / 16 / 15)
    assert np.abs(error).max() < 1e-3


def test_codes_that_are_left_lie_around_the_range() -> None:
    _, code, _ = coded(convolution(), (PIXELS % 200) - 90.0, "W4A4")
    levels = code.codebook.levels
    assert (levels[0], levels[-1], code.scale) == (-118, 137, 1)


@pytest.mark.parametrize(
    ("low", "high", "divisor"),
    [(100, 200, 1), (60, 187, 1), (-200, -100, 1), (20, 140, 255), (0, 255, 255), (-255, 0, 1)],
)
def test_pixels_of_one_sign_have_no_error(low: int, high: int, divisor: int) -> None:
    values = (low + PIXELS % (high - low + 1)) / divisor
    _, code, error = coded(convolution(), values, "W4A4")
    assert np.abs(error).max() < 1e-3
    assert code.codebook.levels[0] <= 0 <= code.codebook.levels[-1]


@pytest.mark.parametrize("scheme", ["W4A4", "W8A8"])
@pytest.mark.parametrize("input_range", [None, (-1, 1)])
def test_pixels_in_the_middle_of_levels_have_no_error(
    scheme: str, input_range: tuple[float, float] | None
) -> None:
    _, code, error = coded(convolution(), PIXELS / 127.5 - 1, scheme, input_range=input_range)
    assert (len(code.codebook), np.abs(error).max()) == (256, pytest.approx(0, abs=1e-3))
    _, _, error = coded(convolution(), ((PIXELS % 200) - 90.5) / 255 / 0.3, scheme)
    assert np.abs(error).max() < 1e-3


def test_a_channel_of_few_values_keeps_its_share() -> None:
    images = PIXELS / 255.0
    images[:, 2] = PIXELS[:, 2] % 2
    network, code, error = coded(convolution(), images)
    assert np.abs(error).max() < 1e-3
    # Its pixels are 255 steps apart, and it has as many values in between as the others.
    np.testing.assert_allclose(network.inputs[0].scale, 1, rtol=1e-5)
    assert code.scale == pytest.approx(1 / 255)


def test_three_offsets_cost_little_where_levels_may_be_wide() -> None:
    layers = (convolution(), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    module, images = Normalised(nn.Sequential(*layers)), PIXELS / 255
    network, code, error = coded(module, images)
    assert len(code.codebook) == 256
    assert int(np.ptp(code.codebook.levels)) > 255
    assert np.abs(error).max() < 1.1
    assert np.square(error).mean() < 0.05
    # With fewer bits elsewhere the levels stay neighbours, and so do those of other families.
    for scheme, method in (("W4A8", "search"), ("W8A4", "search"), ("W8A8", "rtn")):
        other, code, _ = coded(module, images, scheme, method)
        assert int(np.ptp(code.codebook.levels)) == 255
        assert not np.allclose(other.inputs[0].scale, network.inputs[0].scale)


def test_a_given_range_is_covered() -> None:
    _, code, error = coded(convolution(), PIXELS[:, :, 2:] // 2 / 255, "W4A4", input_range=(0, 1))
    assert code.codebook.levels[-1] * code.scale == pytest.approx(1)
    assert np.abs(error).max() < 1e-3
    _, code, _ = coded(convolution(), PIXELS / 255, "W4A4", input_range=(-1, 1))
    assert code.codebook.levels[0] * code.scale == pytest.approx(-1, rel=0.01)
    _, code, _ = coded(convolution(), PIXELS / 255, input_range=(-1e6, 1e6))
    assert code.codebook.levels[0] * code.scale == pytest.approx(-1e6, rel=0.01)


def test_a_channel_without_values_takes_the_others_step() -> None:
    images = PIXELS / 255
    images[:, 1] = 0.25
    _, _, error = coded(convolution(), images)
    assert np.abs(error).max() < 1e-3
    blank = np.full((2, 3, 8, 8), 0.25)
    assert equal_steps(fused(convolution()), "input", torch.from_numpy(blank).float()) is None


class Added(nn.Module):
    """Its input is added, so that no channel can take a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x


@pytest.mark.parametrize("reader", [Added(), nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_other_readers_keep_their_channels(reader: nn.Module) -> None:
    images = torch.from_numpy(PIXELS / 255).float()
    assert equal_steps(fused(Normalised(reader).eval()), "input", images) is None
    # Channels of one step need no factor.
    network = fused(Normalised(reader, np.full(3, 0.5)).eval())
    aligned = equal_steps(network, "input", images)
    assert aligned is not None
    assert aligned[0] is network


def test_readers_whose_biases_are_not_corrected_decide_by_the_whole_error() -> None:
    images = (PIXELS + 0.4) / 255
    for reader in (Added(), nn.AvgPool2d(2)):
        _, code, _ = coded(reader, images)
        x = torch.from_numpy(images.astype(np.float32))
        plain = fixed_range(0, float(x.max()), 8)
        found, other = (float((round_values(x, c) - x).square().mean()) for c in (code, plain))
        assert found <= other


def test_powers_only_keep_levels_even() -> None:
    x = (PIXELS / 255).astype(np.float32)
    network = quantize(
        Normalised(convolution()).eval(), "W8A8", x, codebook="power", method="search"
    )
    assert np.unique(np.diff(network.the_input.tensor.codebook.levels)).tolist() == [1]


def test_large_images_are_judged_by_all_of_them() -> None:
    images = torch.zeros(4, 3, 700, 700)
    images[1:] = torch.randint(0, 256, (3, 3, 700, 700)) / 255
    network = fused(convolution())
    errors = [
        input_error(images[order], network.inputs[0], fixed_range(0, 1.1, 8), centred=False)
        for order in ([0, 1, 2, 3], [1, 2, 3, 0])
    ]
    assert errors[0] > 0
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


@many(50)
@given(st.integers(0, 2**31), st.integers(257, 512))
def test_thinned_levels_are_levels_and_rare_ones_go(seed: int, size: int) -> None:
    count = np.random.default_rng(seed).integers(0, 1000, size)
    levels = np.arange(size)
    left = thin(levels, count)
    assert len(left) == 256
    assert set(left) <= set(levels)
    error = [
        (count * np.abs(levels[:, None] - np.sort(kept)).min(1) ** 2).sum()
        for kept in (left, np.random.default_rng(seed).choice(levels, 256, replace=False))
    ]
    assert error[0] <= error[1]


def every_pixel() -> np.ndarray:
    """Return an image of each pixel."""
    return (np.arange(256)[:, None, None, None] * np.ones((1, 3, 8, 8)) / 255).astype(np.float32)


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(convolution(), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)).eval()


@pytest.mark.parametrize("scheme", ["W4A4", "W8A8"])
def test_integer_networks_tell_pixels_of_one_offset_apart(scheme: str) -> None:
    images = every_pixel() * 2 - 1
    codes = quantize(classifier(), scheme, images, method="search").encode(images)[:, 0, 0]
    np.testing.assert_array_equal(codes, np.arange(256)[:, None] * np.ones((1, 3)))


def test_integer_networks_tell_more_pixels_of_three_offsets_apart() -> None:
    images, module = every_pixel(), Normalised(classifier()).eval()
    network = quantize(module, "W8A8", images, method="search")
    codes = network.encode(images)[:, 0, 0]
    assert all(len(np.unique(codes[:, channel])) >= 244 for channel in range(3))
    found, expected = network(images), module(torch.from_numpy(images)).detach().numpy()
    # Evenly covered inputs give 5.4e-5.
    assert np.square(found - expected).mean() < 4.5e-5 * expected.var()
