"""What the blocks say to each other: the buses and control words shared by both halves of the
hardware.

Cycle ``t`` is the cycle in which the stream engine issues a word, ``f`` the cycle in which a weight
row is consumed, ``x`` the cycle in which a partial sum is at its lane (see docs/timing.md). The
datapath delays everything itself: its inputs are all given at the cycle stated here, for lane 0 and
row 0, and its outputs are for all lanes at once.
"""

from amaranth.hdl import Shape
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import (
    ADDRESS_BITS,
    ENCODER_SLOT_BITS,
    SCALE_ENTRY,
    SHIFT_ENTRY,
    Field,
    Statistic,
)

__all__ = [
    "RESULT_BITS",
    "DatapathPort",
    "FeedControl",
    "LoadBus",
    "MeasureConstants",
    "MeasureControl",
    "PlaneRun",
    "PoolControl",
    "PoolPort",
    "ResultControl",
    "ResultRun",
    "ScaleEntry",
    "ShiftEntry",
    "StoreControl",
    "TokenFactor",
    "TokenSums",
    "WeightBus",
    "WordControl",
    "struct_of",
]

RESULT_BITS = 16
"""Bits of one lane's result: ``y``, or the joined digits of a code (at most 16 bits)."""


def struct_of(fields: tuple[Field, ...]) -> data.StructLayout:
    """Return the Amaranth layout of a field table of ``isa.py``, least significant field first."""
    return data.StructLayout({field.name: Shape(field.width, field.signed) for field in fields})


class LoadBus(wiring.Signature):
    """A broadcast write: one entry per cycle, no back-pressure, written at the end of the cycle.

    ``valid``; ``destination`` (``isa.Destination``); ``address`` inside the destination; ``data``:
    one port word.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "destination": Out(4),
                "address": Out(ADDRESS_BITS),
                "data": Out(config.port_bits),
            }
        )


class StoreControl(data.StructLayout):
    """A word that is stored in the program's memory, issued in cycle ``t``: ``address`` of its port
    word there; ``end``: the last word of its STORE."""

    def __init__(self) -> None:
        super().__init__({"valid": 1, "end": 1, "address": 32})


class WeightBus(wiring.Signature):
    """One row of a weight tile, given in cycle ``f``.

    It is the shadow weight of cell (row, c) from cycle ``f + 2 + c`` on. ``valid``; ``row``;
    ``codes``: one per column; ``mask``: one bit per column, 0 makes the weight 0 (all ones for a
    tile that is not masked); ``slot``: decode table. In arrays that join weights, ``lower`` instead
    of ``valid`` says that the codes are the lower digits of the row to come, and ``joined`` that a
    row has such.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "row": Out(clog2(config.rows)),
                "codes": Out(data.ArrayLayout(config.code_bits, config.cols)),
                "mask": Out(config.cols),
                "slot": Out(clog2(config.table_slots)),
                **(dict.fromkeys(("lower", "joined"), Out(1)) if config.joins_weights else {}),
            }
        )


class FeedControl(data.StructLayout):
    """How the row feeder treats a word, given in cycle ``t`` (the word itself is in ``t + 1``).

    ``swap``: first word of a tile (never set in a cycle without a word); ``pad``: structural zero,
    the word is ignored; ``rows``: weight rows that the tile carries, every later row is a
    structural zero; ``slot``: decode table; ``slice``: which ``rows`` codes of the word enter the
    array (ignored when ``rows >= cols``); ``joined`` (in arrays that join planes): the digits of
    the word and those of a second one, the lower ones, make an operand.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "swap": 1,
                "pad": 1,
                "rows": 7,
                "slot": clog2(config.table_slots),
                "slice": 4,
                "joined": int(config.joins),
            }
        )


class PlaneRun(data.StructLayout):
    """Where the planes of one word are: plane ``i``, least significant first, at ``address + i *
    plane_step``.

    ``planes``: how many (0 for a residual that does not exist); ``slice``: which ``cols`` codes of
    the word belong to the tile.
    """

    def __init__(self, config: ArrayConfig) -> None:
        planes = 3 + config.attention
        super().__init__(
            {"address": ADDRESS_BITS, "plane_step": ADDRESS_BITS, "planes": planes, "slice": 4}
        )


class ResultRun(data.StructLayout):
    """Where the planes of a result are, as ``PlaneRun``; in arrays with attention ``gather`` says
    what the statistics unit does with it, if it is ``valid``."""

    def __init__(self, config: ArrayConfig) -> None:
        gather = MeasureControl(config) if config.attention else 0
        super().__init__({**PlaneRun(config).members, "gather": gather})


class WordControl(data.StructLayout):
    """What the lanes do with a word's partial sums, given in cycle ``t``.

    ``valid``: a word was issued; ``first``: start from 0; ``last``: the sum goes on to the
    write-back; ``end``: last word of its tile; ``acc_address``: the pixel's accumulator;
    ``shift``: left shift of the partial sum; ``multiply`` (in arrays with products): multiply it
    by the level of the residual; ``token``, ``replace``, ``masks``, ``residual_wide``,
    ``out_wide`` (in arrays with attention): the token's factor is used, the residual's term stands
    for the sum, one of -32768 is minus infinity, the residual is wide, the result is;
    ``param_slot``: SCALE and SHIFT parameters;
    ``encoder_slot``, ``encoder_depth``: search tree and its comparisons, depth 0 emits ``y``.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "valid": 1,
                "first": 1,
                "last": 1,
                "end": 1,
                "acc_address": clog2(config.acc_depth),
                "shift": config.shift_bits,
                "multiply": int(config.products),
                "token": int(config.attention),
                "replace": int(config.attention),
                "masks": int(config.attention),
                "residual_wide": int(config.attention),
                "out_wide": int(config.attention),
                "param_slot": clog2(config.param_slots),
                "encoder_slot": ENCODER_SLOT_BITS,
                "encoder_depth": 4,
            }
        )


class ResultControl(data.StructLayout):
    """What the write-back must know about the word whose results it sees.

    Given for every word, not only for those that are ``last``. ``valid``: a word was issued
    ``issue_to_write - 1`` cycles ago; ``last``: its results are to be written; ``end``: last word
    of its tile; ``host``: the results are ``y`` for the host (``encoder_depth`` was 0), ``wide``
    (in arrays with attention): they are ``y`` for the memory; else joined digits.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {"valid": 1, "last": 1, "end": 1, "host": 1, "wide": int(config.attention)}
        )


class TokenFactor(data.StructLayout):
    """What the token stage does with a token: ``((value - offset) * mantissa + half) >> shift``."""

    def __init__(self) -> None:
        super().__init__({"offset": Shape(32, True), "mantissa": 16, "shift": 5})


class TokenSums(data.StructLayout):
    """Statistics of a token: the ``largest`` level, their ``total``, and that of their
    ``squares``."""

    def __init__(self) -> None:
        super().__init__({"largest": Shape(16, True), "total": Shape(32, True), "squares": 45})


class MeasureControl(data.StructLayout):
    """How the statistics unit treats two planes of a word, given in cycle ``t`` (they are there in
    ``t + 1``), or all digits of the results of a column tile.

    ``valid``: there is something; ``top``: first planes of a number, ``whole``: last
    ones; ``first``: of the first numbers of its token; ``edge``: of the last ones; ``last``: the
    last ones of the token, ``end``: of the instruction; ``token``: which one, in its block.
    """

    def __init__(self, config: ArrayConfig) -> None:
        flags = dict.fromkeys(("valid", "top", "whole", "first", "edge", "last", "end"), 1)
        super().__init__({**flags, "token": clog2(config.acc_depth)})


class MeasureConstants(data.StructLayout):
    """What is constant over a MEASURE, or a layer whose results are gathered: fields of its
    descriptor."""

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "statistic": Statistic,
                "linear": 1,
                "odd": 1,
                "level_offset": Shape(16, True),
                "edge": 7,
                "channels": 15,
                "epsilon": 58,
                "table": clog2(config.table_slots),
            }
        )


class DatapathPort(wiring.Signature):
    """The boundary between control and datapath: one component, ``Datapath``.

    ``load`` (written at the end of its cycle), ``weights`` (cycle ``f``), ``feed`` and ``control``
    (cycle ``t``), ``word`` (``t + 1``: the activation memory's output; in arrays that join planes
    ``lower`` too: a second word), ``residual``
    (``t + issue_to_residual``: joined digits of the residual for each lane, any value if there is
    none), and back ``result_control`` and ``results`` (``t + issue_to_write - 1``: one value of
    ``RESULT_BITS`` per lane, signed ``y`` or joined digits). In arrays with attention ``factor`` is
    that of the token whose word was issued ``issue_to_psum + product_stages + 1`` cycles ago. In
    arrays with chains ``link`` (cycle ``t``) says that the word is a step of a chain.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "load": Out(LoadBus(config)),
                "weights": Out(WeightBus(config)),
                "feed": Out(FeedControl(config)),
                "control": Out(WordControl(config)),
                "link": Out(int(config.chains)),
                "word": Out(data.ArrayLayout(config.code_bits, config.lanes)),
                "lower": Out(data.ArrayLayout(config.code_bits, config.lanes * config.joins)),
                "residual": Out(data.ArrayLayout(config.residual_bits, config.cols)),
                "factor": Out(TokenFactor() if config.attention else 0),
                "result_control": In(ResultControl(config)),
                "results": In(data.ArrayLayout(RESULT_BITS, config.cols)),
            }
        )


class PoolControl(data.StructLayout):
    """How the max-pool unit treats a word, given in cycle ``t`` (the word itself is in ``t + 1``).

    ``valid``: a POOL word was issued; ``first``, ``last``: first and last word of its pixel;
    ``top``: the tap's most significant plane, which comes first; ``pad``: skip the tap; ``end``:
    last word of the instruction.
    """

    def __init__(self) -> None:
        super().__init__({"valid": 1, "first": 1, "last": 1, "top": 1, "pad": 1, "end": 1})


class PoolPort(wiring.Signature):
    """The boundary of ``PoolUnit``.

    ``control`` (cycle ``t``), ``word`` (``t + 1``), and back ``valid``, ``end`` and ``joined``
    (``t + issue_to_pool``, for one cycle: the maximum's joined digits per code of the word; ``end``
    with the instruction's last pixel).
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "control": Out(PoolControl()),
                "word": Out(data.ArrayLayout(config.code_bits, config.lanes)),
                "valid": In(1),
                "end": In(1),
                "joined": In(data.ArrayLayout(config.joined_bits, config.lanes)),
            }
        )


class ScaleEntry(data.StructLayout):
    """One entry of destination SCALE."""

    def __init__(self) -> None:
        super().__init__(struct_of(SCALE_ENTRY).members)


class ShiftEntry(data.StructLayout):
    """One entry of destination SHIFT."""

    def __init__(self) -> None:
        super().__init__(struct_of(SHIFT_ENTRY).members)
