"""The stream contract at the ports of control and of the write-back; and how runs end."""

from amaranth.hdl import Const, Mux, Signal

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Status
from nupes.rtl.control.run_control import RunControl
from nupes.rtl.control.sequencer import Sequencer
from nupes.rtl.memory.writeback import Writeback
from proofs.blocks.fifos import queue_invariants
from proofs.harness import Harness
from proofs.parts import past
from proofs.streams import Ledger, keeps

__all__ = ["results", "run_control", "tiles"]

STATIONARY = 3
"""The number of that state of the sequencer: the fourth that its machine names."""


def tiles(config: ArrayConfig, name: str) -> Harness:
    """Claim that a tile that is offered stays, unchanged, until the stream engine takes it; for
    any program, with words at any time.

    Assumed of the stream engine: ``begun`` is high only after it took the tile, once for each; and
    in arrays with attention, of the stationary reader: ``stationary_last`` follows ``stationary``.
    """
    h = Harness(name, 1, "sequencer")
    dut = Sequencer(config)
    h.drive(dut)
    m, tile = h.module, dut.tile
    keeps(h, "tile", tile.valid, tile.ready, tile.payload)
    # What the engine does: it took a tile whose first word is not issued yet.
    fresh = Signal()
    accept = tile.valid & tile.ready
    h.assume(~dut.begun | fresh, "begins_after_it_took_the_tile")
    h.assume(~accept | ~fresh | dut.begun, "takes_one_after_the_other")
    with m.If(dut.begun):
        m.d.sync += fresh.eq(0)
    with m.If(accept):
        m.d.sync += fresh.eq(1)
    waiting = h.probe("dut.waiting", 1)
    if config.attention:
        reading = Signal()  # the weights of a MATMUL are on their way
        h.assume(~h.inputs["stationary_last"] | reading, "last_after_first")
        with m.If(dut.stationary):
            m.d.sync += reading.eq(1)
        with m.Elif(h.inputs["stationary_last"]):
            m.d.sync += reading.eq(0)
        h.claim("reading", reading == (h.probe("dut.fsm_state", 2) == STATIONARY))
        h.claim("nothing_waits_meanwhile", ~(reading & waiting))
    offered = h.probe("dut.offered", 1)
    h.claim("one_tile_waits", ~(fresh & offered))
    h.claim("waiting", waiting == (offered | fresh))
    return h


def results(config: ArrayConfig, name: str) -> Harness:
    """Claim that results for the host come in order and complete, and wait for it.

    Assumed of the stream engine: it issues a result only if the queue has room by then.
    """
    h = Harness(name, 1, "results")
    dut, depth, width = Writeback(config), config.result_depth, 16 * config.cols
    h.drive(dut)
    m, result = h.module, dut.result
    keeps(h, "result", result.valid, result.ready, result.payload)
    sent = dut.control.valid & dut.control.last & dut.control.host
    if config.attention:
        h.assume(~(dut.control.host & dut.control.wide), "for_the_host_or_for_memory")
    enters = past(m, sent, 1, "sent", reset=True)
    values = past(m, dut.results.as_value(), 1, "values_past")
    taken = result.valid & result.ready
    ledger = Ledger.keep(h, "results", (enters, values), (taken, result.payload), depth)
    level = queue_invariants(h, "dut.queue", ledger, depth, width)
    h.assume(~enters | (level != depth), "room")
    h.claim("sending", h.probe("dut.sending", 1) == enters)
    stored = h.probe("dut.values", 16 * config.lanes)[:width]
    h.claim("values", ~enters | (stored == values))
    h.claim("empty", dut.results_empty == (ledger.inside == 0))
    h.claim("taken", dut.result_taken == taken)
    return h


def run_control(config: ArrayConfig, name: str) -> Harness:
    """Claim when a run begins and ends, with which status, and that the pipeline drains."""
    h = Harness(name, 1, "run control")
    dut = RunControl(config)
    h.drive(dut)
    m, inputs = h.module, h.inputs
    drain, watchdog = config.issue_to_write + 1, config.watchdog
    running = Signal()
    quiet, rest = Signal(range(watchdog + 1)), Signal(range(drain + 1))
    status = Signal(Status)
    finish, over = Signal(Status), Signal()
    late = ~inputs["progress"] & (quiet == watchdog - 1)
    starts = inputs["start"] & inputs["fetch_idle"] & ~running & (rest == 0)
    m.d.comb += [finish.eq(inputs["finish"]), over.eq((finish != Status.RUNNING) | late)]
    with m.If(starts):
        m.d.sync += [running.eq(1), quiet.eq(0), status.eq(Status.RUNNING)]
    with m.Elif(running & over):
        m.d.sync += [running.eq(0), rest.eq(drain)]
        m.d.sync += status.eq(Mux(finish != Status.RUNNING, finish, Status.TIMEOUT))
    with m.Elif(running):
        m.d.sync += quiet.eq(Mux(inputs["progress"], 0, quiet + 1))
    with m.If(~running & (rest != 0)):
        m.d.sync += rest.eq(rest - 1)
    done = Signal()
    m.d.sync += done.eq(running & over)
    h.claim("run", dut.run == running)
    h.claim("done", dut.done == done)
    h.claim("status", dut.status == status)
    h.claim("idle", dut.idle == (~running & (rest == 0) & inputs["fetch_idle"]))
    state = h.probe("dut.fsm_state", 2)
    h.claim("state", state == Mux(running, 1, Mux(rest != 0, 2, 0)))
    h.claim("quiet", ~running | (h.probe("dut.quiet", range(watchdog)) == quiet))
    h.claim("bounds", (quiet < watchdog) & (rest <= drain) & ~(running & (rest != 0)))
    left = h.probe("dut.drain", range(drain))
    h.claim("drain", Mux(rest != 0, left == rest - 1, Const(1)))
    return h
