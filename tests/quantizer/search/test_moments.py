"""Moments of what layers read against sums over patches, and the weights that they lead to."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.quantizer.search.held_out import compensate
from nupes.quantizer.search.moments import LEAST, Moments, input_moments
from nupes.quantizer.stages.operators import Convolution

SHAPE = (16, 4, 7, 6)
"""A map so small that every output of every image is looked at."""


def convolution(groups: int, k: int = 3) -> Convolution:
    """Return a convolution of four channels with padding on one side."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 4 // groups, k, k))
    return Convolution(weight, (2, 1), (1, 0, 0, 1), (1, 1), groups)


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a map of values in 0..1, and one of the same values rounded."""
    generator = torch.Generator().manual_seed(seed)
    exact = torch.rand(SHAPE, generator=generator)
    rounded = (exact * 3).round() / 3
    return exact, rounded


def patches(op: Convolution, x: Tensor) -> np.ndarray:
    """Return what each output reads, (g, k, b * oh * ow) float64, image after image."""
    top, bottom, left, right = op.padding
    size = op.weight[0].size
    columns = F.unfold(
        F.pad(x, (left, right, top, bottom)), op.weight.shape[2:], op.dilation, 0, op.stride
    )
    columns = columns.reshape(len(x), op.groups, size, -1).permute(1, 2, 0, 3)
    return columns.reshape(op.groups, size, -1).double().numpy()


def covariance(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted covariance (k, k) of rows (k, m)."""
    weight = weight / weight.sum()
    a, b = (x - (x * weight).sum(1, keepdims=True) for x in (a, b))
    return (a * weight) @ b.T


def draw_importance(op: Convolution) -> Tensor:
    """Return importances (b, g, oh, ow) of which none is near 0."""
    x = torch.zeros(SHAPE)
    count = patches(op, x).shape[2] // len(x)
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(len(x), op.groups, count, 1, generator=generator)
    return (drawn + 0.3) ** 2


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_are_weighted_covariances(groups: int, weighted: bool) -> None:
    op = convolution(groups)
    exact, rounded = inputs()
    importance = draw_importance(op) if weighted else None
    found = input_moments(op, exact, rounded, importance)
    x, q = patches(op, exact), patches(op, rounded)
    assert found.samples == x.shape[2]
    for group in range(groups):
        weight = np.ones(x.shape[2])
        if importance is not None:
            weight = importance[:, group].flatten().double().numpy()
        for moments, left in ((found.gram, q), (found.cross, x)):
            expected = covariance(left[group], q[group], weight)
            off = ~np.eye(len(expected), dtype=bool)
            np.testing.assert_allclose(moments[group][off], expected[off], atol=2e-6)
            # The diagonal has a little more than the covariance.
            extra = np.diag(moments[group] - expected)
            assert (extra > 0).all()
            assert np.ptp(extra) < 2e-6


def test_unimportant_outputs_still_count_a_little() -> None:
    op = convolution(1)
    exact, rounded = inputs()
    importance = draw_importance(op)
    importance[1:] = 0
    found = input_moments(op, exact, rounded, importance)
    weight = importance / importance.mean()
    weight = weight.clamp_min(LEAST).flatten().double().numpy()
    expected = covariance(patches(op, rounded)[0], patches(op, rounded)[0], weight)
    off = ~np.eye(len(expected), dtype=bool)
    np.testing.assert_allclose(found.gram[0][off], expected[off], atol=2e-6)


def test_without_any_importance_all_outputs_count_equally() -> None:
    op = convolution(2)
    exact, rounded = inputs()
    nothing = torch.zeros_like(draw_importance(op))
    found, plain = (input_moments(op, exact, rounded, x) for x in (nothing, None))
    np.testing.assert_array_equal(found.gram, plain.gram)
    np.testing.assert_array_equal(found.cross, plain.cross)


def test_small_changes_around_a_large_mean_are_not_lost() -> None:
    op = convolution(1, k=1)
    exact, _ = inputs()
    x = 1 + 1e-4 * exact
    gram = input_moments(op, x, x).gram[0]
    assert np.linalg.eigvalsh(gram).min() > 0
    columns = patches(op, x)[0]
    expected = np.diag(covariance(columns, columns, np.ones(columns.shape[1])))
    # Padding makes outputs that read zeros; the others vary by 1e-4.
    np.testing.assert_allclose(np.diag(gram), expected, rtol=1e-2)


def test_compensated_weights_reproduce_the_float_outputs_better_where_it_counts() -> None:
    op = convolution(1)
    exact, rounded = inputs()
    importance = draw_importance(op) ** 4
    weight = op.weight.reshape(1, 4, -1)
    x, q = patches(op, exact)[0], patches(op, rounded)[0]

    def error(real: np.ndarray, count: np.ndarray) -> float:
        difference = weight[0] @ x - real @ q
        difference -= (difference * count).sum(1, keepdims=True) / count.sum()
        return float((np.square(difference) * count).sum() / count.sum())

    counts = importance.flatten().double().numpy()
    moments: list[Moments] = [input_moments(op, exact, rounded, w) for w in (importance, None)]
    weighted, plain = (compensate(weight, m)[0] for m in moments)
    assert error(weighted, counts) < error(plain, counts) < error(weight[0], counts)
    equal = np.ones_like(counts)
    assert error(plain, equal) < error(weighted, equal)
