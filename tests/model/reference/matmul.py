"""Products of two maps as matrices."""

from nupes.model.operators import Matmul
from tests.model.reference.windows import Map

__all__ = ["products"]


def products(op: Matmul, source: Map, other: Map) -> Map:
    """Return, for each pixel, its products with the other map's pixels or channels."""
    tokens = [pixel for row in other for pixel in row]
    columns = tokens if op.transposed else [list(values) for values in zip(*tokens, strict=True)]
    return [
        [
            [sum(a * b for a, b in zip(pixel, column, strict=True)) for column in columns]
            for pixel in row
        ]
        for row in source
    ]
