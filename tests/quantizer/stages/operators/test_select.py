"""Two selections as one."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from nupes.quantizer.stages.operators import Select

SIDES = st.tuples(*[st.integers(-1, 2)] * 4)
STRIDES = st.tuples(*[st.integers(1, 3)] * 2)


@given(STRIDES, SIDES, STRIDES, SIDES)
def test_one_selection_for_two(inner_stride, inner_sides, outer_stride, outer_sides) -> None:
    x = torch.arange(1.0, 1 + 2 * 3 * 9 * 8).reshape(2, 3, 9, 8)
    inner = Select((2, -1, 0, 1), inner_stride, inner_sides)
    outer = Select((3, 1, -1, 0, 0), outer_stride, outer_sides)
    joined = outer.after(inner)
    if joined is None:
        assert max(outer_sides) > 0
        assert inner_stride != (1, 1) or min(inner_sides) < 0
    else:
        assert torch.equal(joined.apply(x), outer.apply(inner.apply(x)))
