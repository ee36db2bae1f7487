"""What counts as calibration data, and inputs made up in a range."""

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from nupes.model.errors import InputError
from nupes.quantizer.data import calibration
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
HUGE = images(5, 1, 2, 2)
HUGE[1, 0, 0, 1] = -1e18


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (NAN, "calibration must be finite; image 3 holds NaN or infinity"),
        (images(0, 1, 2, 2), "calibration must hold at least one image, not none"),
        (HUGE, "calibration must be within 1e\\+15; image 1 is not, scale its values"),
        ([], "calibration must hold at least one image, not none"),
        (
            images(2),
            r"must have two to four dimensions, the first of them the batch",
        ),
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


def numbered(count: int, batch: int) -> Iterator[np.ndarray]:
    """Yield batches of images that are their own numbers."""
    for first in range(0, count, batch):
        numbers = np.arange(first, min(first + batch, count), dtype=np.float32)
        yield np.broadcast_to(numbers.reshape(-1, 1, 1, 1), (len(numbers), 1, 2, 2))


def numbers_of(data: object) -> list[int]:
    """Return the numbers of the images that are kept of ``numbered`` ones."""
    return gather_batches(data)[:, 0, 0, 0].long().tolist()


@pytest.mark.parametrize("count", [1, 9, 10, 11, 20, 21, 57, 1000])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_many_images_are_thinned_evenly(
    monkeypatch: pytest.MonkeyPatch, count: int, batch: int
) -> None:
    monkeypatch.setattr(calibration, "MOST_KEPT", 4 * 10)
    found = numbers_of(numbered(count, batch))
    assert len(found) == min(count, 10)
    gaps = np.diff([*found, count])
    assert found[0] == 0
    assert gaps.min(initial=1) >= 1
    assert gaps.max() <= 2 * count / len(found) + 1
    # An array says how many it has, and of one both ends are used.
    expected = np.linspace(0, count - 1, min(count, 10)).astype(int)
    assert numbers_of(np.concatenate(list(numbered(count, batch)))) == expected.tolist()
    if count <= 20:
        assert found == expected.tolist()


def test_a_loader_without_an_end_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_READ", 100)
    assert numbers_of(images for images in numbered(10**9, 7)) == list(range(100))


def test_memory_is_bounded_by_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_KEPT", 16 * 3 * 64 * 64)
    counts = []

    def count_bytes() -> int:
        tensors = [x for x in gc.get_objects() if type(x) is torch.Tensor]
        storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
        return sum(storages.values())

    def batches() -> Iterator[torch.Tensor]:
        for _ in range(50):
            counts.append(count_bytes())
            yield torch.zeros(8, 3, 64, 64)

    assert len(gather_batches(batches())) == 16
    assert max(counts) - counts[0] <= (2 * 16 + 3 * 8) * 3 * 64 * 64 * 4


def test_a_buffer_may_be_used_again() -> None:
    buffer = np.zeros((1, 1, 2, 2), np.float32)

    def batches() -> Iterator[np.ndarray]:
        for number in range(3):
            buffer[:] = number
            yield buffer

    assert numbers_of(batches()) == [0, 1, 2]


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


@pytest.mark.parametrize("shape", [(), (3, 4, 5, 6), (0, 4, 4), (3, 4, 4.5)])
def test_bad_shapes(shape: tuple) -> None:
    with pytest.raises(InputError, match=r"input_shape must be \(channels, height, width\)"):
        synthesize_inputs(shape, (0, 1))
