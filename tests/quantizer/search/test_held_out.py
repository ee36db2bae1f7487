"""What is fitted to few images is held back, and what is fitted to many is not."""

import numpy as np
import pytest
import torch

from nupes.model.codebook import make_codebook
from nupes.quantizer.search.held_out import are_usual, compensate, dampen, held_mean
from nupes.quantizer.search.moments import Moments, input_moments
from nupes.quantizer.search.solver import STEPS, output_error, round_to_nearest
from nupes.quantizer.stages.operators import Convolution

CHANNELS = 24
TRUTH = np.random.default_rng(9).normal(size=(CHANNELS, CHANNELS)) / CHANNELS**0.5


def operator(groups: int = 1) -> Convolution:
    """Return a 1x1 convolution."""
    weight = np.random.default_rng(0).normal(size=(16, CHANNELS // groups, 1, 1))
    return Convolution(weight, (1, 1), (0, 0, 0, 0), (1, 1), groups)


def values(images: int, seed: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return correlated maps and noisy ones, which are smaller."""
    rng = np.random.default_rng(seed)
    exact = np.einsum("ck,nkhw->nchw", TRUTH, rng.normal(size=(images, CHANNELS, 2, 2)))
    rounded = exact * 0.9 + noise * rng.normal(size=exact.shape)
    return torch.from_numpy(exact).float(), torch.from_numpy(rounded).float()


def held_out(op: Convolution, weight: np.ndarray, noise: float) -> float:
    """Return the error of weights on other images, but for the part that all of them have."""
    held = input_moments(op, *values(4000, 1, noise))
    shaped = op.weight.reshape(op.groups, -1, op.weight.shape[1])
    return float(((weight @ held.gram - 2 * shaped @ held.cross) * weight).sum())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("images", [2, 4, 8, 16, 400])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_compensation_does_not_harm_images_that_it_did_not_see(
    groups: int, images: int, noise: float
) -> None:
    op = operator(groups)
    weight = op.weight.reshape(groups, -1, CHANNELS // groups)
    found = compensate(weight, input_moments(op, *values(images, 0, noise)))
    before, after = (held_out(op, real, noise) for real in (weight, found))
    assert after <= before + 0.02 * abs(before)
    if images == 400:
        assert after < before - 0.005 * abs(before)


def test_a_single_image_compensates_nothing() -> None:
    op = operator()
    weight = op.weight.reshape(1, 16, CHANNELS)
    assert compensate(weight, input_moments(op, *values(1, 0, 0.1))) is weight


def test_diagonals_are_judged_too() -> None:
    op = operator()
    weight = op.weight.reshape(1, 16, CHANNELS)
    full = input_moments(op, *values(400, 0, 0.05))
    parts = [
        type(part)(
            part.total, part.x, part.q, *(np.einsum("gkk->gk", a) for a in (part.gram, part.cross))
        )
        for part in full.parts
    ]
    diagonals = (np.einsum("gkk->gk", a) for a in (full.gram, full.cross))
    moments = Moments(*diagonals, full.samples, tuple(parts))
    found = compensate(weight, moments)
    # Quantized inputs are nine tenths of the float ones.
    ratio = (found * weight).sum() / (weight * weight).sum()
    assert 1.05 < ratio < 1.12
    assert dampen(weight, moments, 4) is moments.gram


def test_means_are_weighted_and_as_far_as_images_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 2, 3, 3, generator=generator)
    weight = torch.rand(40, 2, 3, 3, generator=generator)
    expected = ((1 + noise) * weight).sum((0, 2, 3)) / weight.sum((0, 2, 3))
    np.testing.assert_allclose(held_mean(1 + noise, weight), expected, rtol=0.01)
    # A tenth of the deviation cannot be told from 0 with so few.
    pure = float(np.abs(held_mean(noise[:4], weight[:4])).max())
    plain = (noise[:4] * weight[:4]).sum((0, 2, 3)) / weight[:4].sum((0, 2, 3))
    assert pure <= 0.5 * float(plain.abs().max())


def test_a_single_image_tells_no_mean() -> None:
    assert not held_mean(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3)).any()
    assert not held_mean(torch.zeros(5, 2, 3, 3), torch.ones(5, 2, 3, 3)).any()


@pytest.mark.parametrize("images", [3, 5, 8])
def test_rounding_for_few_images_serves_others(images: int) -> None:
    op = operator()
    weight = op.weight.reshape(1, 16, CHANNELS)
    few = input_moments(op, *values(images, 0, 0.2))
    many = input_moments(op, *values(4000, 1, 0.2)).gram
    codebook = make_codebook("uniform", 4, True)
    errors = []
    for gram in (few.gram, dampen(weight, few, 4)):
        start = round_to_nearest(weight, gram, codebook)
        found = STEPS["gptq"](weight, gram, codebook, start)
        real = codebook.levels[found.codes] * found.scale[..., None]
        errors.append(float(output_error(real - weight, many).sum()))
    assert errors[1] <= 1.02 * errors[0]
    if images == 3:
        assert errors[1] < 0.95 * errors[0]


def test_many_images_lose_nothing_by_damping() -> None:
    op = operator()
    weight = op.weight.reshape(1, 16, CHANNELS)
    found = input_moments(op, *values(4000, 0, 0.2))
    codebook = make_codebook("uniform", 4, True)
    errors = []
    for gram in (found.gram, dampen(weight, found, 4)):
        start = round_to_nearest(weight, gram, codebook)
        solution = STEPS["cd"](weight, gram, codebook, STEPS["gptq"](weight, gram, codebook, start))
        real = codebook.levels[solution.codes] * solution.scale[..., None]
        errors.append(float(output_error(real - weight, found.gram).sum()))
    assert errors[1] <= 1.05 * errors[0]


def test_one_output_of_many_may_be_far_off() -> None:
    rng = np.random.default_rng(0)
    errors = torch.from_numpy(rng.normal(size=(8, 16, 12, 1))).float()
    weight = torch.ones(8, 16, 12, 1)
    assert are_usual(errors, weight).all()
    errors[:, :, 0] *= 30  # the first token of each
    found = are_usual(errors, weight)
    assert found.shape == (8, 1, 12, 1)
    assert not found[:, :, 0].any()
    assert found[:, :, 1:].all()
    weight[:, :, 1:] = 1e-4  # all that counts is large
    assert are_usual(errors, weight).all()
    assert are_usual(torch.zeros(2, 3, 4, 1), torch.ones(2, 3, 4, 1)).all()
