"""What counts as calibration data, and inputs made up in a range."""

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from nupes.model.errors import InputError
from nupes.quantizer.data import calibration
from nupes.quantizer.data.calibration import (
    check_ranges,
    check_shapes,
    gather_batches,
    synthesize_inputs,
)
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
    (found,) = gather_batches(data)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), images(6, 2, 4, 4))


def test_integers_are_numbers() -> None:
    assert gather_batches(np.full((1, 1, 2, 2), 255, np.uint8)).parts[0].max() == 255


@pytest.mark.parametrize("kind", [">f4", ">i4", "u2", "i8", "longdouble", "f2"])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2)])
def test_numbers_of_any_type(kind: str, shape: tuple[int, ...]) -> None:
    data = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    (found,) = gather_batches(data).parts
    integers = len(shape) == 2 and data.dtype.kind in "iu"
    assert found.dtype == (torch.int64 if integers else torch.float32)
    np.testing.assert_array_equal(found.numpy(), data.astype(np.float64))


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
    return gather_batches(data).parts[0][:, 0, 0, 0].long().tolist()


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


@pytest.mark.slow
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
    (found,) = synthesize_inputs(((3, 9, 7),), [(-2.0, 3.0)], 16)
    assert found.shape == (16, 3, 9, 7)
    assert (float(found.min()), float(found.max())) == (-2.0, 3.0)
    assert torch.equal(found, synthesize_inputs(((3, 9, 7),), [(-2.0, 3.0)], 16).parts[0])


def test_large_inputs_are_fewer() -> None:
    assert len(synthesize_inputs(((1, 1024, 1024),), [(0, 1)], 256)) == 64
    with pytest.raises(InputError, match="input_shape must have at most 67,108,864 values, not 1"):
        synthesize_inputs(((1, 100_000, 100_000),), [(0, 1)])


@pytest.mark.parametrize(
    "bounds", [(1, 0), (0, 0), (0, np.inf), (0, 1e39), (np.nan, 1), 5, (1,), "ab"]
)
def test_bad_ranges(bounds: object) -> None:
    with pytest.raises(InputError, match=r"input_range must be \(low, high\)"):
        check_ranges(bounds, 1)


@pytest.mark.parametrize("shape", [(), (3, 4, 5, 6), (0, 4, 4), (3, 4, 4.5)])
def test_bad_shapes(shape: tuple) -> None:
    with pytest.raises(InputError, match=r"input_shape must be \(channels, height, width\)"):
        check_shapes(shape)


MAPS, VECTORS = images(6, 2, 4, 4), images(6, 5, seed=1)


@pytest.mark.parametrize(
    "data",
    [
        (MAPS, VECTORS),
        [torch.from_numpy(MAPS), VECTORS],
        [(MAPS[:4], VECTORS[:4]), (MAPS[4:], VECTORS[4:])],
        iter([[MAPS[:1], VECTORS[:1], np.zeros(1)], [MAPS[1:], VECTORS[1:], np.zeros(5)]]),
        ((MAPS[:2], VECTORS[:2]), (MAPS[2:], VECTORS[2:])),
    ],
    ids=["tuple", "list", "batches", "labelled", "two batches"],
)
def test_several_inputs(data: object) -> None:
    found = gather_batches(data, 2)
    assert found.shapes == ((2, 4, 4), (5,))
    for part, expected in zip(found, (MAPS, VECTORS), strict=True):
        np.testing.assert_array_equal(part.numpy(), expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (MAPS, "an array for each of the module's 2 inputs, in a tuple, not 1"),
        ((MAPS, VECTORS, VECTORS), "each of the module's 2 inputs, in a tuple, not 3"),
        ([(MAPS,)], "each of the module's 2 inputs, in a tuple, not 1"),
        (iter([MAPS]), "each of the module's 2 inputs, in a tuple, not 1"),
        ([[]], "each of the module's 2 inputs, in a tuple, not 0"),
        ((MAPS, VECTORS[:5]), r"as many images of each input, not \[6, 5\]"),
        ([(MAPS, VECTORS), (MAPS, VECTORS[:, :4])], r"one shape, not \[\(4,\), \(5,\)\]"),
        ((MAPS, [1.0]), "calibration batch must be an array, not list"),
        (7, "a tuple of 2 arrays, one for each input, or an iterable of such tuples, not int"),
        ((MAPS[:0], VECTORS[:0]), "calibration must hold at least one image, not none"),
    ],
)
def test_bad_data_of_several_inputs(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gather_batches(data, 2)


def test_samples_of_several_inputs_are_thinned_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_KEPT", 10 * 3)
    numbers = np.arange(64, dtype=np.float32)
    batches = [(x[:, None].repeat(2, 1), x[:, None]) for x in numbers.reshape(16, 4)]
    found = gather_batches(batches, 2)
    assert 1 < len(found) <= 10
    assert found.parts[0][:, 0].tolist() == found.parts[1][:, 0].tolist()


def test_shapes_and_ranges_of_several_inputs() -> None:
    assert check_shapes(((3, 4, 4), [5])) == ((3, 4, 4), (5,))
    assert check_shapes([3, 4, 4]) == ((3, 4, 4),)
    assert check_ranges(None, 2) == (None, None)
    assert check_ranges((0, 1), 2) == ((0, 1), (0, 1))
    assert check_ranges([(0, 1), None], 2) == ((0, 1), None)
    message = r"input_range must be \(low, high\), or one for each of the module's 3 inputs, not 2"
    with pytest.raises(InputError, match=message):
        check_ranges(((0, 1), (0, 2)), 3)
    found = synthesize_inputs(((3, 4, 4), (5,)), [(0, 1), (-4, 2)])
    assert found.shapes == ((3, 4, 4), (5,))
    assert [(float(x.min()), float(x.max())) for x in found] == [(0, 1), (-4, 2)]
