"""The search for the codebook of weights: exponents that follow the distribution."""

from dataclasses import replace

import numpy as np
import pytest

from nupes.quantizer.options.recipe import METHODS
from nupes.quantizer.search import weights
from nupes.quantizer.search.solver import STEPS, refit
from nupes.quantizer.search.weights import EXPONENTS, choose_weights, network_exponent

SEARCH = METHODS["search"]

DISTRIBUTIONS = pytest.mark.parametrize(
    ("draw", "low", "high"),
    [
        (lambda rng, size: rng.normal(size=size), 0.55, 0.9),
        (lambda rng, size: rng.laplace(size=size), 0.4, 0.7),
        (lambda rng, size: rng.uniform(-1, 1, size=size), 0.85, 1.2),
    ],
    ids=["gaussian", "laplace", "uniform"],
)


@DISTRIBUTIONS
def test_exponents_follow_the_distribution(draw, low: float, high: float) -> None:
    weight = draw(np.random.default_rng(0), (1, 16, 400))
    codebook, solution = choose_weights(weight, np.ones((1, 400)), 4, SEARCH)
    assert codebook.exponent is not None
    assert low <= codebook.exponent <= high
    uniform = replace(SEARCH, family="uniform")
    _, plain = choose_weights(weight, np.ones((1, 400)), 4, uniform)
    assert solution.error.sum() <= plain.error.sum() * 1.01


@DISTRIBUTIONS
def test_one_exponent_for_the_network(draw, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    layers = [draw(rng, (8, 300)), draw(rng, (16, 200))]
    exponent = network_exponent(layers, [4, 4])
    assert low - 0.15 <= exponent <= high + 0.1
    assert EXPONENTS[0] <= exponent <= EXPONENTS[-1]
    codebook, _ = choose_weights(layers[0][None], np.ones((1, 300)), 4, SEARCH, exponent)
    assert codebook.exponent == exponent


def test_two_bits_need_no_zero() -> None:
    weight = np.random.default_rng(0).normal(size=(1, 8, 300))
    codebook, _ = choose_weights(weight, np.ones((1, 300)), 2, SEARCH)
    assert codebook.family == "power-midrise"
    assert len(codebook) == 4


@pytest.mark.parametrize("family", ["power", "uniform"])
def test_the_codebook_chosen_is_solved_to_the_end(family) -> None:
    rng = np.random.default_rng(0)
    weight, inputs = (
        rng.laplace(size=(1, 8, 30)),
        rng.normal(size=(90, 30)) @ rng.normal(size=(30, 30)),
    )
    gram = (inputs.T @ inputs)[None] / 90
    recipe = replace(SEARCH, family=family)
    first, start = choose_weights(weight, gram, 3, replace(recipe, finish=()))
    codebook, solution = choose_weights(weight, gram, 3, recipe)
    assert codebook == first
    assert (solution.error <= start.error).all()
    assert solution.error.sum() < start.error.sum()


def test_weights_are_compared_by_their_own_error_where_the_recipe_says_so() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(1, 4, 20))
    plain = replace(SEARCH, metric="weight", steps=(), finish=())
    skewed = np.diag(np.geomspace(1, 1e4, 20))[None]
    first, second = (choose_weights(weight, gram, 3, plain) for gram in (skewed, np.eye(20)[None]))
    np.testing.assert_array_equal(first[1].codes, second[1].codes)


def test_large_layers_are_compared_on_some_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weight, gram = rng.laplace(size=(2, 40, 30)), np.ones((2, 30))
    book, solution = choose_weights(weight, gram, 4, SEARCH)
    monkeypatch.setattr(weights, "SAMPLE", 1)
    seen = []
    monkeypatch.setitem(STEPS, "refit", lambda w, *rest: seen.append(w.shape[1]) or refit(w, *rest))
    sampled, other = choose_weights(weight, gram, 4, SEARCH)
    assert set(seen) == {16, 40}
    assert seen.count(40) <= 3 * SEARCH.steps.count("refit")
    assert other.codes.shape == solution.codes.shape
    assert abs((sampled.exponent or 0) - (book.exponent or 0)) <= 0.1
    assert other.error.sum() <= 1.02 * solution.error.sum()
