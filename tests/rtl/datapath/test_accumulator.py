"""The accumulator memory of a lane."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.accumulator import Accumulator
from tests.rtl.strategies import configs, signed_integers
from tests.rtl.testbench import signed, simulate

Operation = tuple[int, int, int, int, int]


def run(config: ArrayConfig, operations: list[Operation]) -> list[int]:
    """Return the totals of operations (valid, first, address, shift, psum), one per cycle."""
    names = ("valid", "first", "address", "shift")
    psums = [0, *(operation[4] for operation in operations)]
    controls = [*(operation[:4] for operation in operations), (0, 0, 0, 0)]
    cycles = [
        dict(zip(names, control, strict=True)) | {"psum": psum}
        for control, psum in zip(controls, psums, strict=True)
    ]
    if not config.shift_bits:
        cycles = [{k: v for k, v in cycle.items() if k != "shift"} for cycle in cycles]
    accumulator = Accumulator(config, config.psum_bits)
    return simulate(accumulator, cycles, ("total",), idle=1)["total"][2:]


def test_consecutive_sums_at_one_address() -> None:
    config = ArrayConfig(rows=2, cols=2, acc_depth=4)
    sums = [(1, 10), (0, 5), (0, -30), (1, 7), (0, 1)]
    operations = [(1, first, 2, 0, psum) for first, psum in sums]
    assert run(config, operations) == [10, 15, -15, 7, 8]


def test_a_bubble_changes_nothing() -> None:
    config = ArrayConfig(rows=2, cols=2, acc_depth=4)
    operations = [(1, 1, 3, 0, 10), (0, 1, 3, 0, 99), (0, 0, 3, 0, 99), (1, 0, 3, 0, 1)]
    assert run(config, operations)[-1] == 11


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_order_of_sums(data: st.DataObject) -> None:
    config = data.draw(configs())
    bit, address = st.integers(0, 1), st.integers(0, config.acc_depth - 1)
    shift = st.integers(0, (1 << config.shift_bits) - 1)
    operation = st.tuples(bit, bit, address, shift, signed_integers(config.psum_bits))
    operations = data.draw(st.lists(operation, min_size=1, max_size=60))
    sums: dict[int, int] = {}
    expected = []
    for valid, first, where, shift, psum in operations:
        total = signed((0 if first else sums.get(where, 0)) + (psum << shift), config.acc_bits)
        expected.append(total)
        if valid:
            sums[where] = total
    assert run(config, operations) == expected
