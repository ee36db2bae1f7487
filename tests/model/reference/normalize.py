"""Normalization of pixels."""

from nupes.model.operators import Normalize
from tests.model.reference.token_stage import root, scaled, statistics
from tests.model.reference.windows import Map

__all__ = ["normalized"]


def normalized(op: Normalize, source: Map) -> Map:
    """Return the channels of every pixel, with 15 bits behind the binary point."""

    def token(x: list[int]) -> list[int]:
        first, d = statistics(x, op.centered, op.epsilon)
        return [scaled(len(x) * value - first, *root(d)) for value in x]

    return [[token(pixel) for pixel in row] for row in source]
