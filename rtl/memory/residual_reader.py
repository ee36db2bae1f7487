"""The residual reader: fetches a stored tensor's digits just in time for the lanes."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import BANKS
from nupes.rtl.interface import PlaneRun
from nupes.rtl.memory.activation import ReadPort

__all__ = ["ResidualReader"]


class Tag(data.StructLayout):
    """What is known of the words that were read: ``valid`` (one bit per port), which ``pair`` of
    planes they are, and the ``slice`` wanted."""

    def __init__(self) -> None:
        super().__init__({"valid": BANKS, "pair": 2, "slice": 4})


class ResidualReader(wiring.Component):
    """Read the planes of a word and join their digits, one digit of ``code_bits`` bits per plane.

    A request taken in cycle t reads the planes 2i and 2i + 1, one through each port, in cycle
    ``t + issue_to_residual - pairs + i``, where ``pairs`` are those of the configuration's
    ``residual_planes``, so requests do not overtake one another; its digits, 0 for planes that it
    does not have, are at ``joined`` in cycle ``t + issue_to_residual``. No word is read before
    cycle t, when the tile's dependencies are met.
    Throughput: a request of n planes holds the ports for max(1, ceil(n / 2)) cycles; the stream
    engine's ``pace`` keeps that distance. ``requests.ready`` is always high.
    """

    requests: stream.Interface
    memory: Sequence[Any]
    joined: data.View

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "requests": In(stream.Signature(PlaneRun(config), always_ready=True)),
                "memory": Out(ReadPort(config)).array(BANKS),
                "joined": Out(data.ArrayLayout(config.residual_bits, config.cols)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, memory = self.config, self.memory
        pairs = config.residual_pairs
        begin = Signal()
        request = self._delay_requests(m, begin, config.issue_to_residual - pairs)

        # The present request: its first pair of planes comes from the queue, the rest from here.
        rest = Signal(PlaneRun(config))
        rest_pair = Signal(range(pairs + 1))
        run = Signal(PlaneRun(config))
        pair = Signal.like(rest_pair)
        m.d.comb += [
            run.eq(Mux(begin, request.as_value(), rest.as_value())),
            pair.eq(Mux(begin, 0, rest_pair)),
            memory[0].address.eq(run.address),
            memory[1].address.eq(run.address + run.plane_step),
        ]
        tag = Signal(Tag())
        m.d.sync += [
            rest.eq(run),
            rest.address.eq(run.address + (run.plane_step << 1)),
            rest.planes.eq(Mux(run.planes > BANKS, run.planes - BANKS, 0)),
            rest_pair.eq(pair + 1),
            tag.valid.eq(Cat(run.planes > port for port in range(BANKS))),
            tag.pair.eq(pair),
            tag.slice.eq(run.slice),
        ]

        # Pair i has waited pairs - 1 - i cycles when the last one arrives.
        bits = config.cols * config.code_bits
        digits = Cat(port.data.as_value().word_select(tag.slice, bits) for port in memory)
        for index in reversed(range(pairs)):
            for port in range(min(BANKS, config.residual_planes - BANKS * index)):
                joins = tag.valid[port] & (tag.pair == index)
                position = (BANKS * index + port) * config.code_bits
                for lane in range(config.cols):
                    digit = digits.word_select(port * config.cols + lane, config.code_bits)
                    m.d.comb += self.joined[lane][position : position + config.code_bits].eq(
                        Mux(joins, digit, 0)
                    )
            if index:
                later_tag = Signal(Tag(), name=f"tag_{index}")
                later = Signal(BANKS * bits, name=f"digits_{index}")
                m.d.sync += [later_tag.eq(tag), later.eq(digits)]
                tag, digits = later_tag, later
        return m

    def _delay_requests(self, m: Module, begin: Signal, cycles: int) -> data.View:
        """Return the request that was made ``cycles`` ago, if ``begin`` is high."""
        requests, config = self.requests, self.config
        if cycles == 0:
            m.d.comb += begin.eq(requests.valid)
            return requests.payload
        waiting = Signal(cycles)
        m.submodules.queue = queue = SyncFIFO(width=PlaneRun(config).size, depth=cycles + 1)
        m.d.sync += waiting.eq(waiting << 1 | requests.valid)
        m.d.comb += [
            queue.w_en.eq(requests.valid),
            queue.w_data.eq(requests.payload),
            begin.eq(waiting[-1]),
            queue.r_en.eq(begin),
        ]
        return data.View(PlaneRun(config), queue.r_data)
