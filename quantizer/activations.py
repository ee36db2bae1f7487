"""Codebook and scale of a stored tensor, from a sample of its values."""

from dataclasses import dataclass

import numpy as np

from nupes.model.codebook import Codebook, make_codebook, table_codebook

__all__ = ["TensorCode", "choose_activations", "fixed_range"]

SAMPLE = 100_000
"""Values of a tensor that the search looks at."""

CLIPS = np.geomspace(0.1, 1.0, 32)
"""Clipping points tried, as fractions of the largest magnitude."""

EXPONENTS = np.arange(0.3, 1.21, 0.1).round(4)
"""Coarse grid of power exponents."""

REFINEMENT = (0.05, 0.025)
"""Steps of the finer searches around the best exponent."""

UNSIGNED_LMAX = 255
SIGNED_LMAX = 127


@dataclass(frozen=True, eq=False)
class TensorCode:
    """A codebook and the real value of one level; ``error`` is its mean squared error."""

    codebook: Codebook
    scale: float
    exponent: float | None
    error: float = 0.0


class Sample:
    """A sorted sample of a tensor's non-zero values and its prefix sums, so that the error of a
    codebook costs one search per level."""

    def __init__(self, values: np.ndarray) -> None:
        flat = np.asarray(values).ravel()
        flat = flat[flat != 0]
        if len(flat) > SAMPLE:
            drawn = flat[np.random.default_rng(0).integers(0, len(flat), SAMPLE)]
            flat = np.concatenate([[flat.min(), flat.max()], drawn])
        self.values = np.sort(flat.astype(np.float64))
        self.low = float(self.values[0]) if len(flat) else 0.0
        self.high = float(self.values[-1]) if len(flat) else 0.0
        self.sums = np.concatenate([[0], np.cumsum(self.values)])
        self.squares = float(np.square(self.values).sum())

    def error(self, codebook: Codebook, scale: float) -> float:
        """Return the mean squared error of rounding the sample to the codebook."""
        level = codebook.levels * scale
        bounds = np.searchsorted(self.values, (level[1:] + level[:-1]) / 2)
        bounds = np.concatenate([[0], bounds, [len(self.values)]])
        counts, sums = np.diff(bounds), np.diff(self.sums[bounds])
        total = self.squares - 2 * (level * sums).sum() + (level**2 * counts).sum()
        return max(float(total), 0.0) / max(len(self.values), 1)


def two_sided_power(bits: int, below: int, exponent: float) -> Codebook:
    """Return power levels with ``below`` steps under zero and the rest above.

    ``L[k] = sign(k) * round(lmax * (|k| / q) ** (1 / a))`` for k in ``-below..q``, ``q = 2**bits -
    1 - below``: the power codebook for a bell with one long side (SiLU, GELU), zero included.
    """
    steps = 2**bits - 1 - below
    lmax = UNSIGNED_LMAX if below <= steps else SIGNED_LMAX
    index = np.arange(-below, steps + 1)
    ratio = (np.abs(index) / max(steps, 1)) ** (1 / exponent)
    levels = np.unique(np.sign(index) * np.floor(lmax * ratio + 0.5)).astype(np.int64)
    return Codebook(levels[levels >= -256], bits, "table", True, lmax, exponent)


def offset_uniform(bits: int, below: int) -> Codebook:
    """Return the uniform levels ``-below..2**bits - 1 - below``."""
    return table_codebook(np.arange(-below, 2**bits - below), bits)


def fixed_range(low: float, high: float, bits: int) -> TensorCode:
    """Return a uniform codebook that covers a range and zero without clipping."""
    low, high = min(low, 0.0), max(high, 0.0)
    steps = 2**bits - 1
    scale = (high - low) / steps
    if scale < np.finfo(np.float32).tiny:
        return TensorCode(make_codebook("uniform", bits, signed=False), 1.0 / steps, None)
    below = min(int(np.ceil(-low / scale - 1e-9)), steps)
    if below == 0:
        return TensorCode(make_codebook("uniform", bits, signed=False), scale, None)
    below = min(below, steps - 1) if high > 0 else steps
    above = steps - below
    scale = max(-low / below, high / above) if above else -low / below
    return TensorCode(offset_uniform(bits, below), scale, None)


def choose_activations(values: np.ndarray, bits: int, family: str, signed: bool) -> TensorCode:
    """Return the codebook and scale with the least mean squared error on a sample of values.

    Eight bits, and the uniform family, take uniform levels. An unsigned tensor has levels from 0;
    a signed one splits its codes between both sides of zero.
    """
    sample = Sample(values if signed else np.maximum(values, 0))
    largest = max(-sample.low, sample.high)
    if largest < np.finfo(np.float32).tiny:
        return TensorCode(make_codebook("uniform", bits, signed=signed), 1.0 / 2**bits, None)
    splits = choose_splits(sample, bits) if signed else [0]
    power = family == "power" and bits < 8
    best: TensorCode | None = None
    coarse = EXPONENTS.tolist() if power else [None]
    for below in splits:
        tried = [best_clip(sample, largest, bits, signed, below, a) for a in coarse]
        for step in REFINEMENT if power else ():
            center = min(tried, key=lambda item: item.error).exponent or 1.0
            for exponent in (round(center - step, 4), round(center + step, 4)):
                tried.append(best_clip(sample, largest, bits, signed, below, exponent))
        candidate = min(tried, key=lambda item: item.error)
        if best is None or candidate.error < best.error:
            best = candidate
    assert best is not None
    return best


def choose_splits(sample: Sample, bits: int) -> list[int]:
    """Return numbers of codes below zero worth trying: half, and shares that follow the range."""
    low, high = -sample.low, sample.high
    half = 2 ** (bits - 1) - 1
    if low <= 0:
        return [0, 1]
    share = round((2**bits - 1) * low / (low + high)) if high > 0 else 2**bits - 1
    around = {half, half + 1, share - 1, share, share + 1, (share + half) // 2}
    return sorted(value for value in around if 1 <= value <= 2**bits - 2)


def make_levels(bits: int, signed: bool, below: int, exponent: float | None) -> Codebook:
    """Return the codebook of one candidate."""
    if exponent is None:
        if not signed:
            return make_codebook("uniform", bits, signed=False)
        if below == 2 ** (bits - 1) - 1 and bits < 8:
            return make_codebook("uniform", bits, signed=True)
        return offset_uniform(bits, below)
    if not signed:
        return make_codebook("power", bits, False, UNSIGNED_LMAX, exponent)
    if below == 2 ** (bits - 1) - 1:
        return make_codebook("power", bits, True, SIGNED_LMAX, exponent)
    return two_sided_power(bits, below, exponent)


def best_clip(
    sample: Sample, largest: float, bits: int, signed: bool, below: int, exponent: float | None
) -> TensorCode:
    """Return the best scale of one codebook."""
    codebook = make_levels(bits, signed, below, exponent)
    reach = float(np.abs(codebook.levels).max())
    options = []
    for clip in CLIPS:
        scale = clip * largest / reach
        options.append(TensorCode(codebook, scale, exponent, sample.error(codebook, scale)))
    return min(options, key=lambda item: item.error)
