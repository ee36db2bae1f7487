"""Strategy for sums of products: any selections and broadcasts; they shrink."""

from collections.abc import Sequence

from hypothesis import strategies as st

from nupes.model.operators import SumOfProducts
from nupes.model.tensor import Tensor

__all__ = ["sums_of_products"]


@st.composite
def sums_of_products(
    draw: st.DrawFn, source: Tensor, tensors: Sequence[Tensor]
) -> tuple[SumOfProducts, list[Tensor]]:
    """Draw a sum of products of the shape of ``source``, and what it reads: some of ``tensors``."""
    (height, width, channels), read, taken = source.shape, list[Tensor](), []
    able = [t for t in tensors if t.shape[0] in (1, height) and t.shape[1] in (1, width)]
    alike = [source, *(t for t in tensors if t.shape == source.shape)]
    for _ in range(draw(st.integers(1, 3))):
        factor = draw(st.sampled_from([source, *able]))
        numbers = st.integers(0, factor.shape[2] - 1)
        taken.append(tuple(draw(st.lists(numbers, min_size=channels, max_size=channels))))
        read += [factor, draw(st.sampled_from(alike))]
    return SumOfProducts(tuple(taken)), read
