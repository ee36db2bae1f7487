"""Codes that are learned: soft rounding, gradients, and hardening to what it was given."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import Codebook, make_codebook, table_codebook
from nupes.quantizer.codes.candidates import make_levels
from nupes.quantizer.codes.decisions import WeightCode, round_values
from nupes.quantizer.learning.soft import (
    AdaRoundWeight,
    SoftActivation,
    SoftWeight,
    soft_quantize,
)
from nupes.quantizer.search.tensors import TensorCode

CODEBOOKS = [
    make_codebook("uniform", 4, True),
    make_codebook("power", 2, True, 127, 0.5),
    make_codebook("power", 4, True, 127, 0.35),  # levels merge
    make_codebook("power-midrise", 2, True, 127, 0.6),
    make_codebook("power", 4, False, 255, 0.5),
    make_levels(4, True, 3, 0.7),
    make_levels(4, True, 6, 0.25),  # levels merge
    table_codebook([-100, -3, 0, 50, 120], 3),
]


def weight_of(codebook: Codebook, seed: int) -> tuple[np.ndarray, WeightCode]:
    """Return real weights and codes for them, not all of them the nearest."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(3, 2, 2, 2))
    codes = rng.integers(0, len(codebook), weight.shape).astype(np.uint8)
    return weight, WeightCode(codebook, codes, rng.uniform(0.01, 0.02, 3))


@pytest.mark.parametrize("beta", [0.3, 4.0, 50.0])
def test_soft_rounding_keeps_whole_positions_and_halves(beta: float) -> None:
    whole = torch.arange(-3.0, 4.0)
    torch.testing.assert_close(soft_quantize(whole, beta), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(soft_quantize(whole + 0.5, beta), whole + 0.5, atol=1e-5, rtol=0)


def test_soft_rounding_goes_from_identity_to_rounding() -> None:
    position = torch.linspace(0.0, 3.0, 50)
    torch.testing.assert_close(soft_quantize(position, 1e-3), position, atol=1e-4, rtol=0)
    sharp = soft_quantize(position, 1e4)
    away = (position - position.floor() - 0.5).abs() > 0.01
    torch.testing.assert_close(sharp[away], position.round()[away], atol=1e-3, rtol=0)


@pytest.mark.parametrize("codebook", CODEBOOKS, ids=lambda book: f"{book.family}{book.bits}")
@pytest.mark.parametrize("kind", [SoftWeight, AdaRoundWeight])
@given(seed=st.integers(0, 2**31))
def test_a_weight_hardens_to_the_codes_it_was_given(
    codebook: Codebook, kind: type[SoftWeight], seed: int
) -> None:
    weight, code = weight_of(codebook, seed)
    hard = kind(weight, code, learn_exponent=True).harden()
    assert hard.codebook == codebook
    np.testing.assert_array_equal(hard.codes, code.codes)
    np.testing.assert_allclose(hard.scale, code.scale, rtol=1e-5)


@pytest.mark.parametrize("codebook", CODEBOOKS, ids=lambda book: f"{book.family}{book.bits}")
def test_gradients_are_finite_and_reach_everything(codebook: Codebook) -> None:
    weight, code = weight_of(codebook, 0)
    soft = SoftWeight(weight, code, learn_exponent=True)
    for beta in (1.0, 50.0, None):
        soft.zero_grad()
        (soft(beta) * torch.randn(weight.shape)).sum().backward()
        for name, parameter in soft.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            # Three symmetric levels are the same for every exponent.
            if not (name == "levels.exponent" and len(codebook) == 3):
                assert parameter.grad.abs().sum() > 0, name


def test_a_position_may_leave_its_floor_and_ceil() -> None:
    codebook = make_codebook("uniform", 3, True)
    weight = np.zeros((1, 1, 1, 1))
    soft = SoftWeight(weight, WeightCode(codebook, np.array([[[[3]]]]), np.ones(1)), False)
    optimizer = torch.optim.Adam([soft.position], 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        (soft(1.0) - 3).square().sum().backward()
        optimizer.step()
    assert soft.harden().codes.item() == 6


@pytest.mark.parametrize("codebook", CODEBOOKS, ids=lambda book: f"{book.family}{book.bits}")
def test_an_activation_rounds_and_hardens_to_its_code(codebook: Codebook) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 2
    code = TensorCode(codebook, 0.013, codebook.exponent)
    soft = SoftActivation(code, learn_exponent=True)
    found = soft(x)
    expected = round_values(x, code)
    if len(soft.levels) == len(codebook):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    hard = soft.harden()
    assert hard.codebook == codebook
    assert hard.scale == pytest.approx(code.scale, rel=1e-5)


def test_activation_gradients_find_range_and_exponent() -> None:
    """Learning by gradient ends near the best of a grid."""
    generator = torch.Generator().manual_seed(0)
    x = torch.distributions.Exponential(1.0).icdf(torch.rand(20_000, generator=generator))

    def error(exponent: float, top: float) -> float:
        codebook = make_levels(4, False, 0, exponent)
        return float(
            (round_values(x, TensorCode(codebook, top / 255, exponent)) - x).square().mean()
        )

    best = min(error(a, top) for a in np.arange(0.3, 1.2, 0.1) for top in np.arange(2, 9, 0.5))
    start = TensorCode(make_levels(4, False, 0, 1.0), 2.5 / 255, 1.0)
    soft = SoftActivation(start, learn_exponent=True)
    optimizer = torch.optim.Adam(soft.parameters(), 2e-2)
    for _ in range(200):
        optimizer.zero_grad()
        (soft(x) - x).square().mean().backward()
        optimizer.step()
    hard = soft.harden()
    found = float((round_values(x, hard) - x).square().mean())
    assert found < 0.6 * float((round_values(x, start) - x).square().mean())
    assert found < 1.15 * best
