"""The statistics unit: the largest level, the sum, and the sum of squares of a token."""

from collections.abc import Callable

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.datapath.reciprocal import Reciprocal
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import LoadBus, MeasureConstants, MeasureControl, TokenFactor, TokenSums

__all__ = ["Statistics", "tree"]

LOWEST = -(1 << 15)


def tree(values: list[Value], join: Callable[[Value, Value], Value]) -> Value:
    """Return values joined in pairs, pairs of pairs, and so on."""
    while len(values) > 1:
        pairs = [join(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = [*pairs, *values[len(values) // 2 * 2 :]]
    return values[0]


class Statistics(wiring.Component):
    """Take one word per cycle; give every token's factor ``issue_to_factor`` cycles after its last
    word.

    ``control`` arrives in cycle t, ``upper`` and ``lower`` in t + 1: two planes of a word, the most
    significant pair first; of the first pair of an ``odd`` number of planes only the lower one
    exists. Last words are at least ``token_interval`` cycles apart, and ``constants`` keep their
    values until the factor of the last one is there. In the cycle of ``valid``
    ``factor`` is that of token ``token``; ``end`` says that it is the last of its MEASURE.
    """

    load: wiring.PureInterface
    control: data.View
    constants: data.View
    upper: data.View
    lower: data.View
    valid: Signal
    end: Signal
    token: Signal
    factor: data.View

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        self.config = config
        self.library = library
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "control": In(MeasureControl(config)),
                "constants": In(MeasureConstants(config)),
                "upper": In(data.ArrayLayout(config.code_bits, config.lanes)),
                "lower": In(data.ArrayLayout(config.code_bits, config.lanes)),
                "valid": Out(1),
                "end": Out(1),
                "token": Out(clog2(config.acc_depth)),
                "factor": Out(TokenFactor()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, constants = self.config, self.constants
        stages = [Signal(MeasureControl(config), name=f"control_{stage}") for stage in range(1, 6)]
        for before, after in zip([self.control, *stages], stages, strict=False):
            m.d.sync += after.eq(before)
        read, decoded, _, reduced, summed = stages

        # Cycle t + 1: digits join; t + 2: levels; t + 3: those that count.
        levels = []
        for lane in range(config.lanes):
            decoder = place(
                m, self.library, f"decoder_{lane}", Decoder, config,
                Destination.ACTIVATION_TABLE, config.activation_level_bits,
            )  # fmt: skip
            connect(m, flipped(self.load), decoder.load)
            joined = Signal(config.residual_bits, name=f"joined_{lane}", reset_less=True)
            level = Signal(signed(16), name=f"level_{lane}")
            counted = Signal(signed(16), name=f"counted_{lane}", reset_less=True)
            absent = decoded.edge & (lane >= constants.edge)
            m.d.comb += [
                decoder.code.eq(self.lower[lane]),
                decoder.slot.eq(constants.slot),
                level.eq(Mux(constants.linear, joined + constants.level_offset, decoder.level)),
            ]
            with m.If(read.valid):
                upper = Mux(read.top & constants.odd, 0, self.upper[lane])
                m.d.sync += joined.eq(Cat(self.lower[lane], upper, Mux(read.top, 0, joined)))
            floor = Mux(constants.statistic == 0, LOWEST, 0)
            m.d.sync += counted.eq(Mux(absent, floor, level))
            levels.append(counted)

        # Cycle t + 4: of the word; t + 5: of the token so far.
        word = Signal(TokenSums(), reset_less=True)
        token = Signal(TokenSums(), reset_less=True)
        m.d.sync += [
            word.largest.eq(tree(levels, lambda a, b: Mux(a > b, a, b))),
            word.total.eq(tree(levels, lambda a, b: a + b)),
            word.squares.eq(tree([level * level for level in levels], lambda a, b: a + b)),
        ]
        with m.If(reduced.valid & reduced.whole):
            begins = reduced.first
            more = (word.largest > token.largest) | begins
            m.d.sync += [
                token.largest.eq(Mux(more, word.largest, token.largest)),
                token.total.eq(word.total + Mux(begins, 0, token.total)),
                token.squares.eq(word.squares + Mux(begins, 0, token.squares)),
            ]
        m.submodules.reciprocal = reciprocal = Reciprocal()
        starts = summed.valid & summed.last
        number, end = Signal.like(self.token), Signal()
        with m.If(starts):
            m.d.sync += [number.eq(summed.token), end.eq(summed.end)]
        m.d.comb += [
            reciprocal.start.eq(starts),
            reciprocal.statistic.eq(constants.statistic),
            reciprocal.channels.eq(constants.channels),
            reciprocal.epsilon.eq(constants.epsilon),
            reciprocal.sums.eq(token),
            self.valid.eq(reciprocal.valid),
            self.end.eq(reciprocal.valid & end),
            self.token.eq(number),
            self.factor.eq(reciprocal.factor),
        ]
        return m
