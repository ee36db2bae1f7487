"""The run control of the bus: random events against what its docstring says."""

from typing import Any

from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.bus import BusStatus
from nupes.rtl.bus.control import BusControl
from tests.rtl.bench import execute

WATCHDOG = 8

Events = dict[str, int]


def run(cycles: list[Events], watch: tuple[str, ...]) -> list[Events]:
    """Drive a control cycle by cycle; return what it says in each."""
    control, seen = BusControl(WATCHDOG), []
    quiet = {"start": 0, "abort": 0, "core_done": 0, "fault": 0, "progress": 0}

    async def bench(context: Any, reset: Signal) -> None:
        for events in cycles:
            for name, value in (quiet | {"core_idle": 1, "drained": 1} | events).items():
                context.set(getattr(control, name), value)
            seen.append({name: int(context.get(getattr(control, name))) for name in watch})
            await context.tick()

    execute(control, bench)
    return seen


WATCH = ("begin", "flush", "stop", "idle", "done", "finish", "status", "cycles")


def test_a_run_that_is_ok() -> None:
    """``start`` in 0, ``begin`` in 1; done after the flush; cycles count from ``begin``."""
    busy = {"drained": 0}
    cycles = [{"start": 1}, {}, {}, {"core_done": 1, "core_status": 1}, busy, busy, {}, {}, {}]
    seen = run(cycles, WATCH)
    assert [item["begin"] for item in seen] == [0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert [item["flush"] for item in seen] == [0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert [item["finish"] for item in seen] == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert [item["done"] for item in seen] == [0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert [item["idle"] for item in seen] == [1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert [item["cycles"] for item in seen] == [0, 0, 1, 2, 3, 4, 5, 6, 6]
    assert seen[-1]["status"] == BusStatus.OK
    assert not any(item["stop"] for item in seen)


def test_a_run_that_the_accelerator_ends() -> None:
    """Any status but OK is told at once; idle comes when all is drained."""
    busy = {"drained": 0, "core_idle": 0}
    end = {"core_done": 1, "core_status": 2}
    seen = run([{"start": 1}, {}, end, *[busy] * 20, {}, {}], WATCH)
    assert [item["finish"] for item in seen].index(1) == 3
    assert seen[3]["status"] == BusStatus.BAD_INSTRUCTION
    assert seen[-1]["status"] == BusStatus.BAD_INSTRUCTION
    assert sum(item["finish"] for item in seen) == 1
    assert [item["idle"] for item in seen[3:]] == [0] * 21 + [1]


def test_a_flush_without_progress_times_out() -> None:
    busy = {"drained": 0}
    flush = [busy] * 5 + [busy | {"progress": 1}] + [busy] * (WATCHDOG + 1)
    seen = run([{"start": 1}, {}, {"core_done": 1, "core_status": 1}, *flush], WATCH)
    assert [item["finish"] for item in seen].index(1) == 3 + 6 + WATCHDOG
    assert seen[-1]["status"] == BusStatus.TIMEOUT


FAULTS = st.sampled_from([item for item in BusStatus if 4 <= item <= 8])


@settings(max_examples=15)
@given(FAULTS, st.booleans(), st.integers(0, 6), st.integers(0, 5), st.booleans())
def test_faults_and_aborts(
    fault: BusStatus, abort: bool, at: int, wait: int, flushing: bool
) -> None:
    """The first fault is told, with its address; the accelerator is in reset until all is drained;
    what comes later changes nothing."""
    event = {"abort": 1} if abort else {"fault": 1, "fault_status": fault, "fault_address": 0x1234}
    later = {"fault": 1, "fault_status": BusStatus.OVERFLOW, "fault_address": 7, "drained": 0}
    before = [{"drained": 0} for _ in range(at)]
    ends = [{"core_done": 1, "core_status": 1}] if flushing else []
    cycles = [{"start": 1}, {}, *ends, *before, event, *[later] * wait, {}, {"start": 1}, {}]
    seen = run(cycles, (*WATCH, "error_address"))
    place = 2 + len(ends) + at
    told = seen[place + 1]
    assert told["finish"] == told["done"] == 1
    assert told["status"] == (BusStatus.ABORTED if abort else fault)
    assert told["error_address"] == (0 if abort else 0x1234)
    assert [item["stop"] for item in seen[place + 1 :]] == [1] * (wait + 1) + [0] * 2
    assert seen[place + wait + 1]["status"] == told["status"]
    assert seen[place + wait + 1]["error_address"] == told["error_address"]
    assert sum(item["finish"] for item in seen) == 1
    assert seen[place + wait + 2]["idle"] == 1
    assert seen[-1] | {"cycles": 0} == {
        **dict.fromkeys((*WATCH, "error_address"), 0),
        "begin": 1,
    }


def test_start_counts_while_idle_alone() -> None:
    cycles = [{"start": 1, "core_idle": 0}, {}, {"abort": 1}, {"start": 1}, {"start": 1}, {}]
    seen = run(cycles, WATCH)
    assert [item["begin"] for item in seen] == [0, 0, 0, 0, 1, 0]
    assert not any(item["stop"] for item in seen)
