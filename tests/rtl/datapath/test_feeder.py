"""The feeders at the edges of the array."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.rtl.datapath.feeder import RowFeeder, WeightFeeder
from tests.rtl.strategies import configs, unsigned_integers
from tests.rtl.testbench import load, signed, simulate


def random_table(config: ArrayConfig, bits: int, generator: np.random.Generator) -> np.ndarray:
    """Return levels of every slot and code."""
    shape = (config.table_slots, 1 << config.code_bits)
    return generator.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape)


def unpack(values: list[int], bits: int, count: int) -> np.ndarray:
    """Return a (cycles, count) array of the signed entries of packed vectors."""
    return np.array([[signed(v >> (i * bits), bits) for i in range(count)] for v in values])


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_row_feeder(data: st.DataObject) -> None:
    config = data.draw(configs())
    bits = config.level_entry_bits
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    table = random_table(config, bits, generator)
    slices = config.lanes // config.rows
    control = st.fixed_dictionaries(
        {
            "swap": st.integers(0, 1),
            "pad": st.integers(0, 1),
            "rows": st.integers(0, config.rows),
            "slot": st.integers(0, config.table_slots - 1),
            "slice": st.integers(0, slices - 1) if slices > 1 else unsigned_integers(4),
            "joined": st.integers(0, int(config.joins)),
        }
    )
    controls = data.draw(st.lists(control, min_size=1, max_size=30))
    words, lower = generator.integers(0, 1 << config.code_bits, (2, len(controls), config.lanes))
    cycles: list[dict] = [{} for _ in range(len(controls) + 1)]
    for n, (control, word) in enumerate(zip(controls, words, strict=True)):
        cycles[n]["control"] = control
        cycles[n + 1]["word"] = word.tolist()
        if config.joins:
            cycles[n + 1]["lower"] = lower[n].tolist()
    used = {int(slot) for slot in (control["slot"] for control in controls)}
    entries = {
        slot << config.code_bits | code: int(level) & 0x1FF
        for slot in used
        for code, level in enumerate(table[slot])
    }
    writes = load(Destination.ACTIVATION_TABLE, entries)
    seen = simulate(RowFeeder(config), [*writes, *cycles], ("levels", "swap"), idle=config.rows + 1)
    levels = unpack(seen["levels"][len(writes) :], bits, config.rows)
    swaps = seen["swap"][len(writes) :]
    for n, (control, word) in enumerate(zip(controls, words, strict=True)):
        part = control["slice"] if slices > 1 else 0
        chosen, below = (item.reshape(-1, config.rows)[part] for item in (word, lower[n]))
        for row, code in enumerate(chosen):
            zero = control["pad"] or row >= control["rows"]
            level = table[control["slot"], code]
            if control["joined"]:
                joined = int(below[row] | code << config.code_bits)
                level = signed(int(table[control["slot"], 0]) + joined, bits)
            assert levels[n + 2 + row, row] == (0 if zero else level)
            assert swaps[n + 1 + row] >> row & 1 == control["swap"]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_weight_feeder(data: st.DataObject) -> None:
    config = data.draw(configs())
    bits = config.cell.weight_bits
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    table = random_table(config, bits, generator)
    row = st.fixed_dictionaries(
        {
            "row.valid": st.integers(0, 1),
            "row.row": st.integers(0, config.rows - 1),
            "row.mask": unsigned_integers(config.cols),
            "row.slot": st.integers(0, config.table_slots - 1),
            **dict.fromkeys(
                ("row.lower", "row.joined") if config.joins_weights else (), st.integers(0, 1)
            ),
        }
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=30))
    codes = generator.integers(0, 1 << config.code_bits, (len(rows), config.cols))
    cycles = [row | {"row.codes": line.tolist()} for row, line in zip(rows, codes, strict=True)]
    used = {row["row.slot"] for row in rows}
    entries = {
        slot << config.code_bits | code: int(level) & 0xFF
        for slot in used
        for code, level in enumerate(table[slot])
    }
    writes = load(Destination.WEIGHT_TABLE, entries)
    seen = simulate(
        WeightFeeder(config), [*writes, *cycles], ("weights", "row_load"), idle=config.cols
    )
    weights = unpack(seen["weights"][len(writes) :], bits, config.cols)
    kept_digits = np.zeros(config.cols, np.int64)
    for n, (row, line) in enumerate(zip(rows, codes, strict=True)):
        enable = row["row.valid"] << row["row.row"]
        assert seen["row_load"][len(writes) + n + 1] == enable
        for col, code in enumerate(line):
            kept = row["row.mask"] >> col & 1
            level = table[row["row.slot"], code]
            if row.get("row.joined"):
                joined = int(kept_digits[col] | code << config.code_bits)
                level = signed(int(table[row["row.slot"], 0]) + joined, bits)
            # Digits that are joined are those of an earlier cycle.
            if n:
                assert weights[n + 1 + col, col] == (level if kept else 0)
        if row.get("row.lower"):
            kept_digits = line


def test_a_table_of_another_operand_is_not_taken() -> None:
    config = ArrayConfig(rows=2, cols=2)
    writes = load(Destination.ACTIVATION_TABLE, {5: 9})
    row = {"row.valid": 1, "row.row": 0, "row.mask": 3, "row.codes": [5, 5]}
    assert not any(simulate(WeightFeeder(config), [*writes, row], ("weights",), idle=4)["weights"])
