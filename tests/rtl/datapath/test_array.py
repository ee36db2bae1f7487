"""The systolic array, against an exact matrix product."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.rtl.datapath.array import Array
from tests.rtl.datapath.test_cell import reference, tables
from tests.rtl.strategies import configs
from tests.rtl.testbench import load, signed, simulate


def multiply(
    config: ArrayConfig, left: np.ndarray, right: np.ndarray, table: np.ndarray
) -> np.ndarray:
    """Return the sums over k of the products of level operands (m, k) and weights (k, n)."""
    product = np.vectorize(reference(config, table), otypes=[np.int64])
    return product(right[None], left[..., None]).sum(axis=1)


def table_loads(config: ArrayConfig, table: np.ndarray) -> list[dict[str, int]]:
    """Return the cycles that load a product table into pair cells."""
    if config.mac != "pair":
        return []
    return load(Destination.PRODUCT, dict(enumerate(table.reshape(-1).tolist())))


def extremes(generator: np.random.Generator, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return signed integers, half of them the most negative or most positive one."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    anything = generator.integers(low, high + 1, shape)
    return np.where(
        generator.random(shape) < 0.5, anything, generator.choice(np.array([low, high]), shape)
    )


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_tiles_back_to_back(data: st.DataObject) -> None:
    """Weights of the next tile load as early as the cycle table allows, while one streams."""
    config = data.draw(configs())
    rows, cols = config.rows, config.cols
    seed = data.draw(st.integers(0, 2**32 - 1))
    generator, table = np.random.default_rng(seed), tables(config, seed)
    tiles = data.draw(
        st.lists(
            st.tuples(st.integers(1, 12), st.integers(0, 2), st.integers(0, 2)),
            min_size=1,
            max_size=5,
        )
    )
    length = sum(count + early + late + rows + 1 for count, early, late in tiles) + rows + cols
    level_bits, weight_bits = config.level_entry_bits, config.cell.weight_bits
    levels = extremes(generator, level_bits, (length, rows))
    weight_bus = extremes(generator, weight_bits, (length, cols))
    row_load, swap = np.zeros(length, int), np.zeros(length, int)
    expected = []
    loaded = started = ended = 0
    for count, early, late in tiles:
        # A weight may be overwritten from the cycle on in which its cell takes the one before,
        # which is the one before its first product.
        load_at = max(loaded, started - 1) + early
        loaded = load_at + rows
        started = max(ended, load_at + 2) + late
        ended = started + count
        weights = extremes(generator, weight_bits, (rows, cols))
        vectors = extremes(generator, level_bits, (count, rows))
        for row in range(rows):
            row_load[load_at + row] |= 1 << row
            swap[started + row - 1] |= 1 << row
            levels[started + row : ended + row, row] = vectors[:, row]
            for col in range(cols):
                weight_bus[load_at + row + col, col] = weights[row, col]
        expected.append((started, multiply(config, vectors, weights, table)))
    cycles = [
        {
            "levels": levels[n].tolist(),
            "weights": weight_bus[n].tolist(),
            "row_load": int(row_load[n]),
            "swap": int(swap[n]),
        }
        for n in range(length)
    ]
    setup = table_loads(config, table)
    psums = simulate(Array(config), [*setup, *cycles], ("psums",))["psums"][len(setup) :]
    bits = config.psum_bits
    for started, product in expected:
        for n, line in enumerate(product.tolist()):
            seen = [
                signed(psums[started + n + rows + col] >> (col * bits), bits) for col in range(cols)
            ]
            assert seen == line
