"""The statistics unit: factors of tokens of any width and codebook, with words at any pace, from
memory or as results."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination, Statistic
from nupes.arch.pipeline import RECIPROCAL_CYCLES
from nupes.model.codebook import Codebook, make_codebook, table_codebook
from nupes.model.planes import Planes, split_planes, wide_planes
from nupes.model.token_stage import moments, reciprocal, reciprocal_root
from nupes.rtl.datapath.statistics import Statistics
from nupes.rtl.interface import TokenFactor
from tests.rtl.testbench import load, simulate

EPSILON = 1234


def factor_of(levels: np.ndarray, statistic: Statistic) -> dict[str, int]:
    """Return the factor of a token by the model."""
    if statistic == Statistic.LARGEST:
        return {"offset": int(levels.max()), "mantissa": 1 << 15, "shift": 15}
    if statistic == Statistic.TOTAL:
        mantissa, shift = reciprocal(levels.sum())
        return {"offset": 0, "mantissa": int(mantissa), "shift": int(shift)}
    first, variance = moments(levels, statistic == Statistic.DEVIATION, EPSILON)
    mantissa, shift = reciprocal_root(variance[0])
    return {"offset": int(first[0]), "mantissa": int(mantissa), "shift": int(shift)}


IDLE = dict.fromkeys(("valid", "top", "whole", "first", "edge", "last", "end", "token"), 0)

Found = tuple[list[int], list[dict[str, int]]]
"""The cycles from each token's last word to its factor, and the factors."""


def begin(
    config: ArrayConfig, planes: Planes, channels: int, statistic: Statistic, size: int
) -> list[dict[str, Any]]:
    """Return the cycles that set the constants for tokens in parts of some size, and load the
    table."""
    linear = planes.count > 1
    constants = {
        "statistic": int(statistic), "linear": int(linear), "odd": planes.count % 2,
        "level_offset": planes.offset,
        "edge": channels - (-(-channels // size) - 1) * size, "channels": channels,
        "epsilon": 0 if statistic == Statistic.TOTAL else EPSILON, "table": 1,
    }  # fmt: skip
    table = {} if linear else dict(enumerate(planes.tables[0].tolist(), 1 << config.code_bits))
    return [{"constants": constants}, *load(Destination.ACTIVATION_TABLE, table)]


def finish(config: ArrayConfig, cycles: list[dict[str, Any]], ends: list[int]) -> Found:
    """Return what the unit makes of tokens whose last words are in some cycles."""
    names = ("valid", "end", "token", "factor")
    seen = simulate(Statistics(config), cycles, names, idle=config.issue_to_factor + 2)
    at = [cycle for cycle, valid in enumerate(seen["valid"]) if valid]
    assert [seen["token"][cycle] for cycle in at] == list(range(len(ends)))
    assert [cycle for cycle, end in enumerate(seen["end"]) if end] == at[-1:]
    layout = TokenFactor()
    views = [layout.from_bits(seen["factor"][cycle]) for cycle in at]
    found = [{name: view[name] for name in layout.members} for view in views]
    return [cycle - end for cycle, end in zip(at, ends, strict=True)], found


def measure(
    config: ArrayConfig, planes: Planes, codes: np.ndarray, statistic: Statistic, wait: float
) -> Found:
    """Stream tokens (t, n) of codes, with pauses."""
    chance, lanes = random.Random(len(codes)), config.lanes
    groups = -(-codes.shape[1] // lanes)
    cycles = begin(config, planes, codes.shape[1], statistic, lanes)
    garbage = [chance.getrandbits(config.code_bits) for _ in range(lanes)]
    word, ends = (garbage, garbage), []
    for token, row in enumerate(codes):
        padded = np.concatenate([row, np.full(groups * lanes - len(row), len(planes.digits) - 1)])
        for group in range(groups):
            digits = planes.digits[padded[group * lanes : (group + 1) * lanes]]
            for pair in reversed(range((planes.count + 1) // 2)):
                last = group == groups - 1 and pair == 0
                while chance.random() < wait:
                    cycles.append({"control": IDLE, "upper": word[0], "lower": word[1]})
                    word = garbage, garbage
                control = IDLE | {
                    "valid": 1, "top": pair == (planes.count - 1) // 2, "whole": pair == 0,
                    "first": group == 0, "edge": group == groups - 1, "last": last,
                    "end": last and token == len(codes) - 1, "token": token,
                }  # fmt: skip
                cycles.append({"control": control, "upper": word[0], "lower": word[1]})
                exists = 2 * pair + 1 < planes.count
                upper = digits[:, 2 * pair + 1].tolist() if exists else garbage
                word = upper, digits[:, 2 * pair].tolist()
        ends.append(len(cycles) - 1)
    cycles.append({"control": IDLE, "upper": word[0], "lower": word[1]})
    return finish(config, cycles, ends)


def gather(
    config: ArrayConfig, planes: Planes, codes: np.ndarray, statistic: Statistic, wait: float
) -> Found:
    """Give tokens (t, n) of codes as results, column tile by column tile, with pauses."""
    chance, cols = random.Random(len(codes)), config.cols
    columns = -(-codes.shape[1] // cols)
    cycles = begin(config, planes, codes.shape[1], statistic, cols)
    joined, ends = planes.joined[codes], []
    for column in range(columns):
        for token, row in enumerate(joined):
            values = [int(value) for value in row[column * cols : (column + 1) * cols]]
            values += [chance.getrandbits(16) for _ in range(cols - len(values))]
            last = column == columns - 1
            while chance.random() < wait:
                cycles.append({"gathered": IDLE})
            control = IDLE | {
                "valid": 1, "top": 1, "whole": 1, "first": column == 0, "edge": last, "last": last,
                "end": last and token == len(codes) - 1, "token": token,
            }  # fmt: skip
            cycles.append({"gathered": control, "digits": values})
            ends += [len(cycles) - 2] * last  # a cycle before they are there
    cycles.append({"gathered": IDLE})
    return finish(config, cycles, ends)


BOOKS = {
    "table": table_codebook([0, 1, 9, 60, 255], 3),
    "signed": table_codebook([-256, -3, 0, 1, 200], 3),
    "planes": make_codebook("uniform", 8, False),
    "wide": None,
}


@pytest.mark.parametrize("run", [measure, gather])
@pytest.mark.parametrize("statistic", Statistic)
@pytest.mark.parametrize("kind", BOOKS)
@pytest.mark.parametrize(
    ("code_bits", "wait"),
    [
        (4, 0.0), (3, 0.5), pytest.param(8, 0.2, marks=pytest.mark.slow),
        pytest.param(2, 0.0, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_factors_of_tokens(
    run: Callable[..., Found], statistic: Statistic, kind: str, code_bits: int, wait: float
) -> None:
    if statistic == Statistic.TOTAL and kind in ("signed", "wide"):
        return  # a sum of weights, which are no less than 0
    config = ArrayConfig(4, 2, code_bits=code_bits, attention=True, acc_depth=8)
    rng = np.random.default_rng(code_bits)
    book: Codebook | None = BOOKS[kind]
    planes = wide_planes(code_bits) if book is None else split_planes(book, code_bits)
    levels = np.arange(-32768, 32768) if book is None else book.levels.astype(np.int64)
    for channels in (1, 4, 11):
        codes = rng.integers(0, len(levels), (6, channels))
        codes[0] = 0
        codes[1] = len(levels) - 1
        delays, found = run(config, planes, codes, statistic, wait)
        assert delays == [config.issue_to_factor] * len(codes)
        assert found == [factor_of(levels[token], statistic) for token in codes]


def test_more_tokens_under_way_than_cycles_of_a_reciprocal() -> None:
    """A token ends in every cycle: as many factors are being made as the unit takes cycles."""
    config = ArrayConfig(2, 2, attention=True, acc_depth=64)
    planes = split_planes(BOOKS["signed"], config.code_bits)
    levels = BOOKS["signed"].levels.astype(np.int64)
    codes = np.random.default_rng(0).integers(0, len(levels), (RECIPROCAL_CYCLES + 12, 2))
    delays, found = measure(config, planes, codes, Statistic.DEVIATION, 0.0)
    assert delays == [config.issue_to_factor] * len(codes)
    assert found == [factor_of(levels[token], Statistic.DEVIATION) for token in codes]
