"""The closest vector: what the weights that follow make up for, and the orders in which they do."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import table_codebook
from nupes.quantizer.search import closest
from nupes.quantizer.search.closest import RIDGE, decode, pivots
from nupes.quantizer.search.solver import output_error
from tests.networks import many
from tests.quantizer.search.problems import CODEBOOKS, moments, problems


def orders(gram: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random order (g, k) for each group."""
    return rng.permuted(np.tile(np.arange(gram.shape[1]), (len(gram), 1)), axis=1)


@many(50)
@given(problems())
def test_what_follows_makes_up_for_each_error(problem) -> None:
    weight, gram, codebook = problem
    if gram.ndim == 2:
        gram = gram[:, :, None] * np.eye(gram.shape[1])
    rng = np.random.default_rng(1)
    order, scale = orders(gram, rng), rng.uniform(0.01, 0.05, weight.shape[:2])
    codes = decode(weight, gram, codebook, scale, order, 1)
    for g, n in np.ndindex(weight.shape[:2]):
        matrix = gram[g] + RIDGE * gram[g].diagonal().max() * np.eye(len(gram[g]))
        error = np.zeros(len(matrix))
        for place, k in enumerate(order[g]):
            done, rest = order[g, :place], order[g, place:]
            # Least error over real values of all the weights that are left.
            made_up = np.linalg.solve(
                matrix[np.ix_(rest, rest)], -matrix[np.ix_(rest, done)] @ error[done]
            )
            wish = (weight[g, n, k] + made_up[0]) / scale[g, n]
            distance = np.abs(codebook.levels - wish)
            assert distance[codes[g, n, k]] <= distance.min() + 1e-6 * (1 + np.abs(wish))
            error[k] = codebook.levels[codes[g, n, k]] * scale[g, n] - weight[g, n, k]


@many(30)
@given(st.integers(0, 2**31), st.integers(1, 2), st.integers(1, 7))
def test_enough_beginnings_find_the_best_codes(seed: int, groups: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    codebook = table_codebook([-3, 5], 1)
    weight, gram = rng.normal(size=(groups, 3, size)), moments(groups, size, rng)
    scale = rng.uniform(0.1, 0.5, weight.shape[:2])
    codes = decode(weight, gram, codebook, scale, orders(gram, rng), 2**size)
    found = output_error(codebook.levels[codes] * scale[..., None] - weight, gram)
    every = np.array(list(itertools.product(codebook.levels, repeat=size)))
    errors = [
        output_error(np.broadcast_to(levels, weight.shape) * scale[..., None] - weight, gram)
        for levels in every
    ]
    np.testing.assert_allclose(found, np.min(errors, axis=0), rtol=1e-3, atol=1e-6)


@many(30)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 9))
def test_orders_end_with_the_weights_of_least_moment(seed: int, groups: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    gram = moments(groups, size, rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closest, "NOISE", 0.0)
        order = pivots(gram, rng)
    for g in range(groups):
        left = list(range(size))
        for last in order[g, ::-1]:
            after = [k for k in range(size) if k not in left]
            # What is left of each moment when those that follow make up.
            given_after = [
                1 / np.linalg.inv(gram[g][np.ix_([k, *after], [k, *after])])[0, 0] for k in left
            ]
            assert given_after[left.index(last)] <= min(given_after) * (1 + 1e-3)
            left.remove(last)


def test_noise_makes_several_orders() -> None:
    rng = np.random.default_rng(0)
    gram = moments(2, 12, rng)
    found = [pivots(gram, rng) for _ in range(5)]
    assert len({order.tobytes() for order in found}) == 5
    for order in found:
        np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(12), (2, 1)))


def test_channels_are_decoded_alike_in_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weight, gram = rng.laplace(size=(2, 7, 9)), moments(2, 9, rng)
    order, scale = orders(gram, rng), np.full((2, 7), 0.02)
    expected = decode(weight, gram, CODEBOOKS[2], scale, order, 4)
    monkeypatch.setattr(closest, "BEGINNINGS", 12)
    np.testing.assert_array_equal(decode(weight, gram, CODEBOOKS[2], scale, order, 4), expected)


@pytest.mark.parametrize("width", [1, 4])
def test_blocks_of_any_size_give_the_same_codes(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    rng = np.random.default_rng(0)
    for groups in (1, 3):
        weight, gram = rng.laplace(size=(groups, 5, 11)), moments(groups, 11, rng)
        scale = np.full((groups, 5), 0.02)
        found = set()
        for block in (1, 4, 11, 32):
            monkeypatch.setattr(closest, "BLOCK", block)
            order = pivots(gram, np.random.default_rng(1))
            codes = decode(weight, gram, CODEBOOKS[2], scale, order, width)
            found.add(order.tobytes() + codes.tobytes())
        assert len(found) == 1


def test_moments_that_rounding_made_indefinite_are_no_trouble() -> None:
    rng = np.random.default_rng(0)
    weight, order = rng.laplace(size=(1, 3, 6)), np.arange(6)[None]
    half = rng.normal(size=(6, 6))
    for gram in (np.zeros((1, 6, 6)), 1e-20 * (half + half.T)[None]):
        codes = decode(weight, gram, CODEBOOKS[1], np.full((1, 3), 0.5), order, 1)
        assert codes.shape == weight.shape
        np.testing.assert_array_equal(np.sort(pivots(gram, rng)), order)
    zero = decode(weight, np.zeros((1, 6, 6)), CODEBOOKS[1], np.full((1, 3), 0.5), order, 1)
    np.testing.assert_array_equal(zero, CODEBOOKS[1].nearest(weight / 0.5))
