"""The corner turn: columns in, rows out, at any pace."""

import random

import pytest

from nupes.rtl.datapath.corner_turn import CornerTurn
from tests.rtl.testbench import simulate


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (2, 3), (4, 4), (8, 2)])
@pytest.mark.parametrize("wait", [0.0, 0.5])
def test_rows_are_the_columns_turned(rows: int, cols: int, wait: float) -> None:
    """Several matrices one after the other, with cycles in between in which nothing moves."""
    chance = random.Random(rows)
    bits, cycles, want = 3, [], []
    for _ in range(3):
        matrix = [[chance.getrandbits(bits) for _ in range(cols)] for _ in range(rows)]
        for col in range(cols):
            while chance.random() < wait:
                cycles.append({"fill": 0, "drain": 0})
            cycles.append({"fill": 1, "drain": 0, "column": [line[col] for line in matrix]})
        for line in matrix:
            while chance.random() < wait:
                cycles.append({"fill": 0, "drain": 0})
            want.append((len(cycles), sum(code << bits * c for c, code in enumerate(line))))
            cycles.append({"fill": 0, "drain": 1})
    seen = simulate(CornerTurn(rows, cols, bits), cycles, ("row",))["row"]
    assert [seen[cycle] for cycle, _ in want] == [row for _, row in want]
