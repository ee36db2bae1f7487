"""Steps: what the schedule, the timing and the program image know of an instruction."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from nupes.compiler.place.layout import InputLayout

__all__ = ["ResultTile", "Schedule", "Step"]


@dataclass(slots=True)
class Step:
    """One instruction: its fields, its payload words, and what timing needs to know of its stream.

    ``payload`` gives the payload as uint64 (words, port words); None is a hole that the host fills
    with its input, in order. ``per_pixel`` words are streamed for each of ``count`` pixels;
    ``pace`` and ``writes`` are those of its last words. ``chase`` is the first address of a stream
    that follows the input's transfer (-1: it does not). A LOAD of tables or parameters overwrites
    what tile ``user`` (-1: none) was the last to use, and must precede tile ``due``.
    """

    fields: dict[str, int]
    words: int = 0
    payload: Callable[[], np.ndarray] | None = None
    hole: bool = False
    count: int = 0
    per_pixel: int = 1
    pace: int = 1
    writes: int = 0
    to_host: bool = False
    chase: int = -1
    user: int = -1
    due: int = -1

    def part(self, first: int, count: int) -> "Step":
        """Return the LOAD of ``count`` of a LOAD's payload words, from word ``first`` on."""
        whole = self.payload
        return replace(
            self,
            fields=self.fields | {"count": count, "address": self.fields["address"] + first},
            words=count,
            payload=whole and (lambda: whole()[first : first + count]),
        )

    @property
    def stream_cycles(self) -> int:
        """Cycles from the first to the final word of the stream, if nothing holds it up."""
        return self.count * self.per_pixel + (self.count - 1) * (self.pace - 1)


@dataclass(frozen=True, slots=True)
class ResultTile:
    """Which results one block of the last layer emits: channels from ``channel`` on, pixels
    ``first`` on.
    """

    channel: int
    first: int
    count: int


@dataclass(eq=False)
class Schedule:
    """All steps of a network, how the host packs the input, and in which order results come."""

    input: InputLayout
    act_words: int
    steps: list[Step] = field(default_factory=list)
    results: list[ResultTile] = field(default_factory=list)
