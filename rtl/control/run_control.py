"""Run control: when a run begins, how it ends, and when the next one may begin."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Status

__all__ = ["RunControl"]


class RunControl(wiring.Component):
    """Take a run from ``start`` to ``done``.

    ``run`` is high from the cycle after ``start`` (which counts only while ``idle``) to the cycle
    before ``done``, ``done`` for one cycle. A run ends in the cycle after ``finish`` is not
    RUNNING, with that status, or after ``watchdog`` cycles in a row without ``progress``, with
    TIMEOUT; ``status`` stays until the next ``start``. ``idle`` returns when whatever was issued
    before ``done`` has left the pipeline and ``fetch_idle`` is high.
    """

    start: Signal
    finish: Signal
    progress: Signal
    fetch_idle: Signal
    idle: Signal
    run: Signal
    done: Signal
    status: Signal

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "finish": In(Status),
                "progress": In(1),
                "fetch_idle": In(1),
                "idle": Out(1),
                "run": Out(1),
                "done": Out(1),
                "status": Out(Status),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        watchdog = self.config.watchdog
        drain_cycles = self.config.issue_to_write + 1
        quiet = Signal(range(watchdog))  # cycles without progress
        drain = Signal(range(drain_cycles))

        m.d.sync += self.done.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(self.fetch_idle)
                with m.If(self.start & self.idle):
                    m.d.sync += [self.run.eq(1), self.status.eq(Status.RUNNING), quiet.eq(0)]
                    m.next = "RUN"
            with m.State("RUN"):
                timeout = ~self.progress & (quiet == watchdog - 1)
                m.d.sync += quiet.eq(quiet + 1)
                with m.If(self.progress):
                    m.d.sync += quiet.eq(0)
                with m.If((self.finish != Status.RUNNING) | timeout):
                    m.d.sync += [self.run.eq(0), self.done.eq(1), self.status.eq(self.finish)]
                    m.d.sync += drain.eq(drain_cycles - 1)
                    m.next = "DRAIN"
                with m.If((self.finish == Status.RUNNING) & timeout):
                    m.d.sync += self.status.eq(Status.TIMEOUT)
            with m.State("DRAIN"):
                m.d.sync += drain.eq(drain - 1)
                with m.If(drain == 0):
                    m.next = "IDLE"
        return m
