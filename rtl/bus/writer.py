"""The write master: results, as beats, become bursts on the bus."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from nupes.rtl.bus.channels import BUS_ADDRESS_BITS, WriteChannels
from nupes.rtl.bus.gearbox import Piece

__all__ = ["BURST_BEATS", "UNANSWERED", "WriteMaster"]

BURST_BEATS = 16
"""Beats of a burst, which ends at a multiple of them: so none crosses 4 KiB."""

UNANSWERED = 4
"""Bursts that may wait for their response."""


class WriteMaster(wiring.Component):
    """Write beats from an address on, in order.

    A burst begins when all its beats are there, so that W never waits for them, or with what is
    there while ``flush`` is high (nothing may follow). Bytes that do not count are not written.

    ``start`` (nothing may be under way) takes ``base``, a byte address whose bits below a beat are
    ignored. While ``stop`` is high no further burst begins and what is left is dropped. ``busy``:
    beats are here, or bursts without a response. ``error``: the response in B is an error, with
    ``response`` and the ``address`` of its burst.

    Latency: a burst whose last beat comes in cycle n begins on AW and W in n + 2. Throughput: a
    beat per cycle. All outputs on the bus come from registers (W from the buffer's memory).
    """

    start: Signal
    base: Signal
    stop: Signal
    flush: Signal
    busy: Signal
    error: Signal
    response: Signal
    address: Signal
    beats: stream.Interface
    bus: wiring.PureInterface

    def __init__(self, data_bits: int) -> None:
        self.data_bits = data_bits
        super().__init__(
            {
                "start": In(1),
                "base": In(BUS_ADDRESS_BITS),
                "stop": In(1),
                "flush": In(1),
                "busy": Out(1),
                "error": Out(1),
                "response": Out(2),
                "address": Out(BUS_ADDRESS_BITS),
                "beats": In(stream.Signature(Piece(data_bits))),
                "bus": Out(WriteChannels(data_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus, piece, beat = self.bus, Piece(self.data_bits), self.data_bits // 8
        low, inside = beat.bit_length() - 1, BURST_BEATS.bit_length() - 1
        m.submodules.buffer = buffer = SyncFIFO(width=piece.size, depth=2 * BURST_BEATS)

        left = Signal(range(BURST_BEATS + 1))  # beats of the burst that are not sent
        unanswered = Signal(range(UNANSWERED + 1))
        next_beat = Signal(BUS_ADDRESS_BITS - low)  # the first one without a burst
        answered = Signal(BUS_ADDRESS_BITS - low)  # the first one without a response

        ahead = Signal(range(2 * BURST_BEATS + 1))  # beats here that no burst has
        within = Signal(range(BURST_BEATS + 1))
        length = Signal(range(BURST_BEATS + 1))
        free = Signal()
        begin = Signal()
        send = Signal()
        drop = Signal()
        answer = Signal()
        head = piece(buffer.r_data)
        m.d.comb += [
            buffer.w_en.eq(self.beats.valid),
            buffer.w_data.eq(self.beats.payload.as_value()),
            self.beats.ready.eq(buffer.w_rdy),
            ahead.eq(buffer.level - left),
            within.eq(BURST_BEATS - next_beat[:inside]),
            length.eq(Mux(ahead < within, ahead, within)),
            free.eq(~bus.awvalid | bus.awready),
            begin.eq(
                free
                & ((left == 0) | ((left == 1) & send))
                & (unanswered != UNANSWERED)
                & ((ahead >= within) | (self.flush & (ahead != 0)))
                & ~self.stop
            ),
            bus.wvalid.eq(left != 0),
            bus.wdata.eq(head.data),
            bus.wstrb.eq(Cat(head.bytes > index for index in range(beat))),
            bus.wlast.eq(left == 1),
            bus.bready.eq(1),
            send.eq(bus.wvalid & bus.wready),
            drop.eq(self.stop & (left == 0)),
            buffer.r_en.eq(send | drop),
            answer.eq(bus.bvalid & bus.bready),
            self.busy.eq((buffer.level != 0) | (unanswered != 0) | bus.awvalid),
            self.error.eq(answer & bus.bresp[1]),
            self.response.eq(bus.bresp),
            self.address.eq(Cat(Const(0, low), answered)),
        ]
        m.d.sync += unanswered.eq(unanswered + begin - answer)
        with m.If(send):
            m.d.sync += left.eq(left - 1)
        with m.If(free):
            m.d.sync += bus.awvalid.eq(begin)
        with m.If(begin):
            m.d.sync += [
                bus.awaddr.eq(Cat(Const(0, low), next_beat)),
                bus.awlen.eq(length - 1),
                left.eq(length),
                next_beat.eq(next_beat + length),
            ]
        with m.If(answer):  # a burst goes to the next multiple, or is the last one
            m.d.sync += answered.eq(Cat(Const(0, inside), answered[inside:] + 1))
        with m.If(self.start):
            m.d.sync += [next_beat.eq(self.base[low:]), answered.eq(self.base[low:])]
        return m
