"""Codebooks of stored tensors: what the search must find and what always holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import Codebook
from nupes.quantizer.activations import (
    Sample,
    choose_activations,
    fixed_range,
    offset_uniform,
    two_sided_power,
)
from nupes.quantizer.recipe import Recipe

POWER, UNIFORM = Recipe(tables=False), Recipe(family="uniform")
RNG = np.random.default_rng(0)
LAPLACE = RNG.laplace(size=5000)


def brute_force(values: np.ndarray, codebook: Codebook, scale: float) -> float:
    """Return the mean squared error of the non-zero values."""
    values = values[values != 0]
    return float(
        np.square(values - scale * codebook.levels[codebook.nearest(values / scale)]).mean()
    )


@given(st.integers(2, 8), st.floats(1e-3, 10), st.integers(0, 2**31))
def test_sample_error_is_the_mean_squared_error(bits: int, scale: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=200)
    codebook = offset_uniform(bits, 2 ** (bits - 1))
    expected = brute_force(values, codebook, scale)
    assert Sample(values).error(codebook, scale) == pytest.approx(expected, rel=1e-9, abs=1e-12)


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
    assert code.error == pytest.approx(brute_force(values, code.codebook, code.scale))
    # Never worse than covering the whole range with equal steps.
    whole = fixed_range(float(values.min()), float(values.max()), bits)
    assert code.error <= brute_force(values, whole.codebook, whole.scale) * 1.02


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


@given(st.integers(2, 8), st.data(), st.floats(0.2, 1.2))
def test_signed_families_hold_zero_and_fit(bits: int, data: st.DataObject, exponent: float) -> None:
    below = data.draw(st.integers(0, 2**bits - 2))
    for codebook in (two_sided_power(bits, below, exponent), offset_uniform(bits, below)):
        assert 0 in codebook.levels
        assert len(codebook) <= 2**bits


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
