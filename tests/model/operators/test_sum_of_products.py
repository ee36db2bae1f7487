"""Sums of products: against plain loops, for every broadcast; bounds that are reached; refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.errors import InputError
from nupes.model.operators import Product, SumOfProducts
from nupes.model.tensor import Shape
from tests.model.reference import result_of

SIZE = st.integers(1, 4)


@st.composite
def sums(draw: st.DrawFn) -> tuple[SumOfProducts, list[np.ndarray]]:
    """Draw a sum of products and the levels (2, h, w, c) of its inputs."""
    shape = height, width, channels = draw(st.tuples(SIZE, SIZE, SIZE))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    taken, maps = [], []
    for _ in range(draw(st.integers(1, 3))):
        factor = (
            draw(st.sampled_from([1, height])),
            draw(st.sampled_from([1, width])),
            draw(SIZE),
        )
        taken.append(tuple(rng.integers(0, factor[2], channels).tolist()))
        maps += [rng.integers(-256, 256, (2, *size)) for size in (factor, shape)]
    return SumOfProducts(tuple(taken)), maps


@given(sums())
def test_sums_of_products(drawn: tuple[SumOfProducts, list[np.ndarray]]) -> None:
    op, maps = drawn
    want = [result_of(op, *image) for image in zip(*(m.tolist() for m in maps), strict=True)]
    assert op.accumulate(*maps).tolist() == want
    assert op.accumulate(*(part.astype(np.float32) for part in maps)).tolist() == want
    assert op.shape(*(part.shape[1:] for part in maps)) == maps[1].shape[1:]
    ends = [(int(part.min()), int(part.max())) for part in maps]
    assert np.abs(want).max() <= op.bound(*ends)


@given(st.tuples(SIZE, SIZE, SIZE), st.integers(0, 2**32 - 1))
def test_one_pair_of_all_channels_is_a_product(shape: Shape, seed: int) -> None:
    factor, whole = np.random.default_rng(seed).integers(-256, 256, (2, 1, *shape))
    found = SumOfProducts((tuple(range(shape[2])),)).accumulate(factor, whole)
    assert found.tolist() == Product().accumulate(factor, whole).tolist()


def test_the_bound_is_reached() -> None:
    op, lowest = SumOfProducts(((0,), (0,))), np.full((1, 1, 1, 1), -256)
    ends = [(-256, 255)] * 4
    assert op.accumulate(*[lowest] * 4).item() == op.bound(*ends) == 2 * 65536


REFUSED = {
    "pairs": (
        [(2, 2, 3), (2, 2, 2), (2, 2, 3)],
        "a sum of 1 products must read 2 tensors, not 3",
    ),
    "wholes": (
        [(2, 2, 3), (2, 2, 2), (2, 2, 3), (2, 1, 2)],
        "wholes of a sum of products must have one shape, not ((2, 2, 2), (2, 1, 2))",
    ),
    "height": (
        [(3, 2, 3), (2, 2, 2)],
        "a factor must have the height and width of its whole, (2, 2, 2), or 1, not (3, 2, 3)",
    ),
    "channels": (
        [(2, 2, 2), (2, 2, 2)],
        "channels of a factor must be 2 of its 2, by number, not (2, 0)",
    ),
    "fewer channels": (
        [(2, 2, 3), (2, 2, 3)],
        "channels of a factor must be 3 of its 3, by number, not (2, 0)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_inputs_that_are_no_pairs_are_refused(name: str) -> None:
    shapes, message = REFUSED[name]
    op = SumOfProducts(((2, 0),) * (1 if len(shapes) < 4 else 2))
    with pytest.raises(InputError) as error:
        op.shape(*shapes)
    assert str(error.value) == message


@pytest.mark.parametrize("channel", [-1, 2**20, True, 0.5])
def test_channels_out_of_range_are_refused(channel: int) -> None:
    with pytest.raises(InputError) as error:
        SumOfProducts(((0, 1), (channel, 0))).check()
    assert str(error.value) == (
        f"channels of a factor must be integers in 0..1048575, not {channel}"
    )
