"""The store queue: words of the activation memory on their way to the program's memory."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.rtl.interface import StoreControl

__all__ = ["StoreQueue", "StoredWord"]


class StoredWord(data.StructLayout):
    """``data``, a word of the activation memory, and the ``address`` of its port word."""

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__({"address": 32, "data": config.word_bits})


class StoreQueue(wiring.Component):
    """Take a word in the cycle after its issue, in which the activation memory gives it.

    ``control`` belongs to the cycle of the issue, ``word`` to the next one. A word issued in cycle
    t is at ``stored`` in t + 2 at the earliest. There must be room: the stream engine counts it.
    ``retire`` is high in cycle t + 1 of a STORE's last word. Throughput: one word per cycle.
    """

    control: data.View
    word: data.View
    stored: stream.Interface
    taken: Signal
    empty: Signal
    retire: Signal

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "control": In(StoreControl()),
                "word": In(data.ArrayLayout(config.code_bits, config.lanes)),
                "stored": Out(stream.Signature(StoredWord(config))),
                "taken": Out(1),
                "empty": Out(1),
                "retire": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.queue = queue = SyncFIFO(
            width=StoredWord(config).size, depth=config.store_depth
        )
        present = Signal(StoreControl())
        entry = Signal(StoredWord(config))
        m.d.sync += present.eq(self.control)
        m.d.comb += [
            entry.address.eq(present.address),
            entry.data.eq(self.word),
            queue.w_en.eq(present.valid),
            queue.w_data.eq(entry),
            self.stored.valid.eq(queue.r_rdy),
            self.stored.payload.eq(queue.r_data),
            queue.r_en.eq(self.stored.ready),
            self.taken.eq(self.stored.valid & self.stored.ready),
            self.empty.eq(~queue.r_rdy),
            self.retire.eq(present.valid & present.end),
        ]
        return m
