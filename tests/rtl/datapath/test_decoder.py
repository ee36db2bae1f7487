"""The edge decoder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.model.codebook import make_codebook
from nupes.model.planes import split_planes
from nupes.rtl.datapath.decoder import Decoder
from tests.rtl.strategies import configs, signed_integers
from tests.rtl.testbench import load, simulate

LEVEL_BITS = 9


@pytest.mark.parametrize("code_bits", [2, 4, 8])
def test_decode_the_planes_of_a_codebook(code_bits: int) -> None:
    config = ArrayConfig(rows=2, cols=2, code_bits=code_bits)
    planes = split_planes(make_codebook("power", 8, False, 255, 0.6), code_bits)
    tables = {
        slot << code_bits | code: level
        for slot, table in enumerate(planes.tables.tolist())
        for code, level in enumerate(table)
    }
    lookups = [
        {"slot": slot, "code": int(digit)}
        for digits in planes.digits
        for slot, digit in enumerate(digits)
    ]
    writes = load(Destination.ACTIVATION_TABLE, tables)
    decoder = Decoder(config, Destination.ACTIVATION_TABLE, LEVEL_BITS)
    seen = simulate(decoder, [*writes, *lookups], ("level",), idle=1)["level"]
    levels = np.array(seen[len(writes) + 1 :]).reshape(-1, planes.count).sum(axis=1)
    codebook = make_codebook("power", 8, False, 255, 0.6)
    assert np.array_equal(levels, codebook.levels)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_table_is_written_by_its_own_loads_only(data: st.DataObject) -> None:
    config = data.draw(configs())
    entries = config.table_slots << config.code_bits
    address = st.integers(0, entries - 1)
    mine = data.draw(st.dictionaries(address, signed_integers(LEVEL_BITS), max_size=20))
    other = data.draw(st.dictionaries(address, signed_integers(LEVEL_BITS), max_size=20))
    reads = data.draw(st.lists(st.tuples(address, st.booleans()), min_size=1, max_size=40))
    writes = load(Destination.WEIGHT_TABLE, mine) + load(Destination.RESIDUAL_TABLE, other)
    lookups = [
        {
            "slot": where >> config.code_bits,
            "code": where & ((1 << config.code_bits) - 1),
            "zero": int(zero),
        }
        for where, zero in reads
    ]
    decoder = Decoder(config, Destination.WEIGHT_TABLE, LEVEL_BITS)
    seen = simulate(decoder, [*writes, *lookups], ("level",), idle=1)["level"]
    assert seen[len(writes) + 1 :] == [0 if zero else mine.get(at, 0) for at, zero in reads]
