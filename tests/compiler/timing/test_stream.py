"""The stream engine's view of the write pointer."""

from numpy import empty

from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.descriptors import Descriptor, Results
from nupes.compiler.emit.instructions import Tile, TileSlots
from nupes.compiler.lowering.passes import Payload
from nupes.compiler.lowering.walks import Start, line_walk
from nupes.compiler.timing.ports import WritePorts
from nupes.compiler.timing.progress import Progress
from nupes.compiler.timing.stream import StreamEngine


def test_a_tile_waits_again_for_words_above_a_pointer_that_fell() -> None:
    engine = StreamEngine(ArrayConfig(4, 4), WritePorts(), Progress())
    tile = Tile(
        start=Start(0, 0), descriptor=Descriptor(line_walk(2), Results()),
        slots=TileSlots(descriptor=0), count=2, payload=Payload(1, False, lambda: empty(0)),
        first=True, finish=False, chase=0,
    )  # fmt: skip
    engine.point(0)
    engine.arrive(0, [10, 11])
    engine.dispatch(tile, 5)
    assert (engine.first, engine.final) == ([11], [12])
    engine.point(0)
    engine.dispatch(tile, 20)
    assert engine.first == [11]
    engine.arrive(0, [30])
    assert (engine.first, engine.final) == ([11, 31], [12])
    engine.arrive(1, [40])
    assert engine.final == [12, 41]
    # What lies below the pointer stays.
    engine.point(2)
    engine.dispatch(tile, 50)
    assert engine.final == [12, 41, 52]
