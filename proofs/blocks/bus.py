"""The bus: what the masters ask for, in which bursts, and that words and beats keep their bytes."""

from math import gcd

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed

from nupes.arch.bus import word_bytes
from nupes.arch.config import ArrayConfig
from nupes.rtl.bus.channels import BUS_ADDRESS_BITS, MOST_BEATS, PAGE_BYTES
from nupes.rtl.bus.gearbox import Gearbox, Piece
from nupes.rtl.bus.reader import ReadMaster
from nupes.rtl.bus.writer import BURST_BEATS, UNANSWERED, WriteMaster
from nupes.rtl.control.fetcher import BURSTS
from proofs.blocks.fifos import queue_invariants
from proofs.harness import Harness
from proofs.streams import Ledger, keeps

__all__ = ["gearbox", "reader", "writer"]


def within_a_page(h: Harness, valid: Value, address: Value, beats: Value, beat: int) -> None:
    """Claim of a burst on AR or AW: whole beats, not too many, none beyond a multiple of 4 KiB."""
    low, page = beat.bit_length() - 1, PAGE_BYTES.bit_length() - 1
    h.claim("whole_beats", ~valid | (address[:low] == 0))
    h.claim("no_burst_is_too_long", ~valid | (beats <= MOST_BEATS))
    h.claim("no_burst_crosses_4_KiB", ~valid | (address[:page] + (beats << low) <= PAGE_BYTES))


def reader(config: ArrayConfig, data_bits: int, name: str) -> Harness:
    """Claim the rules of AR, and that no beat is requested that holds no word that was asked for;
    for any requests, memory and pauses.

    Assumed of the fetcher: it has asked for ``BURSTS`` bursts at most. Of the memory: a beat comes
    only if it was requested. Of what takes the words: they have arrived; of run control: a run
    begins when nothing that was asked for is on its way, and ``stop`` is high until no beat is.
    """
    h = Harness(name, 1, "read master")
    dut = ReadMaster(config, data_bits)
    h.drive(dut)
    m, inputs, bus = h.module, h.inputs, dut.bus
    beat, size = data_bits // 8, word_bytes(config.port_bits)
    low, most = beat.bit_length() - 1, BURSTS * config.burst
    start, stop, taken = inputs["start"], inputs["stop"], inputs["taken"]
    requested = inputs["request__valid"]
    length = Mux(requested, dut.request.payload.length, 0)
    arrives = bus.rvalid & bus.rready
    accepted = Mux(bus.arvalid & bus.arready, bus.arlen + 1, 0)

    # Of this run: words asked for and not taken; bytes in beats that arrived and not in words.
    words, held = Signal(range(most + 1)), Signal(range(most * size + beat))
    arrived = Mux(arrives, beat, 0)
    used = Mux(taken, size, 0)
    m.d.sync += [words.eq(words + length - taken), held.eq(held + arrived - used)]
    with m.If(start | stop):
        m.d.sync += [words.eq(0), held.eq(0)]
    h.assume(~requested | (length != 0), "a_request_has_words")
    h.assume(words + length <= most, "two_bursts_at_most")
    h.assume(~taken | ((words != 0) & (held >= size)), "taken_words_have_arrived")
    # Beats that the memory owes, and all that are to come.
    owed = Signal(range((beat - 1 + most * size) // beat + 1))
    m.d.sync += owed.eq(owed + accepted - arrives)
    h.assume(~bus.rvalid | (owed != 0), "only_requested_beats_arrive")
    coming = Signal(16)
    m.d.comb += coming.eq(owed + Mux(bus.arvalid, bus.arlen + 1, 0))
    quiet = (coming == 0) & (words == 0) & ~requested & ~stop
    h.assume(~start | quiet, "a_run_begins_when_nothing_comes")
    stopped, busy = Signal(), Signal()
    m.d.sync += [stopped.eq(stop), busy.eq(dut.busy)]
    h.assume(~stopped | stop | ~busy, "stop_lasts_until_nothing_comes")

    # AR.
    beats = Signal(9)
    m.d.comb += beats.eq(bus.arlen + 1)
    keeps(h, "ar", bus.arvalid, bus.arready, Cat(bus.araddr, bus.arlen))
    within_a_page(h, bus.arvalid, bus.araddr, beats, beat)
    following, arriving = (Signal(BUS_ADDRESS_BITS, name=n) for n in ("following", "arriving"))
    m.d.sync += [
        following.eq(following + (accepted << low)),
        arriving.eq(arriving + (arrives << low)),
    ]
    with m.If(start):
        base = Cat(Const(0, low), inputs["base"][low:])
        m.d.sync += [following.eq(base), arriving.eq(base)]
    h.claim("one_after_the_other", ~bus.arvalid | (bus.araddr == following))
    h.claim("address", dut.address == arriving)
    # Bytes asked for that no burst brings; in bursts that come; asked for that did not arrive. The
    # first number is exact, the others are modulo a power of two that is more than they are.
    asked = h.probe("dut.asked", range(beat + most * size))
    load, taking = h.probe("dut.load", 1), h.probe("dut.length", range(MOST_BEATS + 1))

    def modular(name: str, value: Value | None = None) -> Signal:
        signal = Signal(len(asked) + 1, name=name)
        if value is not None:
            m.d.comb += signal.eq(value)
        return signal

    more, brings = modular("more", length * size), modular("brings", Mux(load, taking, 0) << low)
    arrives_now = modular("arrives_now", arrived)
    debt = Signal(signed(len(asked) + 2))
    bringing, missing = modular("bringing"), modular("missing")
    m.d.sync += [
        debt.eq(debt + more - brings),
        bringing.eq(bringing + brings - arrives_now),
        missing.eq(missing + more - arrives_now),
    ]
    with m.If(start | stop):
        m.d.sync += [debt.eq(0), missing.eq(0)]
    h.claim("no_beat_without_a_word", debt > -beat)
    h.claim("asked", asked == debt + beat - 1)
    h.claim("asked_fits", asked <= beat - 1 + words * size)
    h.claim("bringing", bringing == coming << low)
    h.claim("debt", stopped | ((debt + bringing - missing)[: len(asked) + 1] == 0))
    h.claim("missing", stopped | ((missing + held - words * size)[: len(asked) + 1] == 0))
    h.claim("due", dut.due == (words != 0))
    h.claim("busy", dut.busy == (coming != 0))
    h.claim("error", dut.error == (arrives & bus.rresp[1]))
    passes = (dut.beats.valid == (bus.rvalid & ~stop)) & (dut.beats.payload == bus.rdata)
    h.claim("beats", passes & (bus.rready == (stop | inputs["beats__ready"])))

    # What holds between the registers.
    h.claim(
        "forgotten", ~stopped | ((asked == beat - 1) & (missing == 0) & (held == 0) & (words == 0))
    )
    h.claim("nothing_comes", ~stopped | busy | (coming == 0))
    h.claim("coming", h.probe("dut.coming", range((beat - 1 + most * size) // beat + 1)) == coming)
    h.claim("bounds", (coming <= (beat - 1 + most * size) // beat) & (words <= most))
    h.claim("held", held <= most * size + beat - 1)
    h.claim("words", h.probe("dut.words", range(most + 1)) == words)
    ahead = Cat(Const(0, low), h.probe("dut.next_beat", BUS_ADDRESS_BITS - low))
    after = following + Mux(bus.arvalid, beats << low, 0)
    h.claim("next_beat", ahead == after[:BUS_ADDRESS_BITS])
    return h


def writer(data_bits: int, name: str) -> Harness:
    """Claim the rules of AW and W: bursts of whole beats in order, their last beat where ``awlen``
    says, nothing lost or invented, stable while they wait; for any beats, memory and pauses.

    Assumed of the memory: a response comes only for a burst that began. Of run control: a run
    begins when nothing is under way.
    """
    h = Harness(name, 1, "write master")
    dut = WriteMaster(data_bits)
    h.drive(dut)
    m, inputs, bus = h.module, h.inputs, dut.bus
    beat, piece = data_bits // 8, Piece(data_bits)
    low = beat.bit_length() - 1
    start, stop = inputs["start"], inputs["stop"]
    begin = h.probe("dut.begin", 1)
    beats = Signal(9)
    m.d.comb += beats.eq(bus.awlen + 1)
    keeps(h, "aw", bus.awvalid, bus.awready, Cat(bus.awaddr, bus.awlen))
    keeps(h, "w", bus.wvalid, bus.wready, Cat(bus.wdata, bus.wstrb, bus.wlast))
    within_a_page(h, bus.awvalid, bus.awaddr, beats, beat)
    h.assume(~start | ~dut.busy, "a_run_begins_when_nothing_is_under_way")

    # Bursts: the latest one, and how many of its beats were sent.
    burst, sent = Signal(range(BURST_BEATS + 1)), Signal(range(BURST_BEATS + 1))
    sends = bus.wvalid & bus.wready
    begins = Signal()
    m.d.sync += begins.eq(begin)
    size, done = Mux(begins, beats, burst), Mux(begins, 0, sent)
    m.d.sync += [burst.eq(size), sent.eq(done + sends)]
    h.claim("a_burst_is_on_aw", ~begins | bus.awvalid)
    h.claim("aw_is_the_latest", ~bus.awvalid | (beats == size))
    h.claim("w_has_its_burst", bus.wvalid == (done < size))
    h.claim("wlast", ~bus.wvalid | (bus.wlast == (done + 1 == size)))
    h.claim("bursts_are_short", (size <= BURST_BEATS) & (done <= size))
    h.claim("one_burst_after_the_other", ~begin | (done + sends >= size))
    left = h.probe("dut.left", range(BURST_BEATS + 1))
    h.claim("left", left == size - done)
    following = Signal(BUS_ADDRESS_BITS)
    at = following + Mux(begins, beats << low, 0)
    m.d.sync += following.eq(at)
    h.claim("one_after_the_other", ~begins | (bus.awaddr == following))
    ahead = Cat(Const(0, low), h.probe("dut.next_beat", BUS_ADDRESS_BITS - low))
    h.claim("next_beat", ahead == at[:BUS_ADDRESS_BITS])
    with m.If(start):
        m.d.sync += following.eq(Cat(Const(0, low), inputs["base"][low:]))

    # Responses.
    answers = inputs["bus__bvalid"]
    unanswered = Signal(range(UNANSWERED + 1))
    m.d.sync += unanswered.eq(unanswered + begin - answers)
    h.assume(~answers | (unanswered != 0), "only_bursts_are_answered")
    h.claim("unanswered", h.probe("dut.unanswered", range(UNANSWERED + 1)) == unanswered)
    h.claim("not_too_many", unanswered <= UNANSWERED)
    h.claim("no_burst_while_stopped", ~begin | ~stop)

    # Beats: what is not sent is dropped, but only while stopped and between bursts.
    enters = inputs["beats__valid"] & dut.beats.ready
    leaves = Signal()
    dropped = stop & ~bus.wvalid
    m.d.comb += leaves.eq(sends | (dropped & (h.probe("dut.buffer.level", 6) != 0)))
    out = piece(Signal(piece.size, name="out"))
    m.d.comb += Value.cast(out).eq(h.probe("dut.buffer.r_data", piece.size))
    payload = dut.beats.payload.as_value()
    ledger = Ledger.keep(h, "beats", (enters, payload), (leaves, Value.cast(out)), 2 * BURST_BEATS)
    level = queue_invariants(h, "dut.buffer", ledger, 2 * BURST_BEATS, piece.size)
    h.claim("w_is_the_beat", ~bus.wvalid | (bus.wdata == out.data))
    strobes = (Const(1, beat + 1) << out.bytes) - 1
    h.claim("strobes", ~bus.wvalid | (out.bytes > beat) | (bus.wstrb == strobes[:beat]))
    h.claim("its_beats_are_there", left <= level)
    h.claim("room", dut.beats.ready == (ledger.inside != 2 * BURST_BEATS))
    h.claim("busy", dut.busy == ((ledger.inside != 0) | (unanswered != 0) | bus.awvalid))
    return h


def gearbox(in_bits: int, out_bits: int, name: str) -> Harness:
    """Claim that units go through in order, none lost or invented, whatever the widths; and that a
    word stays until it is taken.

    A unit is as many bits as divide both widths. One is followed, whichever it is. Assumed:
    ``flush`` is high until all is taken, and nothing comes meanwhile.
    """
    h = Harness(name, 1, "gearbox")
    dut = Gearbox(in_bits, out_bits)
    h.drive(dut)
    m, inputs, output = h.module, h.inputs, dut.output
    unit = gcd(in_bits, out_bits)
    given, taken = in_bits // unit, out_bits // unit
    room = given + taken - 1
    flush, clear = inputs["flush"], inputs["clear"]
    enters, leaves = inputs["input__valid"] & dut.input.ready, output.valid & output.ready
    h.assume(~flush | ~inputs["input__valid"], "nothing_follows")
    flushed = Signal()
    m.d.sync += flushed.eq(flush & ~dut.empty & ~clear)
    h.assume(~flushed | flush, "a_flush_lasts")

    inside, ahead = Signal(range(room + 1)), Signal(range(room + 1))
    picked, word = Signal(), Signal(unit, reset_less=True)
    which = h.free("which", range(given)) if given > 1 else Const(0, 1)
    h.assume(which < given, "a_unit_of_the_word")
    count = Mux(inside < taken, inside, taken)
    behind = Mux(leaves, inside - count, inside)
    m.d.sync += inside.eq(behind + Mux(enters, given, 0))
    pick = h.free("pick", 1) & ~picked & enters
    with m.If(pick):
        payload = inputs["input__payload"].word_select(which, unit)
        m.d.sync += [picked.eq(1), ahead.eq(behind + which), word.eq(payload)]
    with m.Elif(picked & leaves):
        m.d.sync += [ahead.eq(ahead - count), picked.eq(ahead >= count)]
    with m.If(clear):
        m.d.sync += [inside.eq(0), picked.eq(0)]
    held = h.probe("dut.held", room * unit)
    h.claim("level", h.probe("dut.level", range(room + 1)) == inside)
    h.claim("held", ~picked | ((ahead < inside) & (held.word_select(ahead, unit) == word)))
    h.claim("room", inside <= room)
    nothing = Cat(
        (held[at * unit : (at + 1) * unit] == 0) | (at < inside) for at in range(room)
    ).all()
    h.claim("nothing_else", nothing)

    out = output.payload
    shown = out.data.word_select(ahead[: range(taken + 1).stop.bit_length()], unit)
    h.claim("order", ~picked | (ahead >= count) | (shown == word))
    h.claim("a_word_that_is_whole", ~output.valid | flush | (inside >= taken))
    h.claim("gives", output.valid == ((inside >= taken) | (flush & (inside != 0))))
    h.claim("bytes", ~output.valid | (out.bytes == count * (unit // 8)))
    counted = Cat(
        (out.data[at * unit : (at + 1) * unit] == 0) | (at < inside) for at in range(taken)
    ).all()
    h.claim("others_are_0", counted)
    h.claim("takes", dut.input.ready == (behind + given <= room))
    h.claim("empty", dut.empty == (inside == 0))
    keeps(h, "output", output.valid, output.ready, Value.cast(out), unless=clear)
    return h
