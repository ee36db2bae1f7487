"""Elementwise products."""

from nupes.model.operators import Product
from tests.model.reference.windows import Map

__all__ = ["products"]


def products(op: Product, factor: Map, whole: Map) -> Map:
    """Return the products of the levels; a size of 1 of the factor serves all of the other's."""

    def of(y: int, x: int, c: int) -> int:
        row = factor[y % len(factor)]
        pixel = row[x % len(row)]
        return pixel[c % len(pixel)]

    return [
        [[level * of(y, x, c) for c, level in enumerate(pixel)] for x, pixel in enumerate(row)]
        for y, row in enumerate(whole)
    ]
