"""Chains of taps in the array, against sums of products step by step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.chains import band, direct
from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.array import Array
from tests.rtl.datapath.test_array import extremes, multiply, table_loads
from tests.rtl.datapath.test_cell import tables
from tests.rtl.strategies import SHAPES, configs
from tests.rtl.testbench import signed, simulate

CHAINED = tuple(shape for shape in (*SHAPES, (3, 3), (10, 5)) if ArrayConfig(*shape).chains)


def taken(config: ArrayConfig, steps: np.ndarray) -> np.ndarray:
    """Return what every cell multiplies (cols, rows) at the last one of some steps of a chain
    (3 or more, rows), by age: the definition."""
    operands = np.repeat(steps[-1][None], config.cols, axis=0)
    for lane in range(config.lanes):
        row, col = direct(lane, config)
        for age, other in enumerate(band(lane, config)):
            operands[col, other] = steps[-1 - age, row]
    return operands


@pytest.mark.parametrize("shape", [*CHAINED, (16, 16), (32, 8), (8, 64)], ids=str)
def test_no_cell_has_two_chains(shape: tuple[int, int]) -> None:
    config = ArrayConfig(*shape)
    cells = [
        (row, direct(lane, config)[1]) for lane in range(config.lanes) for row in band(lane, config)
    ]
    assert len(set(cells)) == len(cells) == 3 * config.lanes
    assert all(0 <= row < config.rows for row, _ in cells)


@pytest.mark.parametrize("shape", [(2, 2), (2, 8), (8, 2), (6, 3), (8, 4)], ids=str)
def test_small_arrays_have_none(shape: tuple[int, int]) -> None:
    assert not ArrayConfig(*shape).chains


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_tiles_with_and_without_chains(data: st.DataObject) -> None:
    """Steps come at any distance, and the mode changes between two tiles without a gap."""
    config = data.draw(configs(shapes=CHAINED))
    rows, cols = config.rows, config.cols
    seed = data.draw(st.integers(0, 2**32 - 1))
    generator, table = np.random.default_rng(seed), tables(config, seed)
    tiles = data.draw(
        st.lists(
            st.tuples(st.integers(1, 12), st.booleans(), st.sampled_from([0, 0.3])),
            min_size=1,
            max_size=5,
        )
    )
    length = 3 * sum(count + rows + 2 for count, _, _ in tiles) + 3 * (rows + cols)
    level_bits, weight_bits = config.level_entry_bits, config.cell.weight_bits
    levels = extremes(generator, level_bits, (length, rows))
    weight_bus = extremes(generator, weight_bits, (length, cols))
    row_load, swap, link = np.zeros((3, length), int)
    expected: dict[int, np.ndarray] = {}
    loaded = started = now = 0
    for count, chained, pause in tiles:
        load_at = max(loaded, started - 1)
        loaded = load_at + rows
        started = now = max(now, load_at + 2)
        weights = extremes(generator, weight_bits, (rows, cols))
        steps = np.zeros((0, rows), np.int64)
        for row in range(rows):
            row_load[load_at + row] |= 1 << row
            swap[started + row - 1] |= 1 << row
            weight_bus[load_at + row + np.arange(cols), np.arange(cols)] = weights[row]
        for _ in range(count):
            step = extremes(generator, level_bits, (rows,))
            steps = np.concatenate([steps, step[None]])
            levels[now + np.arange(rows), np.arange(rows)] = step
            link[now] = chained
            if not chained:
                expected[now] = multiply(config, step[None], weights, table)[0]
            elif len(steps) > 2:
                operands = taken(config, steps)
                sums = [multiply(config, operands[c][None], weights, table) for c in range(cols)]
                expected[now] = np.array([line[0, c] for c, line in enumerate(sums)])
            now += 1 + int(generator.geometric(0.5) if generator.random() < pause else 0)
    assert now + rows + cols < length
    cycles = [
        {
            "levels": levels[n].tolist(),
            "weights": weight_bus[n].tolist(),
            "row_load": int(row_load[n]),
            "swap": int(swap[n]),
            "link": int(link[n]),
        }
        for n in range(now + rows + cols)
    ]
    setup = table_loads(config, table)
    psums = simulate(Array(config), [*setup, *cycles], ("psums",))["psums"][len(setup) :]
    bits = config.psum_bits
    for at, line in expected.items():
        seen = [signed(psums[at + rows + col] >> (col * bits), bits) for col in range(cols)]
        assert seen == line.tolist()
