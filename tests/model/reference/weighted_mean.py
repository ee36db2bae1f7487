"""Means of pixels, weighted by levels."""

from nupes.model.operators import WeightedMean
from tests.model.reference.token_stage import scaled, share
from tests.model.reference.windows import Map

__all__ = ["means"]


def means(op: WeightedMean, weights: Map, values: Map) -> Map:
    """Return, for each pixel of weights, the weighted sum of each channel over the sum of weights,
    with 15 bits behind the binary point."""
    tokens = [pixel for row in values for pixel in row]

    def mean(pixel: list[int]) -> list[int]:
        m, k = share(sum(pixel))
        sums = [
            sum(pixel[j] * tokens[j][c] for j in range(op.terms)) for c in range(len(tokens[0]))
        ]
        return [scaled(total, m, k) for total in sums]

    return [[mean(pixel) for pixel in row] for row in weights]
