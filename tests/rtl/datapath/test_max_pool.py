"""The max-pool unit: the maximum of codes, padding skipped, as in ``model.operators.max_pool``."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.codebook import make_codebook
from nupes.model.operators import MaxPool
from nupes.model.planes import split_planes
from nupes.rtl.datapath.max_pool import PoolUnit
from tests.rtl.strategies import SHAPES
from tests.rtl.testbench import simulate


def pixel_cycles(digits: np.ndarray, pads: np.ndarray, end: bool) -> tuple[list[dict], list]:
    """Return controls and words of one window: digits (taps, planes, lanes), low plane first."""
    taps, planes, _ = digits.shape
    controls, words = [], []
    for tap in range(taps):
        for plane in reversed(range(planes)):
            last = tap == taps - 1 and plane == 0
            controls.append(
                {
                    "valid": 1,
                    "first": int(tap == 0 and plane == planes - 1),
                    "last": int(last),
                    "top": int(plane == planes - 1),
                    "pad": int(pads[tap]),
                    "end": int(last and end),
                }
            )
            words.append(digits[tap, plane].tolist())
    return controls, words


def run(config: ArrayConfig, controls: list[dict], words: list) -> tuple[list, list[int]]:
    """Return the joined digits of every pixel and the bits of ``end`` with them."""
    idle = dict.fromkeys(("valid", "first", "last", "top", "pad", "end"), 0)
    cycles: list[dict] = [{"control": control} for control in [*controls, idle]]
    for cycle, word in zip(cycles[1:], words, strict=True):
        cycle["word"] = word
    watched = ("valid", "end", "joined")
    seen = simulate(PoolUnit(config), cycles, watched, idle=config.issue_to_pool)
    # A pixel's maximum is there exactly issue_to_pool cycles after its last word.
    valid = [control["last"] & control["valid"] for control in controls]
    assert seen["valid"][config.issue_to_pool :][: len(valid)] == valid
    mask = (1 << config.joined_bits) - 1
    joined = [
        [bits >> (lane * config.joined_bits) & mask for lane in range(config.lanes)]
        for bits, ok in zip(seen["joined"], seen["valid"], strict=True)
        if ok
    ]
    return joined, [end for end, ok in zip(seen["end"], seen["valid"], strict=True) if ok]


@pytest.mark.parametrize("code_bits", [2, 4, 8])
def test_a_padded_window(code_bits: int) -> None:
    config = ArrayConfig(rows=4, cols=4, code_bits=code_bits)
    planes = split_planes(make_codebook("power", 8, True, 200, 0.5), code_bits)
    codes = np.random.default_rng(0).integers(0, len(planes.digits), (1, 5, 5, config.lanes))
    op = MaxPool(kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    expected = planes.joined[op.copy(codes.astype(np.uint8))]
    padded = np.pad(codes, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)[0]
    controls, words = [], []
    for y in range(3):
        for x in range(3):
            window = padded[2 * y : 2 * y + 3, 2 * x : 2 * x + 3].reshape(9, -1)
            digits = planes.digits[window].transpose(0, 2, 1)
            more = pixel_cycles(digits, window[:, 0] < 0, (y, x) == (2, 2))
            controls += more[0]
            words += more[1]
    joined, ends = run(config, controls, words)
    assert np.array_equal(np.array(joined).reshape(expected.shape), expected)
    assert ends == [0] * 8 + [1]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_windows(data: st.DataObject) -> None:
    """Any digits, windows back to back or with bubbles inside."""
    rows, cols = data.draw(st.sampled_from(SHAPES))
    config = ArrayConfig(rows=rows, cols=cols, code_bits=data.draw(st.integers(2, 8)))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    planes = data.draw(st.integers(1, config.planes))
    controls, words, expected = [], [], []
    for _ in range(data.draw(st.integers(1, 6))):
        taps = data.draw(st.integers(1, 5))
        digits = generator.integers(0, 1 << config.code_bits, (taps, planes, config.lanes))
        pads = generator.random(taps) < 0.3
        pads[data.draw(st.integers(0, taps - 1))] = False
        weights = 1 << (config.code_bits * np.arange(planes))
        joined = (digits * weights[:, None]).sum(axis=1)
        expected.append(joined[~pads].max(axis=0).tolist())
        for control, word in zip(*pixel_cycles(digits, pads, False), strict=True):
            controls.append(control)
            words.append(word)
            if data.draw(st.integers(0, 9)) == 0:
                # A bubble holds nothing; its word is whatever the memory shows.
                controls.append({**control, "valid": 0, "first": 0, "top": 0, "pad": 0})
                words.append([0] * config.lanes)
    assert run(config, controls, words)[0] == expected
