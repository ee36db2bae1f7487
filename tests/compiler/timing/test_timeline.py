"""The cycle model without hardware: order, monotony, and one program counted by hand.

That the prediction equals the hardware is tested in ``tests/test_equivalence.py``.
"""

from dataclasses import replace
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.instructions import Instruction, Pool, Tile
from nupes.compiler.emit.schedules import schedule
from nupes.compiler.lowering.passes import Payload
from nupes.compiler.program import compile
from nupes.compiler.timing.stream import StreamEngine
from nupes.compiler.timing.timeline import predict
from nupes.model.network import IntegerNetwork
from tests.compiler.test_program import ARRAYS
from tests.networks import networks


@given(networks(), ARRAYS, st.integers(1, 100))
def test_time_flows(network: IntegerNetwork, config: ArrayConfig, latency: int) -> None:
    plan = schedule(network, config)
    timeline = predict(plan.instructions, config, latency)
    tiles = [item for item in plan.instructions if isinstance(item, Tile | Pool)]
    assert len(timeline.first_issue) == len(timeline.final_issue) == len(tiles)
    assert len(timeline.marks) == sum(count > 0 for count in plan.tiles)
    previous = 0
    for tile, first, final in zip(tiles, timeline.first_issue, timeline.final_issue, strict=True):
        assert first > previous
        assert final >= first + tile.count * tile.per_pixel - 1
        previous = final
    assert timeline.cycles > previous
    pairs = zip(tiles, timeline.first_issue, strict=True)
    assert timeline.marks == tuple(first for tile, first in pairs if tile.mark)


@given(networks(), ARRAYS, st.integers(1, 100))
def test_a_slower_memory_never_saves_time(
    network: IntegerNetwork, config: ArrayConfig, latency: int
) -> None:
    program = schedule(network, config).instructions
    slower = predict(program, config, latency + 1)
    assert predict(program, config, latency).cycles <= slower.cycles


def narrowed(item: Instruction, rows: int) -> Instruction:
    """Return an instruction with so many of a tile's payload words in one."""
    if not isinstance(item, Tile) or not isinstance(item.payload, Payload):
        return item
    words = -(-item.payload.size // rows)
    return replace(item, payload=Payload(words, False, item.payload.words))


@given(networks(), ARRAYS, st.integers(2, 4))
def test_a_wider_port(network: IntegerNetwork, config: ArrayConfig, rows: int) -> None:
    """It is as fast as a program with fewer payload words in an array of fewer instruction
    words."""
    program = schedule(network, config).instructions
    wide = predict(program, config, 20, rows)
    array = replace(config)
    vars(array)["instruction_words"] = -(-config.instruction_words // rows)
    assert wide == predict([narrowed(item, rows) for item in program], array, 20)
    assert wide.cycles <= predict(program, config, 20).cycles
    assert predict(program, config, 20, 1) == predict(program, config, 20)


@given(networks(), ARRAYS, st.integers(1, 100))
def test_words_that_arrive_together_are_those_that_arrive_one_by_one(
    network: IntegerNetwork, config: ArrayConfig, latency: int
) -> None:
    program = schedule(network, config).instructions
    together = predict(program, config, latency)
    with patch.object(StreamEngine, "least_delay", lambda engine: 0):
        assert predict(program, config, latency) == together


@given(networks(), st.integers(1, 60))
def test_latency_is_an_argument_of_compile(network: IntegerNetwork, latency: int) -> None:
    config = ArrayConfig(4, 4)
    program = compile(network, config, latency)
    assert program.latency == latency
    assert program.timeline == predict(schedule(network, config).instructions, config, latency)
