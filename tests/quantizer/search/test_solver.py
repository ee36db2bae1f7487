"""The solver: consistent errors, steps that never lose, and optima that are known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import Codebook, make_codebook
from nupes.quantizer.options.recipe import METHODS
from nupes.quantizer.search import solver
from nupes.quantizer.search.solver import (
    STEPS,
    Solution,
    compose,
    output_error,
    refit,
    round_to_nearest,
)
from tests.quantizer.search.problems import CODEBOOKS, moments, problems


def check(weight: np.ndarray, gram: np.ndarray, codebook: Codebook, solution: Solution) -> None:
    """Check that a solution's error is the error of its codes and scales."""
    real = codebook.levels[solution.codes] * solution.scale[..., None]
    error = output_error(weight - real, gram)
    np.testing.assert_allclose(solution.error, error, atol=1e-9 * (1 + error.max()))
    assert (solution.scale > 0).all()


@given(problems())
def test_rounding_is_consistent_and_fits_the_scale(problem) -> None:
    weight, gram, codebook = problem
    solution = round_to_nearest(*problem)
    check(*problem, solution)
    # Never worse than the whole range without clipping.
    largest = np.abs(weight).max(axis=2, keepdims=True)
    scale = np.where(largest > 0, largest / np.abs(codebook.levels).max(), 1.0)
    plain = weight - scale * codebook.levels[codebook.nearest(weight / scale)]
    assert (solution.error <= output_error(plain, gram) * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("name", STEPS)
@given(problem=problems())
def test_a_step_never_loses_in_any_channel(name: str, problem) -> None:
    start = round_to_nearest(*problem)
    solution = STEPS[name](*problem, start)
    check(*problem, solution)
    assert (solution.error <= start.error).all()


@given(problems())
def test_steps_compose(problem) -> None:
    solution = compose(*STEPS.values(), refit)(*problem)
    check(*problem, solution)
    assert (solution.error <= round_to_nearest(*problem).error).all()


@given(st.integers(0, 2**31))
def test_descent_ends_where_no_single_code_can_be_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, gram = rng.laplace(size=(1, 1, 3)), moments(1, 3, rng)
    codebook = CODEBOOKS[2]
    solution = STEPS["cd"](weight, gram, codebook, round_to_nearest(weight, gram, codebook))
    for k, code in itertools.product(range(3), range(len(codebook))):
        codes = solution.codes.copy()
        codes[0, 0, k] = code
        real = codebook.levels[codes] * solution.scale[..., None]
        assert output_error(weight - real, gram) >= solution.error - 1e-9


def test_steps_beat_rounding_on_correlated_inputs() -> None:
    rng = np.random.default_rng(0)
    weight, gram = rng.laplace(size=(1, 16, 64)), moments(1, 64, rng)
    codebook = make_codebook("power", 4, True, 127, 0.6)
    start = round_to_nearest(weight, gram, codebook)
    spread = STEPS["gptq"](weight, gram, codebook, start)
    assert spread.error.sum() < 0.92 * start.error.sum()
    assert STEPS["cd"](weight, gram, codebook, start).error.sum() < 0.96 * start.error.sum()
    descended = STEPS["cd"](weight, gram, codebook, spread)
    assert descended.error.sum() < spread.error.sum()


def test_other_scales_help_where_codes_are_few() -> None:
    rng = np.random.default_rng(0)
    weight, gram = rng.laplace(size=(1, 16, 64)), moments(1, 64, rng)
    codebook = make_codebook("power-midrise", 2, True, 127, 0.6)
    steps = [STEPS[name] for name in ("gptq", "refit", "cd", "refit")]
    once = compose(*steps)(weight, gram, codebook)
    again = compose(*steps, *steps)(weight, gram, codebook)
    rescaled = STEPS["rescale"](weight, gram, codebook, once)
    assert rescaled.error.sum() < 0.97 * again.error.sum()


@pytest.mark.parametrize("name", STEPS)
def test_inputs_that_are_the_same_are_no_trouble(name: str) -> None:
    rng = np.random.default_rng(0)
    weight, inputs = rng.laplace(size=(1, 4, 12)), rng.normal(size=(50, 1)).repeat(12, 1)
    gram = (inputs.T @ inputs).astype(np.float32).astype(np.float64)[None]
    gram[0, 5] = gram[0, :, 5] = 0
    gram += 1e-5 * gram.max() * np.eye(12)
    start = round_to_nearest(weight, gram, CODEBOOKS[2])
    solution = STEPS[name](weight, gram, CODEBOOKS[2], start)
    check(weight, gram, CODEBOOKS[2], solution)
    assert (solution.error <= start.error).all()


def test_a_dead_channel_has_the_levels_nearest_to_zero() -> None:
    weight = np.ones((1, 2, 3))
    weight[0, 1] = 0
    solution = compose(*STEPS.values())(weight, np.eye(3)[None], CODEBOOKS[2])
    assert (CODEBOOKS[2].levels[solution.codes[0, 1]] == 0).all()


def patches(rng: np.random.Generator) -> np.ndarray:
    """Return the moments (1, 36, 36) of 3x3 patches of smooth maps after ReLU."""
    maps = rng.normal(size=(30, 4, 14, 14))
    maps = np.maximum(sum(np.roll(maps, (i, j), (2, 3)) for i in range(3) for j in range(3)), 0)
    windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), (2, 3))
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 36)
    return (rows.T @ rows / len(rows))[None]


def test_more_beginnings_find_better_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    weight, gram, codebook = rng.laplace(size=(1, 32, 36)), patches(rng), CODEBOOKS[2]
    steps = METHODS["search"].steps
    start = compose(*(STEPS[name] for name in steps))(weight, gram, codebook)
    rescaled = STEPS["rescale"](weight, gram, codebook, start).error.sum()
    found = {}
    for width in (1, 16):
        monkeypatch.setattr(solver, "WIDTH", width)
        found[width] = STEPS["beam"](weight, gram, codebook, start).error.sum()
    assert found[16] < 0.99 * found[1]
    assert found[16] < 0.95 * rescaled < 0.95 * start.error.sum()
