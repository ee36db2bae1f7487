"""The threshold search, against ``model.arithmetic.encode``."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.model.arithmetic import Y_RANGE, encode
from nupes.rtl.datapath.encoder import Encoder
from tests.rtl.strategies import signed_integers
from tests.rtl.testbench import load, signed, simulate


def heap(thresholds: list[int]) -> dict[int, int]:
    """Return a search tree of ``2**depth - 1`` sorted thresholds: node to threshold, root 1."""
    nodes = {}
    pending = [(1, 0, len(thresholds))]
    while pending:
        node, start, stop = pending.pop()
        if start < stop:
            middle = (start + stop) // 2
            nodes[node] = thresholds[middle]
            pending += [(2 * node, start, middle), (2 * node + 1, middle + 1, stop)]
    return nodes


def tree_loads(config: ArrayConfig, slot: int, thresholds: list[int], codes: list[int]) -> list:
    """Return the cycles that load a search tree and its map into a slot."""
    base = slot << config.encoder_stages
    return [
        *load(Destination.THRESHOLD, {base | n: t for n, t in heap(thresholds).items()}),
        *load(Destination.MAP, {base | n: code for n, code in enumerate(codes)}),
    ]


def run(config: ArrayConfig, loads: list, jobs: list[tuple[int, int, int]]) -> list[int]:
    """Return the results of jobs (slot, depth, y), one per cycle."""
    cycles: list[dict] = [{} for _ in range(len(jobs) + 1)]
    for n, (slot, depth, y) in enumerate(jobs):
        cycles[n] |= {"slot": slot, "depth": depth}
        cycles[n + 1] |= {"y": y}
    stages = config.encoder_stages
    seen = simulate(Encoder(config), [*loads, *cycles], ("result",), idle=stages)["result"]
    return seen[len(loads) + 1 + stages :]


@pytest.mark.parametrize("depth", range(1, 10))
def test_every_depth(depth: int) -> None:
    config = ArrayConfig(rows=2, cols=2, code_bits=4, tensor_bits=8)
    generator = np.random.default_rng(depth)
    thresholds = np.sort(generator.integers(-32768, 32768, (1 << depth) - 1))
    codes = generator.integers(0, 1 << config.joined_bits, 1 << depth)
    y = np.concatenate([thresholds[:20], thresholds[-20:] - 1, Y_RANGE, [0]])
    y = np.clip(y, *Y_RANGE)
    loads = tree_loads(config, 1, thresholds.tolist(), codes.tolist())
    seen = run(config, loads, [(1, depth, int(value)) for value in y])
    assert seen == encode(y, thresholds, codes).tolist()


def test_unused_thresholds_repeat_the_last_code() -> None:
    config = ArrayConfig(rows=2, cols=2, code_bits=4, tensor_bits=4)
    thresholds = np.array([-5, 9] + [32767] * 5)
    codes = np.array([0, 1, 2, 2, 2, 2, 2, 2])
    y = np.array([-32768, -6, -5, 8, 9, 32766, 32767])
    loads = tree_loads(config, 0, thresholds.tolist(), codes.tolist())
    assert run(config, loads, [(0, 3, int(value)) for value in y]) == [0, 0, 1, 1, 2, 2, 2]


def test_depth_0_is_y() -> None:
    config = ArrayConfig(rows=2, cols=2, code_bits=2, tensor_bits=2)
    values = [-32768, -1, 0, 1, 32767]
    seen = run(config, [], [(0, 0, value) for value in values])
    assert [signed(value, 16) for value in seen] == values


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_two_trees_of_any_depth(data: st.DataObject) -> None:
    """Slot and depth may change from one ``y`` to the next."""
    code_bits = data.draw(st.integers(2, 8))
    tensor_bits = data.draw(st.integers(code_bits, 8))
    config = ArrayConfig(rows=2, cols=2, code_bits=code_bits, tensor_bits=tensor_bits)
    trees, loads = [], []
    for slot in range(2):
        depth = data.draw(st.integers(1, min(5, config.encoder_stages)))
        size = 1 << depth
        values = data.draw(st.lists(signed_integers(16), min_size=size - 1, max_size=size - 1))
        code = st.integers(0, (1 << config.joined_bits) - 1)
        codes = data.draw(st.lists(code, min_size=size, max_size=size))
        trees.append((depth, np.sort(values), np.array(codes)))
        loads += tree_loads(config, slot, sorted(values), codes)
    # A third choice, of depth 0, lets y through.
    picks = data.draw(
        st.lists(st.tuples(st.integers(0, 2), signed_integers(16)), min_size=1, max_size=40)
    )
    jobs = [(pick % 2, trees[pick][0] if pick < 2 else 0, y) for pick, y in picks]
    expected = [
        int(encode(np.array(y), *trees[pick][1:])) if pick < 2 else y & 0xFFFF for pick, y in picks
    ]
    assert run(config, loads, jobs) == expected
