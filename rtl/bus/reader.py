"""The read master: what the fetcher asks for becomes bursts on the bus."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.bus import word_bytes
from nupes.arch.config import ArrayConfig
from nupes.rtl.bus.channels import BUS_ADDRESS_BITS, MOST_BEATS, PAGE_BYTES, ReadChannels
from nupes.rtl.control.fetcher import BURSTS, BurstRequest

__all__ = ["ReadMaster"]


class ReadMaster(wiring.Component):
    """Read a program front to back, as far as it was asked for.

    The fetcher's requests say how many words it has places for; their addresses say nothing, since
    words are read in order. As many beats are requested as hold these words, and no beat that
    holds none: bursts of INCR, at most 256 beats, none across 4 KiB, each as soon as it can be.
    What else is in the last beat waits: ``due`` is high while fewer words were ``taken`` from the
    beats than asked for.

    ``start`` (no beat may be on its way) takes ``base``, a byte address whose bits below a beat
    are ignored. While ``stop`` is high no further burst is requested, what comes is dropped, and
    what was asked for is forgotten.
    ``busy``: beats are on their way. ``error``: the beat in R is an error, with ``response`` and
    the ``address`` of the beat.

    Latency: a request accepted in cycle n is on AR in n + 2; a beat on R is at ``beats`` in the
    same cycle. Throughput: a beat per cycle. All of AR and ``rready`` come from registers (and
    from ``beats.ready``).
    """

    start: Signal
    base: Signal
    stop: Signal
    taken: Signal
    due: Signal
    busy: Signal
    error: Signal
    response: Signal
    address: Signal
    request: stream.Interface
    beats: stream.Interface
    bus: wiring.PureInterface

    def __init__(self, config: ArrayConfig, data_bits: int) -> None:
        self.config = config
        self.data_bits = data_bits
        super().__init__(
            {
                "start": In(1),
                "base": In(BUS_ADDRESS_BITS),
                "stop": In(1),
                "taken": In(1),
                "due": Out(1),
                "busy": Out(1),
                "error": Out(1),
                "response": Out(2),
                "address": Out(BUS_ADDRESS_BITS),
                "request": In(stream.Signature(BurstRequest(), always_ready=True)),
                "beats": Out(stream.Signature(data_bits)),
                "bus": Out(ReadChannels(data_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus, beat = self.bus, self.data_bits // 8
        low = beat.bit_length() - 1
        size = word_bytes(self.config.port_bits)
        aligned = min(MOST_BEATS, PAGE_BYTES // beat)  # beats: bursts end at multiples of it

        # Bytes that were asked for and that no burst brings, and a beat less a byte: so the part
        # above a beat's bytes is the beats to request.
        most = beat - 1 + BURSTS * self.config.burst * size
        asked = Signal(range(most + 1), init=beat - 1)
        coming = Signal(range(most // beat + 1))  # beats requested and not arrived
        words = Signal(range(BURSTS * self.config.burst + 1))  # asked for and not taken
        next_beat = Signal(BUS_ADDRESS_BITS - low)  # the first one not requested
        arriving = Signal(BUS_ADDRESS_BITS - low)  # the first one not arrived

        request = Signal.like(self.request.payload.length)  # words of the request that is accepted
        wanted = Signal(range(most // beat + 1))
        within = Signal(range(aligned + 1))
        length = Signal(range(aligned + 1))
        free = Signal()
        load = Signal()
        arrive = Signal()
        m.d.comb += [
            request.eq(Mux(self.request.valid, self.request.payload.length, 0)),
            self.due.eq(words != 0),
            wanted.eq(asked >> low),
            within.eq(aligned - next_beat[: aligned.bit_length() - 1]),
            length.eq(Mux(wanted < within, wanted, within)),
            free.eq(~bus.arvalid | bus.arready),
            load.eq(free & (wanted != 0) & ~self.stop),
            arrive.eq(bus.rvalid & bus.rready),
            bus.rready.eq(self.stop | self.beats.ready),
            self.beats.valid.eq(bus.rvalid & ~self.stop),
            self.beats.payload.eq(bus.rdata),
            self.busy.eq(coming != 0),
            self.error.eq(arrive & bus.rresp[1]),
            self.response.eq(bus.rresp),
            self.address.eq(Cat(Const(0, low), arriving)),
        ]
        m.d.sync += [
            asked.eq(asked + request * size - (Mux(load, length, 0) << low)),
            words.eq(words + request - self.taken),
            coming.eq(coming + Mux(load, length, 0) - arrive),
            arriving.eq(arriving + arrive),
        ]
        with m.If(free):
            m.d.sync += bus.arvalid.eq(load)
        with m.If(load):
            m.d.sync += [
                bus.araddr.eq(Cat(Const(0, low), next_beat)),
                bus.arlen.eq(length - 1),
                next_beat.eq(next_beat + length),
            ]
        with m.If(self.start | self.stop):
            m.d.sync += [asked.eq(beat - 1), words.eq(0)]
        with m.If(self.start):
            m.d.sync += [
                next_beat.eq(self.base[low:]),
                arriving.eq(self.base[low:]),
            ]
        return m
