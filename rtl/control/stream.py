"""The stream engine: issues the words of tiles to the array and to the max-pool unit."""

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch import encoding
from nupes.arch.config import ArrayConfig
from nupes.arch.isa import ADDRESS_BITS, LAG_FREE, Opcode, Scaled
from nupes.rtl.control.descriptors import DescriptorFile
from nupes.rtl.control.walk import Walk
from nupes.rtl.interface import (
    FeedControl,
    LoadBus,
    MeasureConstants,
    MeasureControl,
    PlaneRun,
    PoolControl,
    ResultRun,
    StoreControl,
    WordControl,
)
from nupes.rtl.isa_layouts import INSTRUCTION_LAYOUT, store_address_of, streamed_of

__all__ = ["StreamEngine"]


class StreamEngine(wiring.Component):
    """Take one tile after the other; issue one word per cycle.

    A tile is accepted when there is none or in the cycle of the present one's final word, as soon
    as ``started - retired <= lag`` (POOL, MEASURE, and what follows a MEASURE or the last tile that
    gathers, also: ``started == retired``), where ``started`` counts the tiles accepted before; its
    first word can be issued one cycle later. A word is issued unless

    - ``chase`` is set, the word is not a structural zero and its address is not below ``loaded``,
    - a ``last`` word, or any word of a MULTIPLY, was issued less than its layer's ``pace`` cycles
      ago (of an earlier tile too),
    - it is the ``last`` word of a result for the host and ``result_depth`` results have been issued
      and not taken (a result taken in cycle n counts from n + 1),
    - it is a word of a STORE and ``store_depth`` of these have been issued and not taken.

    ``last`` means the last word of a pixel in a tile with ``last`` set, or in any POOL; a MEASURE
    has none. In a TILE or MULTIPLY with ``warm_up`` every word is a step of a chain (``link``), and
    those before a row's first pixel are nothing else: they are not ``last``, wait for no pace, and
    their ``control`` is not valid. All outputs belong to the cycle of the issue. Entries of
    ``outputs`` (every ``last`` word) and ``residuals`` (every ``last`` word but a POOL's, and every
    word of a MULTIPLY) are always taken.
    """

    tile: stream.Interface
    load: wiring.PureInterface
    loaded: Signal
    retire: Signal
    result_taken: Signal
    store_taken: Signal
    address: Signal
    second_address: Signal
    feed: data.View
    control: data.View
    link: Signal
    pool: data.View
    store: data.View
    measure: data.View
    constants: data.View
    outputs: stream.Interface
    residuals: stream.Interface
    issue: Signal
    begun: Signal
    mark: Signal

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        second = {"second_address": Out(config.act_address_bits)}
        attention = {
            "measure": Out(MeasureControl(config)),
            "constants": Out(MeasureConstants(config)),
        }
        spills = {"store": Out(StoreControl()), "store_taken": In(1)}
        super().__init__(
            {
                "tile": In(stream.Signature(INSTRUCTION_LAYOUT)),
                "load": In(LoadBus(config)),
                "loaded": In(ADDRESS_BITS),
                "retire": In(1),
                "result_taken": In(1),
                "address": Out(config.act_address_bits),
                "feed": Out(FeedControl(config)),
                "control": Out(WordControl(config)),
                "link": Out(int(config.chains)),
                "pool": Out(PoolControl()),
                "outputs": Out(stream.Signature(ResultRun(config), always_ready=True)),
                "residuals": Out(stream.Signature(PlaneRun(config), always_ready=True)),
                # A word, a tile's first word, a layer's first word is issued.
                "issue": Out(1),
                "begun": Out(1),
                "mark": Out(1),
                **(second if config.reads_pairs else {}),
                **(attention if config.attention else {}),
                **(spills if config.spills else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.descriptors = descriptors = DescriptorFile(config)
        m.submodules.walk = walk = Walk()
        wiring.connect(m, descriptors.load, wiring.flipped(self.load))
        tile, position, descriptor = (
            Signal(INSTRUCTION_LAYOUT),
            walk.position,
            descriptors.descriptor,
        )

        active = Signal()
        fresh = Signal()  # the tile's first word has not been issued
        is_pool = Signal()
        last = Signal()
        to_host = Signal()
        accept = Signal()
        is_measure, is_store = Const(0), Const(0)
        if config.attention:
            is_measure = Signal()
            m.d.comb += is_measure.eq(tile.opcode == Opcode.MEASURE)
        pools = tile.opcode == Opcode.POOL
        if config.spills:
            is_store = Signal()
            m.d.comb += is_store.eq(encoding.is_store(tile.opcode, tile.masked))
            pools &= ~is_store
        m.d.comb += [
            is_pool.eq(pools),
            last.eq(position.last & (tile.last | is_pool) & ~is_measure & ~position.early),
            to_host.eq((descriptor.encoder_depth == 0) & ~is_pool & ~descriptor.out_wide),
            descriptors.slot.eq(tile.descriptor),
            walk.descriptor.eq(descriptor),
            walk.tile.eq(self.tile.payload),
            walk.warm_up.eq(
                Mux(self._chained(self.tile.payload), streamed_of(self.tile.payload).warm_up, 0)
            ),
            walk.accept.eq(accept),
            walk.step.eq(self.issue),
        ]

        unfinished = Signal(range(4 * config.issue_to_write))  # started - retired
        lag = self.tile.payload.lag
        alone = self.tile.payload.opcode == Opcode.POOL
        if config.attention:
            gathers = tile.gather & tile.gather_last
            alone |= (self.tile.payload.opcode == Opcode.MEASURE) | is_measure | gathers
        m.d.comb += [
            self.tile.ready.eq(
                (~active | (self.issue & position.end))
                & ((lag == LAG_FREE) | (unfinished <= lag))
                & (~alone | (unfinished == 0))
            ),
            accept.eq(self.tile.valid & self.tile.ready),
        ]
        m.d.sync += unfinished.eq(unfinished + accept - self.retire)

        paced, multiply = last, Const(0)
        if config.products:
            multiply = Signal()
            m.d.comb += multiply.eq(tile.opcode == Opcode.MULTIPLY)
            paced = last | (multiply & ~position.early)
        hold = Signal.like(descriptor.pace)  # cycles until the next word
        owed = Signal(range(config.result_depth + 1))  # results issued and not taken
        free = (
            active
            & (hold == 0)
            & ~(tile.chase & position.inside & (position.address >= self.loaded))
            & ~(last & to_host & (owed == config.result_depth))
        )
        if config.spills:
            free &= ~(is_store & self._store(m, position, is_store, accept))
        m.d.comb += self.issue.eq(free)
        m.d.sync += owed.eq(owed + (self.issue & last & to_host) - self.result_taken)
        with m.If(hold != 0):
            m.d.sync += hold.eq(hold - 1)
        with m.If(self.issue):
            m.d.sync += fresh.eq(0)
            with m.If(paced & (descriptor.pace != 0)):
                m.d.sync += hold.eq(descriptor.pace - 1)
            with m.If(position.end):
                m.d.sync += active.eq(0)
        with m.If(accept):
            m.d.sync += [tile.eq(self.tile.payload), active.eq(1), fresh.eq(1)]

        to_array = ~(is_pool | is_measure)
        if config.spills:
            to_array = ~(is_pool | is_measure | is_store)
        m.d.comb += [
            self.address.eq(position.address),
            self.begun.eq(self.issue & fresh),
            self.mark.eq(self.begun & tile.mark),
            self.feed.swap.eq(self.begun & to_array & ~streamed_of(tile).kept),
            self.feed.pad.eq(~position.inside),
            self.feed.rows.eq(tile.rows),
            self.feed.slot.eq(tile.activation_slot),
            self.feed.slice.eq(tile.slice),
            self.control.valid.eq(self.issue & to_array & ~position.early),
            self.control.first.eq(position.first & tile.first),
            self.control.last.eq(last),
            self.control.end.eq(position.end),
            self.control.acc_address.eq(position.pixel),
            self.control.shift.eq(tile.shift),
            self.control.multiply.eq(multiply),
            self.control.param_slot.eq(tile.param_slot),
            self.control.encoder_slot.eq(descriptor.encoder_slot),
            self.control.encoder_depth.eq(descriptor.encoder_depth),
            self.pool.valid.eq(self.issue & is_pool),
            self.pool.first.eq(position.first),
            self.pool.last.eq(position.last),
            self.pool.top.eq(position.top),
            self.pool.pad.eq(~position.inside),
            self.pool.end.eq(position.end),
            self.outputs.valid.eq(self.issue & last),
            self.outputs.payload.address.eq(position.out_address),
            self.outputs.payload.plane_step.eq(descriptor.out_plane_step),
            self.outputs.payload.planes.eq(self.planes(descriptor.out_planes, descriptor.out_wide)),
            self.outputs.payload.slice.eq(tile.out_slice),
            self.residuals.valid.eq(self.issue & paced & to_array),
            self.residuals.payload.address.eq(position.residual_address),
            self.residuals.payload.plane_step.eq(descriptor.residual_plane_step),
            self.residuals.payload.planes.eq(
                self.planes(descriptor.residual_planes, descriptor.residual_wide)
            ),
            self.residuals.payload.slice.eq(tile.out_slice),
        ]
        if config.joins:
            m.d.comb += self.feed.joined.eq(streamed_of(tile).joined)
        if config.reads_pairs:
            m.d.comb += self.second_address.eq(position.address + descriptor.step_plane)
        if config.chains:
            chained = self._chained(tile) & (streamed_of(tile).warm_up != 0)
            m.d.comb += self.link.eq(self.issue & chained)
        if config.attention:
            self._attend(m, tile, position, descriptor, is_measure, last & ~is_pool)
        return m

    def _chained(self, tile: data.View) -> Value:
        """Return whether an instruction may have chains."""
        chained = tile.opcode == Opcode.TILE
        return chained | (tile.opcode == Opcode.MULTIPLY) if self.config.products else chained

    def planes(self, count: Value, wide: Value) -> Value:
        """Return the planes of a tensor; a wide one's do not fit the field."""
        return Mux(wide, self.config.wide_planes, count) if self.config.attention else count

    def _store(self, m: Module, position: data.View, is_store: Value, accept: Value) -> Value:
        """Drive what arrays that spill have besides; return whether a STORE must wait for room."""
        address = Signal(32)
        owed = Signal(range(self.config.store_depth + 1))  # words issued and not taken
        m.d.comb += [
            self.store.valid.eq(self.issue & is_store),
            self.store.end.eq(position.end),
            self.store.address.eq(address),
        ]
        m.d.sync += owed.eq(owed + self.store.valid - self.store_taken)
        with m.If(accept):
            m.d.sync += address.eq(store_address_of(self.tile.payload))
        with m.If(self.store.valid & ~accept):
            m.d.sync += address.eq(address + 1)
        return owed == self.config.store_depth

    def _attend(
        self,
        m: Module,
        tile: data.View,
        position: data.View,
        descriptor: data.View,
        is_measure: Value,
        results: Value,
    ) -> None:
        """Drive what arrays with attention have besides; ``results`` says that the word's are those
        of the array."""
        gather = self.outputs.payload.gather
        m.d.comb += [
            gather.valid.eq(tile.gather & results),
            gather.top.eq(1),
            gather.whole.eq(1),
            gather.first.eq(tile.gather_first),
            gather.edge.eq(tile.gather_last),
            gather.last.eq(tile.gather_last),
            gather.end.eq(gather.valid & tile.gather_last & position.end),
            gather.token.eq(position.pixel),
            self.control.token.eq(descriptor.scaled != Scaled.NONE),
            self.control.replace.eq(descriptor.scaled >= Scaled.TERM),
            self.control.masks.eq((descriptor.scaled == Scaled.SCORE) & descriptor.residual_wide),
            self.control.residual_wide.eq(descriptor.residual_wide),
            self.control.out_wide.eq(descriptor.out_wide),
            self.measure.valid.eq(self.issue & is_measure),
            self.measure.top.eq(position.line_first),
            self.measure.whole.eq(position.line_last),
            self.measure.first.eq(position.first_line),
            self.measure.edge.eq(position.last_line),
            self.measure.last.eq(position.last),
            self.measure.end.eq(position.end),
            self.measure.token.eq(position.pixel),
        ]
        # Results come long after their words: what their descriptor says is kept.
        with m.If(self.issue & (is_measure | gather.valid)):
            m.d.sync += (
                self.constants[name].eq(descriptor[name]) for name in self.constants.shape().members
            )
