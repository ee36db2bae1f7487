"""The requantizer and the residual term, against the arithmetic of the contract."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.model.arithmetic import ACC_BITS, BIAS_BITS, MULT_MAX, requantize, residual_term
from nupes.rtl.datapath.requantizer import Requantizer
from nupes.rtl.datapath.residual_term import ResidualTerm
from tests.rtl.strategies import configs, signed_integers, unsigned_integers
from tests.rtl.testbench import load, simulate

CONFIG = ArrayConfig(rows=2, cols=2)
TERM_BITS = 25

Job = tuple[int, int, int, int, int]


def run(jobs: list[Job]) -> list[int]:
    """Return ``y`` of jobs (total, mult, bias, shift, term), one per cycle."""
    cycles: list[dict] = [{} for _ in range(len(jobs) + 3)]
    for n, (total, mult, bias, shift, term) in enumerate(jobs):
        cycles[n] |= {"total": total, "scale": {"mult": mult, "bias": bias}, "shift": shift}
        cycles[n + 3] |= {"term": term}
    return simulate(Requantizer(CONFIG), cycles, ("y",), idle=1)["y"][4:]


def oracle(jobs: list[Job]) -> list[int]:
    """Return what ``model.arithmetic.requantize`` makes of the jobs."""
    total, mult, bias, shift, term = np.array(jobs, np.int64).T
    return requantize(total, mult, bias, shift, term).tolist()


def test_corners() -> None:
    """Every combination of extreme operands, every shift."""
    jobs = [
        (total, mult, bias, shift, term)
        for total in (-(1 << (ACC_BITS - 1)), -1, 0, (1 << (ACC_BITS - 1)) - 1)
        for mult in (0, MULT_MAX)
        for bias in (-(1 << (BIAS_BITS - 1)), 0, (1 << (BIAS_BITS - 1)) - 1)
        for shift in (1, 16, 31)
        for term in (-(1 << (TERM_BITS - 1)), 0, (1 << (TERM_BITS - 1)) - 1)
    ]
    jobs += [(12345, 32768, -7, shift, 0) for shift in range(1, 32)]
    assert run(jobs) == oracle(jobs)


def test_saturation_is_the_last_step() -> None:
    """A sum far outside the range comes back through the residual term."""
    jobs = [(40000, 2, 1, 1, -30000), (-40000, 2, 1, 1, 30000), (40000, 2, 1, 1, 0)]
    assert run(jobs) == oracle(jobs) == [10000, -10000, 32767]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            signed_integers(ACC_BITS),
            unsigned_integers(16),
            signed_integers(BIAS_BITS) | signed_integers(24),
            st.integers(1, 31),
            signed_integers(TERM_BITS) | signed_integers(17),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_any_operands(jobs: list[Job]) -> None:
    assert run(jobs) == oracle(jobs)


@st.composite
def residual_jobs(draw: st.DrawFn) -> tuple[ArrayConfig, dict[int, int], list[dict]]:
    """Return a configuration, residual tables, and jobs whose digits stand for levels."""
    config = draw(configs())
    radix, level_bits = 1 << config.code_bits, config.activation_level_bits
    level = signed_integers(level_bits)
    table = {at: draw(level) for at in range(draw(st.sampled_from([0, radix, 2 * radix])))}
    jobs = []
    for _ in range(draw(st.integers(1, 40))):
        linear = draw(st.integers(0, 1))
        low = draw(level)
        high = (1 << (level_bits - 1)) - 1
        joined = draw(st.integers(0, high - low if linear else radix - 1))
        slot = draw(st.integers(0, config.table_slots - 1))
        jobs.append(
            {
                "joined": joined,
                "level": low + joined if linear else table.get(slot * radix + joined, 0),
                "parameters": {
                    "shift": 0,
                    "residual_shift": draw(st.integers(1, 31)),
                    "residual_slot": slot,
                    "linear": linear,
                    "negative": 0,
                    "residual_mult": draw(unsigned_integers(16)),
                    "residual_offset": low,
                },
            }
        )
    return config, table, jobs


@settings(max_examples=25, deadline=None)
@given(residual_jobs())
def test_residual_term(case: tuple[ArrayConfig, dict[int, int], list[dict]]) -> None:
    config, table, jobs = case
    writes = load(Destination.RESIDUAL_TABLE, table)
    cycles = [{"joined": job["joined"], "parameters": job["parameters"]} for job in jobs]
    seen = simulate(ResidualTerm(config), [*writes, *cycles], ("term",), idle=3)["term"]
    expected = [
        int(
            residual_term(
                job["level"],
                job["parameters"]["residual_mult"],
                job["parameters"]["residual_shift"],
            )
        )
        for job in jobs
    ]
    assert seen[len(writes) + 3 :] == expected


def test_a_mult_of_0_is_no_residual() -> None:
    """Whatever the digits and the shift, 0 included."""
    zero = dict.fromkeys(("shift", "residual_slot", "linear", "negative", "residual_mult"), 0)
    cycles = [
        {"joined": 77, "parameters": zero | {"residual_shift": shift, "residual_offset": -3}}
        for shift in range(32)
    ]
    assert not any(simulate(ResidualTerm(CONFIG), cycles, ("term",), idle=3)["term"])
