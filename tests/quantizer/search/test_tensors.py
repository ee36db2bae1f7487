"""Codebooks of stored tensors: what the search must find and what always holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.cells import holds
from nupes.arch.config import ArrayConfig
from nupes.quantizer.codes.candidates import offset_uniform
from nupes.quantizer.options.recipe import Recipe, make_recipe
from nupes.quantizer.search.histogram import Sample
from nupes.quantizer.search.tensors import (
    TensorCode,
    choose_activations,
    fixed_range,
    place_levels,
)
from tests.quantizer.close import rounding_error

POWER, UNIFORM = Recipe(tables=False), Recipe(family="uniform")
RNG = np.random.default_rng(0)
LAPLACE = RNG.laplace(size=5000)


@given(st.integers(0, 2**31), st.integers(2, 5), st.booleans())
def test_levels_move_to_less_error_and_zero_stays(seed: int, bits: int, weighed: bool) -> None:
    generator = np.random.default_rng(seed)
    values = generator.laplace(size=(50, 4, 3, 3)) * generator.uniform(0.1, 2, (4, 1, 1))
    sample = Sample(values, generator.uniform(0.1, 3, (4, 1, 1)) if weighed else None)
    start = TensorCode(offset_uniform(bits, 2 ** (bits - 1) - 1), 3.0 / 2**bits, None)
    placed = place_levels(sample, start, bits)
    # Levels are rounded to steps of 1/255 of the largest.
    before = sample.error(start.codebook, start.scale)
    assert placed.error <= before + (placed.scale / 2) ** 2
    assert 0 in placed.codebook.levels
    assert np.abs(placed.codebook.levels).max() == 255
    means = [
        np.mean(sample.values[placed.codebook.nearest(sample.values / placed.scale) == code])
        for code, level in enumerate(placed.codebook.levels)
        if level != 0
    ]
    if not weighed:
        levels = placed.codebook.levels[placed.codebook.levels != 0] * placed.scale
        np.testing.assert_allclose(means, levels, atol=0.05 * np.abs(levels).max())


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("signed", [False, True])
def test_levels_of_any_place_beat_powers(bits: int, signed: bool) -> None:
    values = LAPLACE if signed else np.maximum(LAPLACE, 0)
    power = choose_activations(values, bits, signed, POWER)
    placed = choose_activations(values, bits, signed, Recipe())
    assert placed.codebook.family == "table"
    assert placed.error < 0.97 * power.error


def test_values_that_matter_get_the_levels() -> None:
    values = np.stack([np.abs(LAPLACE), 20 + RNG.normal(size=5000)], 1)[..., None, None]
    counts = [
        (
            choose_activations(values, 3, False, Recipe(), None, None, importance).codebook.levels
            < 100
        ).sum()
        for importance in np.array([[1e-4, 1.0], [1.0, 1e-4]]).reshape(2, 1, 2, 1, 1)
    ]
    assert counts[0] < counts[1]


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("cell", ["uniform", "square", "pair", "decode"])
@pytest.mark.parametrize("low", [0.0, -0.3, -10.0])
def test_cells_hold_what_is_chosen(bits: int, cell: str, low: float) -> None:
    recipe = make_recipe("search", cell=cell)
    values = np.maximum(LAPLACE, low)
    codebook = choose_activations(values, bits, low < 0, recipe).codebook
    kind = ArrayConfig(4, 4, code_bits=bits, mac=cell).cell
    assert holds(kind, codebook.levels, weight=False)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("family", "tables"), [("power", False), ("power", True), ("uniform", False)]
)
@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e6])
def test_search_is_sound(
    bits: int, signed: bool, family: str, tables: bool, magnitude: float
) -> None:
    values = magnitude * (LAPLACE if signed else np.maximum(LAPLACE, 0))
    code = choose_activations(values, bits, signed, Recipe(family=family, tables=tables))
    assert code.codebook.bits == bits
    assert 0 in code.codebook.levels
    assert (code.codebook.levels[0] < 0) == signed
    assert code.error == pytest.approx(rounding_error(values, code.codebook, code.scale))
    # Never worse than covering the whole range with equal steps.
    whole = fixed_range(float(values.min()), float(values.max()), bits)
    assert code.error <= rounding_error(values, whole.codebook, whole.scale) * 1.02


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_power_beats_uniform_on_heavy_tails(bits: int) -> None:
    values = np.maximum(LAPLACE, 0)
    power = choose_activations(values, bits, False, POWER)
    uniform = choose_activations(values, bits, False, UNIFORM)
    assert power.error < 0.85 * uniform.error
    assert power.exponent is not None
    assert 0.3 < power.exponent < 0.9
    assert uniform.exponent is None


def test_eight_bits_are_uniform() -> None:
    assert choose_activations(LAPLACE, 8, True, Recipe()).exponent is None


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("recipe", [POWER, Recipe()])
def test_a_short_negative_tail_gets_few_codes(bits: int, recipe: Recipe) -> None:
    values = RNG.normal(size=5000) * 2
    values = values / (1 + np.exp(-values))
    levels = choose_activations(values, bits, True, recipe).codebook.levels
    assert 0 < (levels < 0).sum() < (levels > 0).sum()


@pytest.mark.parametrize("values", [np.zeros(10), np.array([])])
@pytest.mark.parametrize("signed", [False, True])
def test_nothing_but_zeros(values: np.ndarray, signed: bool) -> None:
    code = choose_activations(values, 4, signed, Recipe())
    assert code.scale > 0
    assert 0 in code.codebook.levels


@given(st.floats(-100, 100), st.floats(-100, 100), st.integers(2, 8))
def test_fixed_range_covers_range_and_zero(first: float, second: float, bits: int) -> None:
    low, high = min(first, second), max(first, second)
    code = fixed_range(low, high, bits)
    levels = code.codebook.levels * code.scale
    assert 0 in code.codebook.levels
    slack = 1e-6 * max(-low, high) + 1e-30
    assert levels[0] <= low + slack
    assert levels[-1] >= high - slack
