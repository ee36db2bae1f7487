"""The statistics unit: the largest level, the sum, and the sum of squares of a token."""

from collections.abc import Callable

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination, Statistic
from nupes.arch.pipeline import RECIPROCAL_CYCLES, TOKENS_UNDER_WAY
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.datapath.reciprocal import Reciprocal
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import (
    RESULT_BITS,
    LoadBus,
    MeasureConstants,
    MeasureControl,
    TokenFactor,
    TokenSums,
)

__all__ = ["Statistics", "tree"]

LOWEST = -(1 << 15)


def tree(values: list[Value], join: Callable[[Value, Value], Value]) -> Value:
    """Return values joined in pairs, pairs of pairs, and so on."""
    while len(values) > 1:
        pairs = [join(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = [*pairs, *values[len(values) // 2 * 2 :]]
    return values[0]


class Tag(data.StructLayout):
    """What is known of a token while its factor is made: which one it is, whether nothing follows,
    its offset."""

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__({"token": clog2(config.acc_depth), "end": 1, "offset": signed(32)})


class Statistics(wiring.Component):
    """Take one word per cycle, of a MEASURE or of results; give a token's factor
    ``issue_to_factor`` cycles after the last one.

    ``control`` arrives in cycle t, ``upper`` and ``lower`` in t + 1: two planes of a word, the most
    significant pair first; of the first pair of an ``odd`` number of planes only the lower one
    exists. Or ``gathered`` arrives in t + 1, with all ``digits`` of a column tile's results, if its
    ``valid`` is high; never both. Sums are kept for each token, so that the words of several may
    alternate. ``constants`` have their values in t + 1, and keep them until the last factor is
    there. In the cycle of ``valid`` ``factor`` is that of token ``token``; ``end`` says that
    nothing more is on its way.
    """

    load: wiring.PureInterface
    control: data.View
    constants: data.View
    upper: data.View
    lower: data.View
    gathered: data.View
    digits: data.View
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
                "gathered": In(MeasureControl(config)),
                "digits": In(data.ArrayLayout(RESULT_BITS, config.cols)),
                "valid": Out(1),
                "end": Out(1),
                "token": Out(clog2(config.acc_depth)),
                "factor": Out(TokenFactor()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, constants = self.config, self.constants
        measured = Signal(MeasureControl(config))
        read = Signal(MeasureControl(config))
        stages = [Signal(MeasureControl(config), name=f"control_{stage}") for stage in range(2, 6)]
        m.d.sync += measured.eq(self.control)
        m.d.comb += read.eq(Mux(self.gathered.valid, self.gathered, measured))
        for before, after in zip([read, *stages], stages, strict=False):
            m.d.sync += after.eq(before)
        decoded, counted, reduced, summed = stages
        levels = self._levels(m, read, decoded)

        # Cycle t + 4: of the word; t + 5: of the token so far.
        word = Signal(TokenSums(), reset_less=True)
        m.d.sync += [
            word.largest.eq(tree(levels, lambda a, b: Mux(a > b, a, b))),
            word.total.eq(tree(levels, lambda a, b: a + b)),
            word.squares.eq(tree([level * level for level in levels], lambda a, b: a + b)),
        ]
        m.submodules.sums = sums = Memory(shape=TokenSums(), depth=config.acc_depth, init=[])
        write = sums.write_port()
        before = sums.read_port(transparent_for=(write,))
        begins, old, new = reduced.first, before.data, Signal(TokenSums())
        more = (word.largest > old.largest) | begins
        token = Signal(TokenSums(), reset_less=True)
        m.d.comb += [
            before.addr.eq(counted.token),
            before.en.eq(1),
            new.largest.eq(Mux(more, word.largest, old.largest)),
            new.total.eq(word.total + Mux(begins, 0, old.total)),
            new.squares.eq(word.squares + Mux(begins, 0, old.squares)),
            write.addr.eq(reduced.token),
            write.data.eq(new),
            write.en.eq(reduced.valid & reduced.whole),
        ]
        m.d.sync += token.eq(new)

        # From t + 5 on: its factor.
        reciprocal = place(m, self.library, "reciprocal", Reciprocal)
        starts = summed.valid & summed.last
        started = Signal(RECIPROCAL_CYCLES)  # bit i: i + 1 cycles ago
        m.d.sync += started.eq(started << 1 | starts)
        largest = constants.statistic == Statistic.LARGEST
        centered = constants.statistic == Statistic.DEVIATION
        tag = Signal(Tag(config))
        m.submodules.tags = tags = SyncFIFO(width=tag.shape().size, depth=TOKENS_UNDER_WAY)
        m.d.comb += [
            reciprocal.statistic.eq(constants.statistic),
            reciprocal.channels.eq(constants.channels),
            reciprocal.epsilon.eq(constants.epsilon),
            reciprocal.sums.eq(token),
            tag.token.eq(summed.token),
            tag.end.eq(summed.end),
            tag.offset.eq(Mux(largest, token.largest, Mux(centered, token.total, 0))),
            tags.w_en.eq(starts),
            tags.w_data.eq(tag),
            tags.r_en.eq(self.valid),
        ]
        done = data.View(Tag(config), tags.r_data)
        m.d.comb += [
            self.valid.eq(started[-1]),
            self.end.eq(self.valid & done.end),
            self.token.eq(done.token),
            self.factor.offset.eq(done.offset),
            self.factor.mantissa.eq(reciprocal.mantissa),
            self.factor.shift.eq(reciprocal.shift),
        ]
        return m

    def _levels(self, m: Module, read: data.View, decoded: data.View) -> list[Value]:
        """Return the levels that count: digits join in cycle t + 1, are levels in t + 2, and those
        that do not count are gone in t + 3."""
        config, constants = self.config, self.constants
        levels = []
        results = Signal()  # what is decoded are results
        m.d.sync += results.eq(self.gathered.valid)
        for lane in range(config.lanes):
            decoder = place(
                m, self.library, f"decoder_{lane}", Decoder, config,
                Destination.ACTIVATION_TABLE, config.activation_level_bits,
            )  # fmt: skip
            connect(m, flipped(self.load), decoder.load)
            joined = Signal(config.residual_bits, name=f"joined_{lane}", reset_less=True)
            level = Signal(signed(16), name=f"level_{lane}")
            counted = Signal(signed(16), name=f"counted_{lane}", reset_less=True)
            upper = Mux(read.top & constants.odd, 0, self.upper[lane])
            digits = Cat(self.lower[lane], upper, Mux(read.top, 0, joined))
            code = self.lower[lane]
            absent = decoded.edge & (lane >= constants.edge)
            if lane < config.cols:
                digits = Mux(self.gathered.valid, self.digits[lane], digits)
                code = Mux(self.gathered.valid, self.digits[lane][: config.code_bits], code)
            else:
                absent |= results
            m.d.comb += [
                decoder.code.eq(code),
                decoder.slot.eq(constants.table),
                level.eq(Mux(constants.linear, joined + constants.level_offset, decoder.level)),
            ]
            with m.If(read.valid):
                m.d.sync += joined.eq(digits)
            floor = Mux(constants.statistic == Statistic.LARGEST, LOWEST, 0)
            m.d.sync += counted.eq(Mux(absent, floor, level))
            levels.append(counted)
        return levels
