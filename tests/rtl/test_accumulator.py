"""The accumulator memory of a lane."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.rtl.accumulator import Accumulator
from nupes.rtl.config import ArrayConfig
from tests.rtl.strategies import configs, signed_integers
from tests.rtl.testbench import signed, simulate

Operation = tuple[int, int, int, int]


def run(config: ArrayConfig, operations: list[Operation]) -> list[int]:
    """Return the totals of operations (valid, first, address, psum), one per cycle."""
    psums = [0, *(operation[3] for operation in operations)]
    controls = [*(operation[:3] for operation in operations), (0, 0, 0)]
    cycles = [
        {"valid": valid, "first": first, "address": address, "psum": psum}
        for (valid, first, address), psum in zip(controls, psums, strict=True)
    ]
    return simulate(Accumulator(config), cycles, ("total",), idle=1)["total"][2:]


def test_consecutive_sums_at_one_address() -> None:
    config = ArrayConfig(rows=2, cols=2, acc_depth=4)
    operations = [(1, 1, 2, 10), (1, 0, 2, 5), (1, 0, 2, -30), (1, 1, 2, 7), (1, 0, 2, 1)]
    assert run(config, operations) == [10, 15, -15, 7, 8]


def test_a_bubble_changes_nothing() -> None:
    config = ArrayConfig(rows=2, cols=2, acc_depth=4)
    operations = [(1, 1, 3, 10), (0, 1, 3, 99), (0, 0, 3, 99), (1, 0, 3, 1)]
    assert run(config, operations)[-1] == 11


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_order_of_sums(data: st.DataObject) -> None:
    config = data.draw(configs())
    bit, address = st.integers(0, 1), st.integers(0, config.acc_depth - 1)
    operation = st.tuples(bit, bit, address, signed_integers(config.psum_bits))
    operations = data.draw(st.lists(operation, min_size=1, max_size=60))
    sums: dict[int, int] = {}
    expected = []
    for valid, first, where, psum in operations:
        total = signed((0 if first else sums.get(where, 0)) + psum, config.acc_bits)
        expected.append(total)
        if valid:
            sums[where] = total
    assert run(config, operations) == expected
