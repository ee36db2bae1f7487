"""What counts as calibration data, and inputs made up in a range."""

import numpy as np
import pytest
import torch

from nupes.model.errors import InputError
from nupes.quantizer.data.calibration import gather_batches, synthesize_inputs
from tests.quantizer.close import images


@pytest.mark.parametrize(
    "data",
    [
        images(6, 2, 4, 4),
        images(6, 2, 4, 4).astype(np.float64),
        torch.from_numpy(images(6, 2, 4, 4)),
        list(images(6, 2, 4, 4).reshape(3, 2, 2, 4, 4)),
        iter(torch.from_numpy(images(6, 2, 4, 4)).split(4)),
        [(images(6, 2, 4, 4), np.zeros(6))],
        torch.utils.data.DataLoader(torch.from_numpy(images(6, 2, 4, 4)), batch_size=4),  # type: ignore[arg-type]
    ],
    ids=["array", "double", "tensor", "list", "iterator", "labelled", "loader"],
)
def test_all_kinds_of_data(data: object) -> None:
    found = gather_batches(data)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), images(6, 2, 4, 4))


def test_integers_are_numbers() -> None:
    assert gather_batches(np.full((1, 1, 2, 2), 255, np.uint8)).max() == 255


NAN = images(5, 1, 2, 2)
NAN[3, 0, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (NAN, "calibration must be finite; image 3 holds NaN or infinity"),
        (images(0, 1, 2, 2), "calibration must hold at least one image, not none"),
        ([], "calibration must hold at least one image, not none"),
        (images(2, 2), r"must have shape \(batch, channels, height, width\), not \(2, 2\)"),
        ("images", "calibration must be an array .* or an iterable of them, not str"),
        (3, "calibration must be an array .* or an iterable of them, not int"),
        ([[1.0]], "calibration batch must be an array, not float"),
        (images(1, 1, 2, 2) * 1j, "calibration must be real numbers, not complex"),
        (images(1, 1, 2, 2) > 0, "calibration must be real numbers, not bool"),
        (images(1, 1, 2, 2).astype(str), "calibration must be real numbers, not <U"),
        (
            [images(1, 1, 2, 2), images(1, 1, 2, 3)],
            r"calibration images must have one shape, not \[\(1, 2, 2\), \(1, 2, 3\)\]",
        ),
    ],
)
def test_bad_data(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gather_batches(data)


def test_made_up_inputs_fill_the_range() -> None:
    found = synthesize_inputs((3, 9, 7), (-2.0, 3.0), 16)
    assert found.shape == (16, 3, 9, 7)
    assert (float(found.min()), float(found.max())) == (-2.0, 3.0)
    assert torch.equal(found, synthesize_inputs((3, 9, 7), (-2.0, 3.0), 16))


def test_large_inputs_are_fewer() -> None:
    assert len(synthesize_inputs((1, 1024, 1024), (0, 1), 256)) == 64
    with pytest.raises(InputError, match="input_shape must have at most 67,108,864 values, not 1"):
        synthesize_inputs((1, 100_000, 100_000), (0, 1))


@pytest.mark.parametrize(
    "bounds", [(1, 0), (0, 0), (0, np.inf), (0, 1e39), (np.nan, 1), 5, (1,), "ab"]
)
def test_bad_ranges(bounds: object) -> None:
    with pytest.raises(InputError, match=r"input_range must be \(low, high\)"):
        synthesize_inputs((3, 4, 4), bounds)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 4), (0, 4, 4), (3, 4, 4.5)])
def test_bad_shapes(shape: tuple) -> None:
    with pytest.raises(InputError, match=r"input_shape must be \(channels, height, width\)"):
        synthesize_inputs(shape, (0, 1))
