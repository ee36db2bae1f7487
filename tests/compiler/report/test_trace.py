"""Traces: whole, in order, and equal to the signals of the RTL in every cycle."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nupes
from nupes.compiler.emit.instructions import Tile
from nupes.compiler.report.trace import ENGINES, chrome_trace, spans
from nupes.model.network import IntegerNetwork
from nupes.sim import Simulator
from tests.images import images_of
from tests.networks import networks
from tests.sim.conftest import SIMULATORS
from tests.small import ARRAY, small_network
from tests.vcd import cycles, signals

TOP = "testbench.accelerator.accelerator"


@settings(max_examples=20)
@given(networks(also=("concat",)), st.integers(1, 3))
def test_spans_are_whole_and_in_order(network: IntegerNetwork, batch: int) -> None:
    program = nupes.compile(network, ARRAY, batch=batch)
    found = list(spans(program))
    for engine in ENGINES:
        mine = [span for span in found if span.engine == engine]
        assert all(0 <= span.first <= span.last < program.cycles for span in mine)
        assert all(a.last < b.first for a, b in pairwise(mine))
    items = program.schedule.instructions
    loaded = sum(span.details["words"] for span in found if span.engine == "load")
    assert loaded == sum(item.words for item in items)
    tiles = [span for span in found if span.engine in ("stream", "pool")]
    assert len(tiles) == sum(program.schedule.tiles)
    moving = {layer.name for layer in program.layers if layer.tiles}
    assert {span.layer for span in tiles} == moving
    events = [
        event for event in chrome_trace(program)["traceEvents"] if event.get("cat") == "layer"
    ]
    assert {event["name"] for event in events} == moving
    for layer in program.layers:
        mine = [event for event in events if event["name"] == layer.name]
        assert sum(event["dur"] for event in mine) == layer.cycles
        assert sum(event["args"]["macs"] for event in mine) == layer.macs * bool(mine)


def test_the_format() -> None:
    program = nupes.compile(small_network(), ARRAY)
    trace = json.loads(json.dumps(chrome_trace(program)))
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    rows = {
        event["tid"]: event["args"]["name"]
        for event in trace["traceEvents"]
        if event["name"] == "thread_name"
    }
    assert tuple(rows.values()) == ENGINES
    layers = [event for event in events if rows[event["tid"]] == "layer"]
    assert [(event["name"], event["dur"]) for event in layers] == [
        (layer.name, layer.cycles) for layer in program.layers
    ]
    assert layers[-1]["ts"] + layers[-1]["dur"] == program.cycles == trace["otherData"]["cycles"]
    for event in events:
        home = next(layer for layer in layers if layer["name"] == event["args"]["layer"])
        if rows[event["tid"]] in ("stream", "pool"):
            assert home["ts"] <= event["ts"]
            assert event["ts"] + event["dur"] <= home["ts"] + home["dur"]


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_spans_are_the_signals_of_the_rtl(tmp_path: Path, simulator: str) -> None:
    """Every cycle in which the RTL issues, writes or consumes lies in its span, and begins and ends
    it."""
    network, waves = small_network(), tmp_path / "run.vcd"
    program = nupes.compile(network, ARRAY)
    with Simulator(ARRAY, simulator, waves=waves) as hw:
        result = hw.run(program, images_of(network, 1))
    assert result.cycles == [program.cycles]
    table = signals(waves)
    assert f"{TOP}.datapath.array.row_1.cell_2.weight" in table
    assert f"{TOP}.datapath.lane_3.encoder.y" in table
    events = ("issue", "consume", "write__0__valid", "write__1__valid")
    names = ["testbench.state", "testbench.cycle", *(f"{TOP}.{name}" for name in events)]
    names += ["testbench.result_valid"]
    seen: dict[str, list[int]] = {"issue": [], "consume": [], "write": [], "result": []}
    for state, cycle, issue, consume, even, odd, valid in cycles(waves, "testbench.clk", names):
        if state == 3:  # RUNNING
            assert cycle is not None
            for name, high in (
                ("issue", issue), ("consume", consume), ("write", even or odd), ("result", valid)
            ):  # fmt: skip
                if high:
                    seen[name].append(cycle)
    found = list(spans(program))

    def covered(engine: str, host: bool = False) -> list[int]:
        mine = [s for s in found if s.engine == engine and (s.name == "to host") == host]
        return [cycle for span in mine for cycle in range(span.first, span.last + 1)]

    # Tiles that do not wait for the input issue a word in every cycle of their span.
    assert set(seen["issue"]) <= set(covered("stream"))
    ends = {cycle for span in found if span.engine == "stream" for cycle in (span.first, span.last)}
    assert ends <= set(seen["issue"])
    words = sum(span.details["words"] for span in found if span.engine == "stream")
    assert len(seen["issue"]) == words
    assert set(seen["write"]) <= {*covered("drain"), *covered("load")}
    assert {
        span.last for span in found if span.engine == "drain" and span.name != "to host"
    } <= set(seen["write"])
    # A result is valid in the cycle after the one in which it entered the queue.
    assert [cycle - 1 for cycle in seen["result"]] == covered("drain", host=True)
    # Tiles that follow in a run have no instruction of their own.
    every = program.schedule.instructions
    own = [item for item in every if not (isinstance(item, Tile) and item.follows)]
    assert len(own) < len(every)
    assert len(seen["consume"]) == len(own) * ARRAY.instruction_words + len(
        [cycle for cycle in seen["consume"] if cycle in set(covered("load"))]
    )
    assert {span.last for span in found if span.engine == "load"} <= set(seen["consume"])
    assert np.isin(
        [s.first for s in found if s.engine == "load" and s.name != "input"], seen["consume"]
    ).all()
