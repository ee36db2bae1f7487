"""Sums of elementwise products."""

from nupes.model.operators import SumOfProducts
from tests.model.reference.windows import Map

__all__ = ["sums"]


def sums(op: SumOfProducts, *inputs: Map) -> Map:
    """Return, for each pixel and channel, the products of the level of a factor and that of its
    whole, added up; a height or width of 1 of a factor serves all rows or columns."""

    def of(y: int, x: int, c: int) -> int:
        total = 0
        for pair, channels in enumerate(op.channels):
            factor, whole = inputs[2 * pair], inputs[2 * pair + 1]
            row = factor[y if len(factor) > 1 else 0]
            total += row[x if len(row) > 1 else 0][channels[c]] * whole[y][x][c]
        return total

    first = inputs[1]
    return [
        [[of(y, x, c) for c in range(len(pixel))] for x, pixel in enumerate(row)]
        for y, row in enumerate(first)
    ]
