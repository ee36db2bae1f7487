"""Run control of the bus: what a run is from the write of ``start`` to its interrupt."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.bus import BusStatus
from nupes.arch.isa import Status
from nupes.rtl.bus.channels import BUS_ADDRESS_BITS

__all__ = ["CYCLE_BITS", "BusControl"]

CYCLE_BITS = 64


class BusControl(wiring.Component):
    """Take a run from ``start`` to ``finish``, whatever the bus does.

    ``start`` counts while ``idle``. ``begin`` is high in the cycle after it, the first one of the
    run: ``cycles`` counts from 0 there. The accelerator's ``core_done`` with OK lets results
    ``flush``; the run ends in the cycle after all are ``drained``, with ``finish`` for one cycle,
    ``done`` until the next run, and its ``status``. Any other end is told at once: the
    accelerator's own, a ``fault`` of the bus with its ``fault_status`` and ``fault_address``,
    ``abort``, and TIMEOUT after ``watchdog`` cycles without ``progress`` of the flush.

    After a fault or an abort ``stop`` holds the accelerator in reset and lets the bus finish what
    it has begun. ``idle`` returns when all is ``drained`` and the accelerator is ``core_idle``.
    """

    start: Signal
    abort: Signal
    core_done: Signal
    core_status: Signal
    core_idle: Signal
    fault: Signal
    fault_status: Signal
    fault_address: Signal
    progress: Signal
    drained: Signal
    begin: Signal
    flush: Signal
    stop: Signal
    idle: Signal
    done: Signal
    finish: Signal
    status: Signal
    error_address: Signal
    cycles: Signal

    def __init__(self, watchdog: int) -> None:
        self.watchdog = watchdog
        super().__init__(
            {
                "start": In(1),
                "abort": In(1),
                "core_done": In(1),
                "core_status": In(Status),
                "core_idle": In(1),
                "fault": In(1),
                "fault_status": In(BusStatus),
                "fault_address": In(BUS_ADDRESS_BITS),
                "progress": In(1),
                "drained": In(1),
                "begin": Out(1),
                "flush": Out(1),
                "stop": Out(1),
                "idle": Out(1),
                "done": Out(1),
                "finish": Out(1),
                "status": Out(BusStatus),
                "error_address": Out(BUS_ADDRESS_BITS),
                "cycles": Out(CYCLE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        quiet = Signal(range(self.watchdog))  # cycles of a flush without progress
        running = Signal()  # not told yet

        def end(status: object) -> list:
            return [self.status.eq(status), self.done.eq(1), self.finish.eq(1), running.eq(0)]

        m.d.sync += self.finish.eq(0)
        with m.If(running):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        fault = Signal()
        m.d.comb += fault.eq(self.fault | self.abort)

        def on_fault() -> None:
            with m.If(running):
                m.d.sync += end(self.fault_status)
                with m.If(~self.fault):
                    m.d.sync += self.status.eq(BusStatus.ABORTED)
                with m.Else():
                    m.d.sync += self.error_address.eq(self.fault_address)
            m.next = "STOP"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(self.core_idle)
                with m.If(self.start & self.idle):
                    m.d.sync += [
                        self.status.eq(BusStatus.RUNNING),
                        self.done.eq(0),
                        self.error_address.eq(0),
                        self.cycles.eq(0),
                        running.eq(1),
                        self.begin.eq(1),
                    ]
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.sync += [self.begin.eq(0), quiet.eq(0)]
                with m.If(self.core_done):
                    m.next = "FLUSH"
                    with m.If(self.core_status != Status.OK):
                        m.d.sync += end(self.core_status)
                with m.If(fault):
                    on_fault()
            with m.State("FLUSH"):
                m.d.comb += self.flush.eq(1)
                m.d.sync += quiet.eq(quiet + 1)
                with m.If(self.progress | ~running):
                    m.d.sync += quiet.eq(0)
                with m.Elif(quiet == self.watchdog - 1):
                    m.d.sync += end(BusStatus.TIMEOUT)
                with m.If(self.drained):
                    with m.If(running):
                        m.d.sync += end(BusStatus.OK)
                    m.next = "IDLE"
                with m.If(fault):
                    on_fault()
            with m.State("STOP"):
                m.d.comb += self.stop.eq(1)
                with m.If(self.drained):
                    m.next = "IDLE"
        return m
