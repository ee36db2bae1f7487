"""The weight search: closed-form errors, exponents, and what it never does worse than."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import make_codebook
from nupes.quantizer.weights import choose_weights, output_error, round_to_nearest


def moments(groups: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the mean outer product of correlated inputs, (g, k, k)."""
    inputs = rng.normal(size=(groups, 4 * size, size)) + rng.normal(size=(groups, 4 * size, 1))
    return inputs.transpose(0, 2, 1) @ inputs / (4 * size)


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(2, 8),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_solution_is_consistent(
    groups: int, rows: int, size: int, bits: int, diagonal: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.laplace(size=(groups, rows, size))
    gram = moments(groups, size, rng)
    gram = np.einsum("gkk->gk", gram).copy() if diagonal else gram
    codebook = make_codebook("uniform", bits, True)
    solution = round_to_nearest(weight, gram, codebook)
    real = codebook.levels[solution.codes] * solution.scale[..., None]
    error = output_error(weight - real, gram)
    power = output_error(weight, gram)
    np.testing.assert_allclose(solution.error, error, atol=1e-4 * power.max(), rtol=1e-3)
    assert (solution.scale > 0).all()
    # Never worse than the whole range without clipping.
    scale = np.abs(weight).max(axis=2, keepdims=True) / codebook.levels[-1]
    plain = weight - scale * codebook.levels[codebook.nearest(weight / scale)]
    assert (error <= output_error(plain, gram) + 1e-4 * power.max()).all()


def test_a_dead_channel_has_zero_levels() -> None:
    weight = np.ones((1, 2, 3))
    weight[0, 1] = 0
    codebook = make_codebook("power", 4, True, 127, 0.5)
    solution = round_to_nearest(weight, np.eye(3)[None], codebook)
    assert (codebook.levels[solution.codes[0, 1]] == 0).all()


@pytest.mark.parametrize(
    ("draw", "low", "high"),
    [
        (lambda rng, size: rng.normal(size=size), 0.55, 0.9),
        (lambda rng, size: rng.laplace(size=size), 0.4, 0.7),
        (lambda rng, size: rng.uniform(-1, 1, size=size), 0.85, 1.2),
    ],
    ids=["gaussian", "laplace", "uniform"],
)
def test_exponents_follow_the_distribution(draw, low: float, high: float) -> None:
    weight = draw(np.random.default_rng(0), (1, 16, 400))
    codebook, solution = choose_weights(weight, np.ones((1, 400)), 4, "power")
    assert codebook.exponent is not None
    assert low <= codebook.exponent <= high
    _, uniform = choose_weights(weight, np.ones((1, 400)), 4, "uniform")
    assert solution.error.sum() <= uniform.error.sum() * 1.01


def test_another_solver_serves_the_same_search() -> None:
    seen = []

    def solver(weight, gram, codebook):
        seen.append(codebook.exponent)
        return round_to_nearest(weight, gram, codebook)

    weight = np.random.default_rng(0).laplace(size=(1, 4, 20))
    codebook, _ = choose_weights(weight, np.ones((1, 20)), 3, "power", solver)
    assert codebook.exponent in seen
    assert len(seen) == len(set(seen)) >= 11
