"""Which views are windows of a map."""

import numpy as np
import pytest

from nupes.quantizer.frontend.patches import find_patches
from nupes.quantizer.frontend.views import own_places

SHAPE = (6, 8, 2)  # rows, columns, channels


def windows(kernel: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """Return the places (tokens, features) of all windows of the map."""
    places = own_places((2, 6, 8))
    views = np.lib.stride_tricks.sliding_window_view(places, kernel, axis=(1, 2))
    views = views[:, :: stride[0], :: stride[1]]
    return views.transpose(1, 2, 0, 3, 4).reshape(-1, 2 * kernel[0] * kernel[1])


@pytest.mark.parametrize(
    ("kernel", "stride"), [((2, 4), (2, 4)), ((3, 2), (1, 2)), ((6, 1), (6, 1)), ((6, 8), (1, 1))]
)
def test_windows_are_found(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    places = windows(kernel, stride)
    order = np.random.default_rng(0).permutation(places.shape[1])
    found = find_patches(places[:, order], SHAPE)
    assert found is not None
    assert found.kernel == kernel
    assert found.size == ((6 - kernel[0]) // stride[0] + 1, (8 - kernel[1]) // stride[1] + 1)
    matrix = np.arange(1, 1 + places.shape[1])[None]
    inverse = np.argsort(order)
    assert found.weight(matrix, 2).ravel().tolist() == (inverse + 1).tolist()


def test_others_are_not() -> None:
    places = windows((2, 2), (2, 2))
    assert find_patches(places[::-1], SHAPE) is None
    assert find_patches(places[[0, 1, 3]], SHAPE) is None
    assert find_patches(np.concatenate([places, places], axis=1), SHAPE) is None
    other = places.copy()
    other[2] = other[2, ::-1]
    assert find_patches(other, SHAPE) is None
