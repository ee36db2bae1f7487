"""The residual reader: fetches the skip tensor's digits just in time for the lanes."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from nupes.rtl.activation import ReadPort
from nupes.rtl.config import ArrayConfig
from nupes.rtl.layout import PlaneRun

__all__ = ["ResidualReader"]


class Tag(data.StructLayout):
    """What is known of a word that was read: ``valid``, its ``plane`` and the ``slice`` wanted."""

    def __init__(self) -> None:
        super().__init__({"valid": 1, "plane": 3, "slice": 4})


class ResidualReader(wiring.Component):
    """Read the planes of a word and join their digits, one digit of ``code_bits`` bits per plane.

    A request taken in cycle t reads plane i in cycle ``t + issue_to_psum + 1 - planes + i``, where
    ``planes`` is the configuration's, so requests do not overtake one another; its digits, 0 for
    planes that it does not have, are at ``joined`` in cycle ``t + issue_to_psum + 1``.
    Throughput: a request of n planes holds the port for max(1, n) cycles; the stream engine's
    ``pace`` keeps that distance. ``requests.ready`` is always high.
    """

    requests: stream.Interface
    memory: wiring.PureInterface
    joined: data.View

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "requests": In(stream.Signature(PlaneRun(), always_ready=True)),
                "memory": Out(ReadPort(config)),
                "joined": Out(data.ArrayLayout(config.joined_bits, config.cols)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, memory = self.config, self.memory
        begin = Signal()
        run = self._delay_requests(m, begin)

        # Drive the port: plane 0 from the request, the others from registers.
        present = Signal(PlaneRun())
        plane = Signal.like(present.planes)
        busy = Signal()
        tag = Signal(Tag())
        tag_next = Signal(Tag())
        with m.If(begin):
            m.d.comb += [
                memory.address.eq(run.address),
                tag_next.valid.eq(run.planes != 0),
                tag_next.slice.eq(run.slice),
            ]
            m.d.sync += [
                present.eq(run),
                present.address.eq(run.address + run.plane_step),
                plane.eq(1),
                busy.eq(run.planes > 1),
            ]
        with m.Else():
            m.d.comb += [
                memory.address.eq(present.address),
                tag_next.valid.eq(busy),
                tag_next.plane.eq(plane),
                tag_next.slice.eq(present.slice),
            ]
            m.d.sync += [
                present.address.eq(present.address + present.plane_step),
                plane.eq(plane + 1),
                busy.eq(busy & (plane + 1 < present.planes)),
            ]
        m.d.sync += tag.eq(tag_next)

        # Plane i has waited planes - 1 - i cycles when the last one arrives.
        digits = memory.data.as_value().word_select(tag.slice, config.cols * config.code_bits)
        for index in reversed(range(config.planes)):
            joins = tag.valid & (tag.plane == index)
            for lane in range(config.cols):
                position = index * config.code_bits
                m.d.comb += self.joined[lane][position : position + config.code_bits].eq(
                    Mux(joins, digits.word_select(lane, config.code_bits), 0)
                )
            if index:
                later_tag = Signal(Tag(), name=f"tag_{index}")
                later = Signal(config.cols * config.code_bits, name=f"digits_{index}")
                m.d.sync += [later_tag.eq(tag), later.eq(digits)]
                tag, digits = later_tag, later
        return m

    def _delay_requests(self, m: Module, begin: Signal) -> data.View:
        """Return the request that begins to read in this cycle, if ``begin`` is high."""
        delay = self.config.issue_to_psum + 1 - self.config.planes
        requests = self.requests
        if delay == 0:
            m.d.comb += begin.eq(requests.valid)
            return requests.payload
        waiting = Signal(delay)
        m.submodules.queue = queue = SyncFIFO(width=PlaneRun().size, depth=delay + 1)
        m.d.sync += waiting.eq(waiting << 1 | requests.valid)
        m.d.comb += [
            queue.w_en.eq(requests.valid),
            queue.w_data.eq(requests.payload),
            begin.eq(waiting[-1]),
            queue.r_en.eq(begin),
        ]
        return data.View(PlaneRun(), queue.r_data)
