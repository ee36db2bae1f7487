"""A tensor's values, sampled: what rounding them costs, and where levels cost least."""

import numpy as np

from nupes.model.codebook import Codebook

__all__ = ["Sample"]

SAMPLE = 100_000
"""Values of a tensor that are looked at."""

LLOYD_STEPS = 100
"""Most steps of Lloyd's iteration."""


class Sample:
    """A sorted sample of a tensor's non-zero values and its prefix sums, so that the error of a
    codebook costs one search per level. ``importance`` weighs the values."""

    def __init__(self, values: np.ndarray, importance: np.ndarray | None = None) -> None:
        values = np.asarray(values)
        weights = np.ones(1, np.float32)
        if importance is not None and importance.max(initial=0) > 0:
            weights = importance / importance.max()
        weights = np.broadcast_to(weights, values.shape)
        chosen = values != 0
        flat, weights = values[chosen], weights[chosen]
        if len(flat) > SAMPLE:
            drawn = np.random.default_rng(0).integers(0, len(flat), SAMPLE)
            drawn = np.concatenate([[flat.argmin(), flat.argmax()], drawn])
            flat, weights = flat[drawn], weights[drawn]
        order = np.argsort(flat)
        self.values = flat[order].astype(np.float64)
        self.low = float(self.values[0]) if len(flat) else 0.0
        self.high = float(self.values[-1]) if len(flat) else 0.0
        weights = weights[order].astype(np.float64)
        self.weights = np.concatenate([[0], np.cumsum(weights)])
        self.sums = np.concatenate([[0], np.cumsum(weights * self.values)])
        self.squares = float((weights * np.square(self.values)).sum())

    def assign(self, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight and the weighted sum of the values that are nearest to each level."""
        bounds = np.searchsorted(self.values, (level[1:] + level[:-1]) / 2)
        bounds = np.concatenate([[0], bounds, [len(self.values)]])
        return np.diff(self.weights[bounds]), np.diff(self.sums[bounds])

    def error(self, codebook: Codebook, scale: float) -> float:
        """Return the mean squared error of rounding the sample to the codebook."""
        level = codebook.levels * scale
        weights, sums = self.assign(level)
        total = self.squares - 2 * (level * sums).sum() + (level**2 * weights).sum()
        return max(float(total), 0.0) / max(float(self.weights[-1]), 1e-9)

    def place(self, level: np.ndarray) -> np.ndarray:
        """Return sorted real levels moved to where the error is least nearby: each to the mean of
        the values that are nearest to it, again and again; 0 stays, where tensors have most values.

        Source: Lloyd, Least Squares Quantization in PCM, 1982, method I.
        """
        for _ in range(LLOYD_STEPS):
            weights, sums = self.assign(level)
            means = np.where(weights > 0, sums / np.where(weights > 0, weights, 1), level)
            moved = np.where(level == 0, 0.0, means)
            if np.allclose(moved, level, rtol=0, atol=1e-4 * np.abs(level).max()):
                break
            level = moved
        return level
