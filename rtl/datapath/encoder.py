"""The encoder of a lane: the pointwise function and the quantizer, as one binary search."""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import ENCODER_SLOT_BITS, Destination, entry_bits
from nupes.rtl.interface import RESULT_BITS, LoadBus

__all__ = ["Encoder"]


class Encoder(wiring.Component):
    """Compute ``map[#{k : y >= thresholds[k]}]``: latency ``encoder_stages`` cycles, one per cycle.

    ``slot`` and ``depth`` arrive one cycle before ``y``. A search of ``depth`` comparisons walks a
    heap of ``2**depth - 1`` thresholds from its root, one level a cycle; the remaining stages pass
    the index on. ``result`` is the map's entry, or ``y`` itself if ``depth`` is 0.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "slot": In(ENCODER_SLOT_BITS),
                "depth": In(4),
                "y": In(signed(16)),
                "result": Out(RESULT_BITS),
            }
        )
        self.load: wiring.PureInterface
        self.slot: Signal
        self.depth: Signal
        self.y: Signal
        self.result: Signal
        self.stages = config.encoder_stages
        self.node_bits = entry_bits(Destination.THRESHOLD, config)
        self.joined_bits = config.joined_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()
        node = self.load.address[: self.node_bits]
        node_slot = self.load.address[self.node_bits :][: len(self.slot)]
        slot, depth, y, index = self.slot, self.depth, self.y, Cat()
        for stage in range(self.stages):
            # The thresholds of heap nodes 2**stage .. 2**(stage + 1) - 1.
            threshold = self.table(
                m,
                f"thresholds_{stage}",
                signed(16),
                Destination.THRESHOLD,
                node >> stage == 1,
                Cat(node[:stage], node_slot),
                Cat(index, slot),
            )
            slot, depth = register(m, slot, f"slot_{stage}"), register(m, depth, f"depth_{stage}")
            if stage:
                y, index = register(m, y, f"y_{stage}"), register(m, index, f"index_{stage}")
            found = Signal(stage + 1, name=f"found_{stage}")
            m.d.comb += found.eq(Mux(depth > stage, Cat(y >= threshold, index), index))
            index = found
        code = self.table(
            m,
            "codes",
            unsigned(self.joined_bits),
            Destination.MAP,
            Const(1),
            Cat(node, node_slot),
            Cat(index, slot),
        )
        host = register(m, depth == 0, "host")
        y = register(m, y, f"y_{self.stages}")
        m.d.comb += self.result.eq(Mux(host, y, code))
        return m

    def table(
        self,
        m: Module,
        name: str,
        shape: Shape,
        destination: Destination,
        enable: Value,
        write_address: Value,
        read_address: Value,
    ) -> Value:
        """Add a memory written by LOADs; return its data for last cycle's address."""
        depth = 1 << len(write_address)
        m.submodules[name] = memory = Memory(shape=shape, depth=depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [
            read.addr.eq(read_address),
            read.en.eq(1),
            write.addr.eq(write_address),
            write.data.eq(self.load.data),
            write.en.eq(self.load.valid & (self.load.destination == destination) & enable),
        ]
        return read.data


def register(m: Module, value: Value, name: str) -> Signal:
    """Return ``value`` one cycle later; data only, no reset."""
    signal = Signal(Value.cast(value).shape(), name=name, reset_less=True)
    m.d.sync += signal.eq(value)
    return signal
