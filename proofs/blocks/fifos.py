"""Queues, the fetcher and the corner turn: order, no loss, no invention, and credits."""

from amaranth.hdl import Mux, Signal, Value
from amaranth.lib.fifo import SyncFIFO

from nupes.arch.config import ArrayConfig
from nupes.rtl.control.fetcher import BURSTS, Fetcher
from nupes.rtl.datapath.corner_turn import CornerTurn
from proofs.harness import Harness
from proofs.streams import Ledger, keeps

__all__ = ["corner_turn", "fetcher", "queue", "queue_invariants"]


def queue_invariants(h: Harness, path: str, ledger: Ledger, depth: int, width: int) -> Value:
    """Claim what ties a queue's registers to the ledger; return its level."""
    m = h.module
    level = h.probe(f"{path}.level", range(depth + 1))
    produce = h.probe(f"{path}.produce", range(depth))
    consume = h.probe(f"{path}.consume", range(depth))
    name = path.replace(".", "_")
    h.claim(f"{name}_level", level == ledger.inside)
    h.claim(f"{name}_pointers", (produce < depth) & (consume < depth))
    distance, place = Signal(range(2 * depth + 1)), Signal(range(2 * depth + 2))
    at = Signal(range(depth))
    m.d.comb += [
        distance.eq(Mux(consume + level < depth, consume + level, consume + level - depth)),
        place.eq(consume + ledger.ahead),
        at.eq(Mux(place < depth, place, place - depth)),
    ]
    h.claim(f"{name}_distance", produce == distance)
    entry = h.entry(f"{path}.storage", at, width)
    h.claim(f"{name}_entry", ~ledger.picked | (entry == ledger.word))
    return level


def queue(depth: int, width: int, name: str) -> Harness:
    """Claim order, no loss and no invention of a queue, and that it takes words while there is
    room and gives them while there are any."""
    h = Harness(name, 1, "queue")
    h.module.submodules.dut = dut = SyncFIFO(width=width, depth=depth)
    write, read, data = h.free("write", 1), h.free("read", 1), h.free("data", width)
    h.module.d.comb += [dut.w_en.eq(write), dut.r_en.eq(read), dut.w_data.eq(data)]
    enters, leaves = dut.w_en & dut.w_rdy, dut.r_en & dut.r_rdy
    ledger = Ledger.keep(h, "words", (enters, data), (leaves, dut.r_data), depth)
    queue_invariants(h, "dut", ledger, depth, width)
    h.claim("takes", dut.w_rdy == (ledger.inside != depth))
    h.claim("gives", dut.r_rdy == (ledger.inside != 0))
    keeps(h, "output", dut.r_rdy, dut.r_en, dut.r_data)
    return h


def fetcher(config: ArrayConfig, name: str) -> Harness:
    """Claim the fetcher's credits and order, for any length, memory and consumer.

    Assumed of the memory: a word arrives only if it was requested. Assumed of the accelerator: a
    run begins only after ``idle``.
    """
    h = Harness(name, 1, "fetcher")
    dut, burst, depth = Fetcher(config), config.burst, config.fetch_depth
    h.drive(dut)
    m, run, length = h.module, h.inputs["run"], h.inputs["length"]
    request, arrives = dut.request, h.inputs["response__valid"]
    accept = request.valid & request.ready
    asked = Mux(accept, request.payload.length, 0)

    # The bursts under way: words to come of the older one and of the younger one.
    older, younger = Signal(range(burst + 1)), Signal(range(burst + 1))
    with m.If(arrives & (older == 1)):
        m.d.sync += [
            older.eq(Mux(younger == 0, asked, younger)),
            younger.eq(Mux(younger == 0, 0, asked)),
        ]
    with m.Else():
        with m.If(older == 0):
            m.d.sync += older.eq(asked)
        with m.Else():
            m.d.sync += [older.eq(older - arrives), younger.eq(Mux(younger == 0, asked, younger))]
    h.assume(~arrives | (older != 0), "only_requested_words_arrive")
    h.claim("two_bursts_at_most", ~accept | (younger == 0))
    h.claim("a_burst_has_words", ~request.valid | (request.payload.length != 0))
    h.claim("no_burst_is_too_long", ~request.valid | (request.payload.length <= burst))

    # The program: words are requested from 0 on, one after the other, up to its length.
    before, idle_before = Signal(), Signal()
    program, following = Signal(32), Signal(32)
    m.d.sync += [before.eq(run), idle_before.eq(dut.idle), following.eq(following + asked)]
    with m.If(dut.idle):
        m.d.sync += [program.eq(length), following.eq(0)]
    h.assume(~run | before | idle_before, "a_run_begins_after_idle")
    end = request.payload.address + request.payload.length
    h.claim("nothing_beyond_the_end", ~request.valid | (end <= program))
    h.claim("one_after_the_other", ~request.valid | (request.payload.address == following))
    keeps(h, "request", request.valid, request.ready, request.payload)

    # The buffer.
    words = dut.words
    leaves = words.valid & (words.ready | ~run)
    arrival = (arrives, h.inputs["response__payload"])
    ledger = Ledger.keep(h, "words", arrival, (leaves, words.payload), depth)
    level = queue_invariants(h, "dut.buffer", ledger, depth, config.port_bits)
    h.claim("the_buffer_has_room", ~arrives | (level != depth))
    h.claim("words_while_there_are_any", words.valid == (level != 0))
    keeps(h, "words", words.valid, words.ready, words.payload, unless=~run)

    # What holds between the registers.
    taken = h.probe("dut.taken", range(depth + 1))
    coming = h.probe("dut.coming", range(BURSTS * burst + 1))
    left, address = h.probe("dut.left", 32), h.probe("dut.address", 32)
    offered = h.probe("dut.offered", 1)
    h.claim("coming", (coming == older + younger) & (older <= burst) & (younger <= burst))
    h.claim("taken", (taken == level + coming) & (taken <= depth))
    h.claim("order_of_bursts", (younger == 0) | (older != 0))
    h.claim("short_bursts_are_last", (younger == 0) | (younger == burst) | (left == 0))
    room = (coming <= burst * (BURSTS - 1)) & (taken <= depth - burst)
    h.claim("an_offer_has_room", ~offered | (room & (left != 0)))
    h.claim("progress", (address == following) & (address <= program))
    started = Signal()
    with m.If(dut.idle):
        m.d.sync += started.eq(1)
    h.claim("left", Mux(started, left == program - address, left == 0))
    h.claim("quiet", dut.idle == (~run & ~offered & (taken == 0)))
    return h


def corner_turn(rows: int, cols: int, bits: int, name: str) -> Harness:
    """Claim that the columns of the latest ``cols`` fills come out as rows, whichever row and
    column is looked at."""
    h = Harness(name, 1, "corner turn")
    dut = CornerTurn(rows, cols, bits)
    h.drive(dut)
    m, fill, drain = h.module, h.inputs["fill"], h.inputs["drain"]
    h.assume(~(fill & drain), "one_at_a_time")
    # One code: it enters in row ``row`` with some fill; ``since`` fills and ``drained`` rows later
    # it must be in column ``cols - 1 - since`` of row ``row - drained``.
    row = h.fixed("row", range(rows))
    h.claim("row_exists", row < rows) if rows & (rows - 1) == 0 else h.assume(row < rows)
    code = Signal(bits, reset_less=True)
    since, drained = Signal(range(cols + 1)), Signal(range(rows + 1))
    inside = Signal()
    with m.If(fill & ~inside & h.free("pick", 1)):
        m.d.sync += [inside.eq(1), since.eq(0), drained.eq(0)]
        m.d.sync += code.eq(dut.column.as_value().word_select(row, bits))
    with m.Elif(fill & inside):
        m.d.sync += [since.eq(since + 1), inside.eq(since != cols - 1)]
    with m.Elif(drain & inside):
        m.d.sync += [drained.eq(drained + 1), inside.eq(drained != row)]
    column, there = cols - 1 - since, row - drained
    found = Signal(bits)
    grid = [h.probe(f"dut.row_{index}", cols * bits) for index in range(rows)]
    with m.Switch(there):
        for index, line in enumerate(grid):
            with m.Case(index):
                m.d.comb += found.eq(line.word_select(column[: len(since)], bits))
    h.claim("where", ~inside | ((since < cols) & (drained <= row) & (found == code)))
    first = dut.row.as_value().word_select(column[: len(since)], bits)
    h.claim("row", ~(inside & (drained == row)) | (first == code))
    return h
