"""Openings: made once for each stream, and again once something it reads was written."""

import numpy as np

from nupes.compiler.emit.dependencies import Latest
from nupes.compiler.emit.openings import Openings
from nupes.compiler.lowering.passes import MapStream, Pass, Payload
from nupes.compiler.lowering.walks import Walk
from nupes.compiler.place.layout import TensorLayout


def test_passes_over_the_same_words_share_an_opening_until_these_are_written() -> None:
    layout = TensorLayout.whole(4, 2, 3, 1, 1)
    walk = Walk(step_x=1, width=3, height=2, stride_x=1, out_width=3, step_y=3, stride_y=1)
    stream, writers = MapStream(walk, layout, 0, 0), Latest(16)
    passes = [
        Pass(stream, 0, Payload(1, False, lambda: np.zeros((1, 1), np.uint64)), None)
        for _ in range(2)
    ]
    openings = Openings(writers)
    first = openings.of(passes[0], 0, 6)
    assert first[2:] == (((4, 10),), -1)
    assert openings.of(passes[1], 0, 6) is first
    for writes in ([(0, 4), (10, 12)], [(9, 11)]):
        writers.note(writes, 3)
        openings.note(writes)
    assert openings.of(passes[1], 0, 6) == (*first[:3], 3)
    openings.clear()
    assert openings.of(passes[0], 0, 6)[3] == 3
