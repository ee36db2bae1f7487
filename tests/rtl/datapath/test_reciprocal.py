"""The reciprocal unit against the model, at its latency, one token per cycle."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.isa import Statistic
from nupes.arch.pipeline import RECIPROCAL_CYCLES
from nupes.model.token_stage import reciprocal, reciprocal_root
from nupes.rtl.datapath.reciprocal import Reciprocal
from tests.rtl.testbench import simulate

SUMS = st.integers(0, 2**31 - 1) | st.integers(0, 9) | st.builds(lambda p: 2**p, st.integers(0, 30))
ROOTS = st.integers(1, 2**59 - 1) | st.integers(1, 9) | st.builds(
    lambda p, more: min(max(2**p + more, 1), 2**59 - 1), st.integers(0, 59), st.integers(-2, 2)
)  # fmt: skip


def cycles_of(statistic: Statistic, constants: dict[str, int], sums: list[dict]) -> list[dict]:
    """Return the cycles that start one token after the other, each as early as it may be."""
    fields: dict[str, Any] = {"statistic": int(statistic), **constants}
    return [fields | {"sums": token} for token in sums]


def factors(statistic: Statistic, constants: dict[str, int], sums: list[dict]) -> list[dict]:
    """Return what the unit gives for each token, each exactly so many cycles after its start."""
    cycles = cycles_of(statistic, constants, sums)
    names = ("mantissa", "shift")
    seen = simulate(Reciprocal(), cycles, names, idle=RECIPROCAL_CYCLES)
    numbers = zip(*(seen[name][RECIPROCAL_CYCLES:] for name in names), strict=True)
    return [dict(zip(names, item, strict=True)) for item in numbers]


@settings(max_examples=20)
@given(st.lists(SUMS, min_size=1, max_size=8))
def test_reciprocals_of_sums(totals: list[int]) -> None:
    found = factors(Statistic.TOTAL, {"epsilon": 0}, [{"total": total} for total in totals])
    mantissas, shifts = reciprocal(np.array(totals))
    assert [item["mantissa"] for item in found] == mantissas.tolist()
    assert [item["shift"] for item in found] == shifts.tolist()


@settings(max_examples=20)
@given(st.lists(ROOTS, min_size=1, max_size=8))
def test_reciprocal_roots(variances: list[int]) -> None:
    """Of any number: one channel, the square split from what epsilon adds."""
    for variance in variances:
        squares = min(variance - 1, 2**30)
        epsilon = min(variance - squares, 2**58 - 1)
        n = 1
        if squares + epsilon != variance:
            n, epsilon = 2**14, variance % 2**14 + 2**14
            squares = (variance - epsilon) // n
        total = n * squares + epsilon
        constants = {"channels": n, "epsilon": epsilon}
        (found,) = factors(Statistic.SQUARES, constants, [{"squares": squares, "total": -5}])
        mantissa, shift = reciprocal_root(np.array(total))
        want = {"mantissa": int(mantissa), "shift": int(shift)}
        assert found == want


@pytest.mark.parametrize("n", [1, 2, 7, 192, 16384])
def test_deviations(n: int) -> None:
    rng = np.random.default_rng(n)
    tokens = [rng.integers(-spread, spread, n) for spread in (1, 5, 300, 32768)]
    tokens.append(np.full(n, -32768))
    sums = [{"total": int(x.sum()), "squares": int((x * x).sum())} for x in tokens]
    found = factors(Statistic.DEVIATION, {"channels": n, "epsilon": 77}, sums)
    for token, item in zip(sums, found, strict=True):
        mantissa, shift = reciprocal_root(np.array(n * token["squares"] - token["total"] ** 2 + 77))
        want = {"mantissa": int(mantissa), "shift": int(shift)}
        assert item == want


def test_the_factor_of_the_largest_is_1() -> None:
    found = factors(Statistic.LARGEST, {}, [{"largest": -5, "total": 9}, {"squares": 2**40}])
    assert found == [{"mantissa": 32768, "shift": 15}] * 2
