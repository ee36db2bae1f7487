"""Super-resolution: tiles are the image, and PSNR is that of its definition."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.super_resolution import enlarge, halve, infer_with, luma, psnr, starts
from nupes.examples.pretrained.super_resolution import Espcn, Fsrcnn


@pytest.mark.parametrize("make", [Espcn, Fsrcnn])
def test_tiles_are_the_image(make: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    infer = infer_with(make().eval())
    small = np.random.default_rng(0).random((131, 80)).astype(np.float32)
    whole = infer(small[None, None])[0, 0]
    np.testing.assert_allclose(enlarge(small, infer), whole, atol=1e-6)


@pytest.mark.parametrize("size", [80, 81, 144, 145, 256])
def test_tiles_reach_the_end(size: int) -> None:
    found = list(starts(size))
    assert found[0] == 0
    assert found[-1] == size - 80
    assert all(0 < right - left <= 80 - 16 for left, right in pairwise(found))


def test_psnr_leaves_out_the_border() -> None:
    wanted = np.full((9, 8), 100 / 255)
    found = wanted.copy()
    found[2:-2, 2:-2] += 3 / 255
    found[0], found[:, -1] = 1, 0
    assert psnr(found, wanted) == pytest.approx(10 * np.log10(255**2 / 9))
    assert psnr(np.full((9, 8), 2.0), np.ones((9, 8)) - 1 / 255) == pytest.approx(48.1308, abs=1e-3)


def test_luma_of_black_and_white() -> None:
    assert luma(np.array([[[0.0, 0, 0], [1, 1, 1]]])) * 255 == pytest.approx(np.array([[16, 235]]))


def test_half_of_an_even_map_is_even() -> None:
    assert halve(np.full((10, 6), 0.25)) == pytest.approx(np.full((5, 3), 0.25))
