"""Codebook and scale of a stored tensor, from a sample of its values."""

from collections.abc import Callable, Sequence

import numpy as np

from nupes.arch.cells import codebook_rule
from nupes.model.codebook import make_codebook, table_codebook
from nupes.quantizer.codes.candidates import (
    UNSIGNED_LMAX,
    fits_squares,
    make_levels,
    offset_uniform,
    reach,
)
from nupes.quantizer.codes.decisions import TensorCode
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.histogram import Sample

__all__ = ["Cost", "choose_activations", "fixed_range"]

CLIPS = np.geomspace(0.1, 1.0, 32)
"""Clipping points tried, as fractions of the largest magnitude."""

EXPONENTS = np.arange(0.3, 1.21, 0.1).round(4)
"""Coarse grid of power exponents."""

REFINEMENT = (0.05, 0.025)
"""Steps of the finer searches around the best exponent."""

MOVES = ((1.2, 0.1), (1.06, 0.05))
"""Factors of the clipping point and steps of the exponent in the search for the least cost."""


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


Cost = Callable[[TensorCode], float]
"""What a codebook costs the outputs that depend on it."""


def choose_activations(
    values: np.ndarray,
    bits: int,
    signed: bool,
    recipe: Recipe,
    cost: Cost | None = None,
    exponent: float | None = None,
    importance: np.ndarray | None = None,
) -> TensorCode:
    """Return the codebook and scale of values of least cost; without a cost, of least mean squared
    error on a sample of them, weighed by ``importance``, which broadcasts to them.

    Eight bits, and the uniform family, take uniform levels; a power's exponent may be given, or be
    fixed by the cells that must hold the levels; where both are free, a table of levels competes.
    An unsigned tensor has levels from 0; a signed one splits its codes between both sides of zero.
    The search for the least cost starts at the least squared error of each exponent and then moves
    exponent and clipping point in turn.
    """
    sample = Sample(values if signed else np.maximum(values, 0), importance)
    largest = max(-sample.low, sample.high)
    if largest < np.finfo(np.float32).tiny:
        return TensorCode(make_codebook("uniform", bits, signed=signed), 1.0 / 2**bits, None)
    rule = codebook_rule(recipe.cell, bits, signed)
    if rule.exponents is not None:
        (exponent,) = rule.exponents
    splits = choose_splits(sample, bits) if signed else [0]
    power = recipe.family == "power" and bits < 8
    if power and signed and rule.squares:
        half = 2 ** (bits - 1) - 1
        splits = [below for below in splits if fits_squares(bits, below)] or [half]
    coarse: Sequence[float | None] = EXPONENTS.tolist() if power else [None]
    free = power and exponent is None
    if power and exponent is not None:
        coarse = [exponent]
    candidates = []
    for below in splits:
        tried = [best_clip(sample, largest, bits, signed, below, a, rule.squares) for a in coarse]
        for step in REFINEMENT if free else ():
            center = min(tried, key=lambda item: item.error).exponent or 1.0
            for near in (round(center - step, 4), round(center + step, 4)):
                tried.append(best_clip(sample, largest, bits, signed, below, near))
        candidates.extend((below, code) for code in tried)
    below, best = min(candidates, key=lambda item: item[1].error)
    if cost is not None:
        search = CostSearch(cost, bits, signed, below, rule.squares)
        for other, code in candidates:
            if other == below:
                search.attempt(code.exponent, code.scale * reach(code.codebook))
        for factor, step in MOVES if free else [(factor, 0.0) for factor, _ in MOVES]:
            search.move(factor, step)
        best = search.best
    if not (free and recipe.tables):
        return best
    placed = place_levels(sample, best, bits)
    return min(best, placed, key=cost or (lambda code: code.error))


def place_levels(sample: Sample, start: TensorCode, bits: int) -> TensorCode:
    """Return a code with a table of levels, from those of ``start`` and, where it has fewer than
    it may, the middles of the widest gaps."""
    level = np.unique(start.codebook.levels) * start.scale
    while len(level) < 2**bits:
        gap = np.diff(level).argmax()
        level = np.insert(level, gap + 1, (level[gap] + level[gap + 1]) / 2)
    level = sample.place(level)
    scale = float(np.abs(level).max()) / UNSIGNED_LMAX
    codebook = table_codebook(np.unique(np.rint(level / scale)).astype(np.int64), bits)
    return TensorCode(codebook, scale, None, sample.error(codebook, scale))


class CostSearch:
    """Candidates of one split by exponent and clipping point, and the best of them so far."""

    def __init__(self, cost: Cost, bits: int, signed: bool, below: int, squares: bool) -> None:
        self.cost, self.bits, self.signed, self.below = cost, bits, signed, below
        self.squares = squares
        self.tried: dict[tuple[float | None, float], float] = {}
        self.codes: dict[tuple[float | None, float], TensorCode] = {}

    @property
    def best(self) -> TensorCode:
        """The candidate of least cost."""
        return self.codes[min(self.tried, key=lambda key: self.tried[key])]

    def attempt(self, exponent: float | None, clip: float) -> None:
        """Measure one candidate, unless it is known."""
        key = (exponent, clip)
        if key in self.tried or not (exponent is None or 0.2 <= exponent <= 1.5):
            return
        codebook = make_levels(self.bits, self.signed, self.below, exponent, self.squares)
        code = TensorCode(codebook, clip / reach(codebook), exponent)
        self.tried[key] = self.cost(code)
        self.codes[key] = code

    def move(self, factor: float, step: float) -> None:
        """Move the clipping point by a factor as long as that helps, then the exponent by a
        step."""
        while True:
            exponent, clip = min(self.tried, key=lambda key: self.tried[key])
            self.attempt(exponent, clip * factor)
            self.attempt(exponent, clip / factor)
            if exponent is not None and step > 0:
                self.attempt(round(exponent + step, 4), clip)
                self.attempt(round(exponent - step, 4), clip)
            if min(self.tried, key=lambda key: self.tried[key]) == (exponent, clip):
                return


def choose_splits(sample: Sample, bits: int) -> list[int]:
    """Return numbers of codes below zero worth trying: half, and shares that follow the range."""
    low, high = -sample.low, sample.high
    half = 2 ** (bits - 1) - 1
    if low <= 0:
        return [0, 1]
    share = round((2**bits - 1) * low / (low + high)) if high > 0 else 2**bits - 1
    around = {half, half + 1, share - 1, share, share + 1, (share + half) // 2}
    return sorted(value for value in around if 1 <= value <= 2**bits - 2)


def best_clip(
    sample: Sample,
    largest: float,
    bits: int,
    signed: bool,
    below: int,
    exponent: float | None,
    squares: bool = False,
) -> TensorCode:
    """Return the best scale of one codebook."""
    codebook = make_levels(bits, signed, below, exponent, squares)
    options = []
    for clip in CLIPS:
        scale = clip * largest / reach(codebook)
        options.append(TensorCode(codebook, scale, exponent, sample.error(codebook, scale)))
    return min(options, key=lambda item: item.error)
