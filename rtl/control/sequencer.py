"""The sequencer: takes the program apart into loads, weight rows and dispatched tiles."""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.config import INSTRUCTION_BITS, ArrayConfig
from nupes.arch.isa import (
    ADDRESS_BITS,
    BANKS,
    CHECKSUM_BITS,
    CHECKSUM_SEED,
    LAG_FREE,
    RUN_POSITION,
    Destination,
    Opcode,
    Status,
)
from nupes.rtl.interface import LoadBus, WeightBus
from nupes.rtl.isa_layouts import INSTRUCTION_LAYOUT, RUN_LAYOUT, streamed_of

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Take program words; drive the load bus and the weight bus; dispatch TILE and POOL.

    Timing, with an instruction's last word consumed in cycle c: it is decoded in c + 1, and longer
    while it must wait; its first payload word is consumed one cycle after the last cycle of DECODE
    at the earliest, then one word per cycle; the next instruction's first word one cycle after the
    last payload word (after DECODE if there is none). A tile is at ``tile`` from the cycle of its
    last payload word on (one cycle after DECODE if there is none). ``load`` and ``weights`` are
    driven in the cycle in which their word is consumed. Throughput: one word per cycle.

    The payload of a run is that of its tiles: a tile's first word is consumed in the cycle in which
    ``begun`` is high for the one before at the earliest.

    DECODE waits: LOAD until at most ``lag`` dispatched tiles have not retired, MATMUL until at most
    ``weight_lag``; MATMUL, TILE, POOL and MEASURE until ``begun`` was high in an earlier cycle for
    the one of them before; END until all dispatched tiles have retired and ``results_empty``, a
    LOAD of FENCE until ``results_empty`` and ``written``. A payload word of LOAD ACTIVATION also
    waits while the bank of its address is ``write_busy``.

    ``finish`` is OK in END's last cycle of DECODE, BAD_INSTRUCTION in the first cycle of DECODE of
    an instruction whose checksum is wrong or that asks for something that does not exist, else
    RUNNING. The component is reset between runs.

    Arrays with attention have ``stationary``, high in a MATMUL's last cycle of DECODE: it is
    dispatched in the cycle in which ``stationary_last`` is high, and the next instruction is taken
    from then on. ``instruction`` is the present one.
    """

    words: stream.Interface
    tile: stream.Interface
    load: wiring.PureInterface
    weights: wiring.PureInterface
    loaded: Signal
    begun: Signal
    retire: Signal
    write_busy: Signal
    results_empty: Signal
    written: Signal
    consume: Signal
    finish: Signal
    stationary: Signal
    stationary_last: Signal
    instruction: data.View

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        attention = {
            "stationary": Out(1),
            "stationary_last": In(1),
            "instruction": Out(INSTRUCTION_LAYOUT),
        }
        super().__init__(
            {
                "words": In(stream.Signature(config.port_bits)),
                "tile": Out(stream.Signature(INSTRUCTION_LAYOUT)),
                "load": Out(LoadBus(config)),
                "weights": Out(WeightBus(config)),
                # The next word that LOAD ACTIVATION will write.
                "loaded": Out(ADDRESS_BITS),
                "begun": In(1),
                "retire": In(1),
                "write_busy": In(BANKS),
                "results_empty": In(1),
                "consume": Out(1),
                "finish": Out(Status),
                **(attention if config.attention else {}),
                # All that was stored is in memory.
                **({"written": In(1)} if config.spills else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config

        collected = Signal(range(max(2, config.instruction_words)))
        buffer = Signal(config.instruction_words * config.port_bits)
        instruction = data.View(INSTRUCTION_LAYOUT, buffer[: INSTRUCTION_LAYOUT.size])
        is_load = Signal()
        to_activation = Signal()
        run = data.View(RUN_LAYOUT, buffer[RUN_POSITION : RUN_POSITION + RUN_LAYOUT.size])
        more = Signal.like(run.more)  # tiles of the run that follow the one at ``tile``
        waiting = Signal()  # the latest tile has not issued its first word yet
        dispatch = Signal()
        unfinished = Signal(range(4 * config.issue_to_write))  # dispatched - retired
        remaining = Signal(instruction.count.shape().width)  # payload words
        address = Signal(ADDRESS_BITS)  # of the next payload word of a LOAD
        words = Mux(instruction.masked, instruction.rows << 1, instruction.rows)  # of a tile
        if config.joins_weights:
            words = words + Mux(streamed_of(instruction).weights_joined, instruction.rows, 0)
        bank_busy = Mux(address[0], self.write_busy[1], self.write_busy[0])
        m.d.comb += [
            is_load.eq(instruction.opcode == Opcode.LOAD),
            to_activation.eq(is_load & (instruction.destination == Destination.ACTIVATION)),
            self.consume.eq(self.words.valid & self.words.ready),
        ]
        stored, fetched = Const(0), Const(1)
        unladen = instruction.opcode == Opcode.POOL
        if config.attention:
            stored, fetched, lag = Signal(), Signal(), instruction.weight_lag
            m.d.comb += [
                self.instruction.eq(instruction),
                stored.eq(instruction.opcode == Opcode.MATMUL),
                fetched.eq(~stored | (lag == LAG_FREE) | (unfinished <= lag)),
            ]
            unladen |= instruction.opcode == Opcode.MEASURE
        unladen |= streamed_of(instruction).kept & ~stored
        m.d.sync += unfinished.eq(unfinished + dispatch - self.retire)
        with m.If(self.begun):
            m.d.sync += waiting.eq(0)
        with m.If(dispatch):
            m.d.sync += waiting.eq(1)

        with m.FSM() as machine:
            with m.State("COLLECT"):
                m.d.comb += self.words.ready.eq(1)
                with m.If(self.consume):
                    m.d.sync += buffer.eq(Cat(buffer, self.words.payload)[config.port_bits :])
                    m.d.sync += collected.eq(collected + 1)
                    with m.If(collected == config.instruction_words - 1):
                        m.d.sync += collected.eq(0)
                        m.next = "DECODE"
            with m.State("DECODE"):
                with m.If(~self._sensible(buffer, instruction, run)):
                    m.d.comb += self.finish.eq(Status.BAD_INSTRUCTION)
                with m.Elif(instruction.opcode == Opcode.END):
                    with m.If((unfinished == 0) & self.results_empty):
                        m.d.comb += self.finish.eq(Status.OK)
                with m.Elif(is_load):
                    settled = (instruction.lag == LAG_FREE) | (unfinished <= instruction.lag)
                    if config.spills:
                        fence = instruction.destination == Destination.FENCE
                        settled &= ~fence | (self.results_empty & self.written)
                    with m.If(settled):
                        m.d.sync += remaining.eq(instruction.count)
                        # Not before: what it waits for may chase words above it.
                        with m.If(to_activation):
                            m.d.sync += self.loaded.eq(instruction.address)
                        m.next = "PAYLOAD"
                        with m.If(instruction.count == 0):
                            m.next = "COLLECT"
                with m.Elif(~waiting & fetched):
                    m.d.sync += remaining.eq(words)
                    m.next = "PAYLOAD"
                    with m.If(unladen | (instruction.rows == 0)):
                        m.d.comb += dispatch.eq(1)
                        m.next = "COLLECT"
                    if config.attention:
                        m.d.comb += self.stationary.eq(stored)
                        with m.If(stored):
                            m.next = "STATIONARY"
            if config.attention:
                with m.State("STATIONARY"):
                    with m.If(self.stationary_last):
                        m.d.comb += dispatch.eq(1)
                        m.next = "COLLECT"
            with m.State("PAYLOAD"):
                # Cells take a row of weights from the cycle on in which the tile before begins.
                held = Mux(is_load, to_activation & bank_busy, waiting & ~self.begun)
                m.d.comb += self.words.ready.eq(~held)
                with m.If(self.consume):
                    m.d.sync += remaining.eq(remaining - 1)
                    with m.If(remaining == 1):
                        m.d.comb += dispatch.eq(~is_load)
                        m.d.sync += remaining.eq(words)
                        with m.If(is_load | (more == 0)):
                            m.next = "COLLECT"

        paying = self.consume & machine.ongoing("PAYLOAD")
        decode = machine.ongoing("DECODE")
        self._drive_load(m, instruction, address, paying & is_load, to_activation, decode)
        self._drive_weights(m, instruction, paying & ~is_load, decode | dispatch)
        following, free = Mux(stored, 0, run.more), decode & ~waiting
        self._offer(m, instruction, run, more, following, dispatch, decode, free)
        return m

    def _offer(
        self, m: Module, instruction: data.View, run: data.View, more: Signal, following: Value,
        dispatch: Signal, decode: Value, free: Value,
    ) -> None:  # fmt: skip
        """Offer each tile from the cycle in which it is dispatched (in DECODE: the one after) until
        it is accepted. The first one of an instruction is taken while ``tile`` is ``free``, the
        ``following`` ones of its run when the one before is accepted."""
        tile, payload = self.tile, self.tile.payload
        offered = Signal()  # in an earlier cycle, and not accepted
        steps = Const(1)
        chained = streamed_of(payload).warm_up != 0
        parts = self.config.lanes // self.config.rows
        if parts > 1:
            whole = payload.slice == parts - 1
            steps = ~run.run_slices | whole
        m.d.comb += tile.valid.eq(offered | (dispatch & ~decode))
        accept = tile.valid & tile.ready
        m.d.sync += offered.eq((offered | dispatch) & ~accept)
        with m.If(accept):
            m.d.sync += [
                more.eq(more - 1),
                payload.lag.eq(LAG_FREE),
                payload.mark.eq(0),
                payload.first.eq(0),
                payload.last.eq(instruction.last & (more == 1)),
                payload.gather.eq(instruction.gather & (more == 1)),
            ]
            with m.If(steps):
                m.d.sync += (
                    payload[name].eq(payload[name] + step)
                    for name, step in (
                        ("address", run.run_step),
                        ("row_address", run.run_step),
                        ("x", Mux(chained, 0, run.run_x)),
                        ("row_x", Mux(chained, 0, run.run_x)),
                        ("y", Mux(chained, run.run_x, 0)),
                    )
                )
            if parts > 1:
                with m.If(run.run_slices):
                    m.d.sync += payload.slice.eq(Mux(whole, 0, payload.slice + 1))
        with m.If(free):
            m.d.sync += [
                more.eq(following),
                payload.eq(instruction),
                payload.last.eq(instruction.last & (following == 0)),
                payload.gather.eq(instruction.gather & (following == 0)),
            ]

    def _sensible(self, buffer: Signal, instruction: data.View, run: data.View) -> Value:
        """Return whether the checksum holds and the instruction names things that exist."""
        parts = [
            buffer[position : position + CHECKSUM_BITS]
            for position in range(0, INSTRUCTION_BITS, CHECKSUM_BITS)
        ]
        opcode = instruction.opcode
        destinations = Destination.FENCE if self.config.spills else Destination.PRODUCT
        streams = (opcode == Opcode.TILE) | (opcode == Opcode.POOL)
        if self.config.products:
            streams |= opcode == Opcode.MULTIPLY
        if self.config.attention:
            streams |= (opcode == Opcode.MATMUL) & (instruction.rows != 0)
            streams |= opcode == Opcode.MEASURE
        return (reduce(xor, parts) == CHECKSUM_SEED) & (
            (opcode == Opcode.END)
            | ((opcode == Opcode.LOAD) & (instruction.destination <= destinations))
            | (
                (streams & (instruction.count != 0) & (instruction.rows <= self.config.rows))
                & (((instruction.rows != 0) & ~streamed_of(instruction).kept) | (run.more == 0))
                & ~self._joins_too_much(instruction)
            )
        )

    def _joins_too_much(self, instruction: data.View) -> Value:
        """Return whether the instruction joins digits that the array does not."""
        join, config = streamed_of(instruction), self.config
        planes = Const(0) if config.joins else join.joined
        return planes | (Const(0) if config.joins_weights else join.weights_joined)

    def _drive_load(
        self, m: Module, instruction: data.View, address: Signal, valid: Value,
        to_activation: Signal, decode: Value,
    ) -> None:  # fmt: skip
        """Write payload words of LOAD to consecutive addresses."""
        m.d.comb += [
            self.load.valid.eq(valid),
            self.load.destination.eq(instruction.destination),
            self.load.address.eq(address),
            self.load.data.eq(self.words.payload),
        ]
        with m.If(decode):
            m.d.sync += address.eq(instruction.address)
        with m.If(valid):
            m.d.sync += address.eq(address + 1)
            with m.If(to_activation):
                m.d.sync += self.loaded.eq(self.loaded + 1)

    def _drive_weights(self, m: Module, instruction: data.View, valid: Value, rest: Value) -> None:
        """Send payload words of TILE to rows 0, 1, 2, ..., from 0 again after ``rest``; a row's
        mask comes first, then its lower digits."""
        config, weights = self.config, self.weights
        row = Signal.like(weights.row)
        mask = Signal(config.cols)
        masked = Signal()  # the mask of this row has arrived
        is_mask, is_lower = instruction.masked & ~masked, Const(0)
        if config.joins_weights:
            halved = Signal()  # the lower digits of this row have arrived
            joined = streamed_of(instruction).weights_joined
            is_lower = ~is_mask & joined & ~halved
            m.d.comb += [weights.lower.eq(valid & is_lower), weights.joined.eq(joined)]
            with m.If(valid):
                m.d.sync += halved.eq(is_lower)
        m.d.comb += [
            weights.valid.eq(valid & ~is_mask & ~is_lower),
            weights.row.eq(row),
            weights.codes.eq(self.words.payload),
            weights.mask.eq(Mux(instruction.masked, mask, ~0)),
            weights.slot.eq(instruction.weight_slot),
        ]
        with m.If(valid):
            m.d.sync += masked.eq(is_mask | (masked & is_lower))
        with m.If(valid & is_mask):
            m.d.sync += mask.eq(self.words.payload)
        with m.If(weights.valid):
            m.d.sync += row.eq(row + 1)
        with m.If(rest):
            m.d.sync += row.eq(0)
