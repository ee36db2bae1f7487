"""The statistics unit: what of a token's levels is summed, and which factor is whose."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed
from amaranth.lib import data

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Statistic
from nupes.arch.pipeline import RECIPROCAL_CYCLES, TOKENS_UNDER_WAY
from nupes.rtl.datapath.statistics import LOWEST, Statistics, Tag
from nupes.rtl.interface import MeasureControl, TokenSums
from proofs.blocks.fifos import queue_invariants
from proofs.harness import Harness
from proofs.parts import past
from proofs.streams import Ledger

__all__ = ["statistics"]


def statistics(config: ArrayConfig, name: str) -> Harness:
    """Claim that the sums of a token are those of its levels since its first word, whichever token
    it is, and that its factor comes ``RECIPROCAL_CYCLES`` later with its number and offset.

    Planes join to digits, digits become levels, levels that do not count are left out, stage by
    stage. What the decoders and the reciprocal unit compute is claimed of them apart. Assumed of
    the walk: a token's last word is whole.
    """
    h = Harness(name, 1, "statistics")
    dut = Statistics(config)
    h.drive(dut)
    m, constants, gathered = h.module, dut.constants, dut.gathered
    control = MeasureControl(config)
    measured = data.View(control, past(m, dut.control, 1, "measured", reset=True))
    inner = h.probe("dut.measured", control.size)
    h.claim("measured", inner == measured.as_value())
    read = data.View(control, Mux(gathered.valid, gathered.as_value(), measured.as_value()))
    h.assume(~read.last | read.whole, "the_last_word_is_whole")
    stages: list[data.View] = []
    value: Value = read.as_value()
    for stage in range(2, 6):
        value = past(m, value, 1, f"stage_{stage}", reset=True)
        inner = h.probe(f"dut.control_{stage}", control.size)
        h.claim(f"control_{stage}", inner == value)
        stages.append(data.View(control, value))
    decoded, _, reduced, summed = stages
    levels = claim_levels(h, dut, config, read, decoded)

    # Of the word.
    sums = TokenSums()
    word = data.View(sums, h.probe("dut.word", sums.size))
    largest: Value = levels[0]
    for level in levels[1:]:
        largest = Mux(level > largest, level, largest)
    total = sum(levels, start=Const(0))
    half = len(levels) // 2
    squares = sum((level * level for level in levels[:half]), start=Const(0))
    squares += sum((level * level for level in levels[half:]), start=Const(0))
    begun = past(m, Const(1), 1, "begun", reset=True)
    for part, spec in (("largest", largest), ("total", total), ("squares", squares)):
        wanted = past(m, Value.cast(spec)[: sums[part].width], 1, f"wanted_{part}")
        h.claim(f"word_{part}", ~begun | (Value.cast(word[part])[: len(wanted)] == wanted))

    # Of the token so far.
    at = h.fixed("at", clog2(config.acc_depth))
    token = {part: Signal(sums[part].shape, name=f"of_{part}", reset_less=True) for part in PARTS}
    known = Signal()
    here = reduced.valid & reduced.whole & (reduced.token == at)
    with m.If(here):
        m.d.sync += known.eq(known | reduced.first)
        for part, so_far in token.items():
            new = word[part]
            if part == "largest":
                m.d.sync += so_far.eq(Mux(reduced.first | (new > so_far), new, so_far))
            else:
                m.d.sync += so_far.eq(new + Mux(reduced.first, 0, so_far))
    stored = h.entry("dut.sums", at, sums.size)
    h.claim("memory", ~known | same(data.View(sums, stored), token))
    entry = h.entry("dut.sums", reduced.token, sums.size)
    h.claim("first_cycle", begun | ~reduced.valid)
    h.claim("read", ~begun | (h.probe("dut.sums(0)", sums.size) == entry))
    given = data.View(sums, h.probe("dut.reciprocal.sums", sums.size))
    done = past(m, here & (known | reduced.first), 1, "done", reset=True)
    h.claim("token", ~done | same(given, token))
    for port, wanted in (
        ("statistic", Value.cast(constants.statistic)),
        ("channels", constants.channels),
        ("epsilon", constants.epsilon),
    ):
        h.claim(f"reciprocal_{port}", h.probe(f"dut.reciprocal.{port}", len(wanted)) == wanted)
    claim_factors(h, dut, config, summed, given)
    return h


PARTS = ("largest", "total", "squares")


def same(view: data.View, token: Mapping[str, Signal]) -> Value:
    """Return whether all sums of a view are those of the specification."""
    return Cat(Value.cast(view[part]) == value for part, value in token.items()).all()


def claim_levels(
    h: Harness, dut: Statistics, config: ArrayConfig, read: data.View, decoded: data.View
) -> list[Value]:
    """Claim which levels count in a word; return what stands for each lane's."""
    m, constants, gathered = h.module, dut.constants, dut.gathered
    bits, levels = config.code_bits, []
    begun = past(m, Const(1), 1, "levels_begun", reset=True)
    results = past(m, gathered.valid, 1, "results", reset=True)
    h.claim("results", h.probe("dut.results", 1) == results)
    for lane in range(config.lanes):
        joined = Signal(config.residual_bits, name=f"spec_joined_{lane}", reset_less=True)
        seen = Signal(name=f"seen_{lane}")
        lower = dut.lower[lane]
        upper = Mux(read.top & constants.odd, 0, dut.upper[lane])
        digits = (Mux(read.top, 0, joined) << 2 * bits) | (upper << bits) | lower
        code = lower
        if lane < config.cols:
            digits = Mux(gathered.valid, dut.digits[lane], digits)
            code = Mux(gathered.valid, dut.digits[lane][:bits], lower)
        with m.If(read.valid):
            m.d.sync += [joined.eq(digits), seen.eq(seen | read.top)]
        h.claim(f"joined_{lane}", ~seen | (h.probe(f"dut.joined_{lane}", len(joined)) == joined))
        decoder = f"dut.decoder_{lane}"
        h.claim(f"code_{lane}", h.probe(f"{decoder}.code", bits) == code)
        slot = h.probe(f"{decoder}.slot", len(constants.table))
        h.claim(f"slot_{lane}", slot == constants.table)
        looked_up = h.probe(f"{decoder}.level", signed(config.activation_level_bits))
        level = Signal(signed(16), name=f"spec_level_{lane}")
        linear = joined + constants.level_offset
        m.d.comb += level.eq(Mux(constants.linear, linear, looked_up))
        absent = decoded.edge & (constants.edge <= lane)
        if lane >= config.cols:
            absent |= results
        # What does not count is below all, or adds nothing.
        nothing = Mux(constants.statistic == Statistic.LARGEST, LOWEST, 0)
        chosen = Signal(signed(16), name=f"spec_counted_{lane}")
        m.d.comb += chosen.eq(Mux(absent, nothing, level))
        wanted = past(m, chosen, 1, f"wanted_{lane}")
        sure = past(m, seen | ~constants.linear | absent, 1, f"sure_{lane}")
        counted = h.probe(f"dut.counted_{lane}", signed(16))
        h.claim(f"counted_{lane}", ~(begun & sure) | (counted == wanted))
        levels.append(counted)
    return levels


def claim_factors(
    h: Harness, dut: Statistics, config: ArrayConfig, summed: data.View, given: data.View
) -> None:
    """Claim when factors come, in which order, and with what of their token."""
    m, constants, tag = h.module, dut.constants, Tag(config)
    starts = summed.valid & summed.last
    started = Signal(RECIPROCAL_CYCLES)
    m.d.sync += started.eq(Cat(starts, started[:-1]))
    h.claim("started", h.probe("dut.started", RECIPROCAL_CYCLES) == started)
    h.claim("valid", dut.valid == started[-1])
    offset = Signal(signed(32))
    with m.Switch(constants.statistic):
        with m.Case(Statistic.LARGEST):
            m.d.comb += offset.eq(given.largest)
        with m.Case(Statistic.DEVIATION):
            m.d.comb += offset.eq(given.total)
    entered = Signal(tag)
    m.d.comb += [
        entered.token.eq(summed.token),
        entered.end.eq(summed.end),
        entered.offset.eq(offset),
    ]
    left = h.probe("dut.tags.r_data", tag.size)
    ledger = Ledger.keep(
        h, "tags", (starts, entered.as_value()), (dut.valid, left), TOKENS_UNDER_WAY
    )
    queue_invariants(h, "dut.tags", ledger, TOKENS_UNDER_WAY, tag.size)
    several = Const(0, len(ledger.inside))
    for start in started:
        several = (several + start)[: len(ledger.inside)]
    h.claim("as_many_tags_as_starts", ledger.inside == several)
    shown = data.View(tag, left)
    h.claim("end", dut.end == (dut.valid & shown.end))
    h.claim("number", (dut.token == shown.token) & (dut.factor.offset == shown.offset))
    mantissa = h.probe("dut.reciprocal.mantissa", dut.factor.mantissa.shape())
    shift = h.probe("dut.reciprocal.shift", len(dut.factor.shift))
    h.claim("factor", (dut.factor.mantissa == mantissa) & (dut.factor.shift == shift))
