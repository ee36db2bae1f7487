"""The fetcher: reads the program from external memory ahead of the sequencer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig

__all__ = ["BURSTS", "BurstRequest", "Fetcher"]

BURSTS = 2
"""Bursts that may be outstanding."""


class BurstRequest(data.StructLayout):
    """One burst: ``address`` of its first word and ``length``, both in port words."""

    def __init__(self) -> None:
        super().__init__({"address": 32, "length": 8})


class Fetcher(wiring.Component):
    """Prefetch port words 0 to ``length`` - 1 in bursts of ``burst`` words while ``run`` is high.

    ``length`` is that of the cycle before the first one of ``run``. The last burst ends with the
    last word: it is shorter where ``burst`` does not divide ``length``.

    ``request.valid`` comes from registers only. It is high in the first cycle of ``run``, and then
    whenever words are left to request, fewer than two bursts are outstanding and ``burst`` places
    of the buffer are free. A request accepted in cycle n takes its places and counts as
    outstanding from n + 1; a word consumed in n frees its place from n + 1; a burst is outstanding
    up to and including the cycle of its last word. ``response.ready`` is always high.

    Latency: a word that arrives in cycle n is at ``words`` in n + 1. Throughput: one word per
    cycle.

    When ``run`` falls, a request that was already offered is still made, then no more; what has
    been and will be read is discarded, one word per cycle. ``idle`` is high when nothing is left,
    and then the next run may begin.
    """

    run: Signal
    length: Signal
    idle: Signal
    request: stream.Interface
    response: stream.Interface
    words: stream.Interface

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "run": In(1),
                "length": In(32),
                "idle": Out(1),
                "request": Out(stream.Signature(BurstRequest())),
                "response": In(stream.Signature(config.port_bits, always_ready=True)),
                "words": Out(stream.Signature(config.port_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, request, burst = self.config, self.request, self.config.burst
        m.submodules.buffer = buffer = SyncFIFO(width=config.port_bits, depth=config.fetch_depth)

        taken = Signal(range(config.fetch_depth + 1))  # places: words present and words to come
        coming = Signal(range(BURSTS * burst + 1))  # words requested and not arrived
        left = Signal(32)  # words not requested
        address = Signal(32)
        offered = Signal()  # a request must stay until it is accepted

        room = Signal()
        accept = Signal()
        accepted = Signal.like(request.payload.length)  # words of the burst that is accepted
        pop = Signal()
        m.d.comb += [
            # Only the last burst may be short, and nothing is requested after it: so fewer than two
            # are outstanding when no more words are to come than one burst has.
            room.eq((coming <= burst * (BURSTS - 1)) & (taken <= config.fetch_depth - burst)),
            request.valid.eq(offered | (self.run & room & (left != 0))),
            request.payload.address.eq(address),
            request.payload.length.eq(Mux(left < burst, left, burst)),
            accept.eq(request.valid & request.ready),
            accepted.eq(Mux(accept, request.payload.length, 0)),
            buffer.w_en.eq(self.response.valid),
            buffer.w_data.eq(self.response.payload),
            self.words.valid.eq(buffer.r_rdy),
            self.words.payload.eq(buffer.r_data),
            buffer.r_en.eq(self.words.ready | ~self.run),
            pop.eq(buffer.r_rdy & buffer.r_en),
            self.idle.eq(~self.run & ~offered & (taken == 0)),
        ]
        m.d.sync += [
            offered.eq(request.valid & ~request.ready),
            taken.eq(taken + accepted - pop),
            coming.eq(coming + accepted - self.response.valid),
            address.eq(address + accepted),
            left.eq(left - accepted),
        ]
        with m.If(self.idle):
            m.d.sync += [address.eq(0), left.eq(self.length)]
        return m
