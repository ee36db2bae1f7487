"""The write-back: results of the array and of the max-pool unit go to memory or to the host."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import BANKS
from nupes.rtl.interface import RESULT_BITS, MeasureControl, PlaneRun, ResultControl, ResultRun
from nupes.rtl.memory.activation import WritePort

__all__ = ["Writeback"]


class Writeback(wiring.Component):
    """Write each result where the stream engine said when it issued the result's last word.

    ``control`` and ``results`` (one value per lane: joined digits, or ``y`` if ``control.host``)
    and ``pool_*`` (joined digits of a whole word) arrive in some cycle w - 1. In cycle w + i, the
    planes 2i and 2i + 1 are written, one through each port: the tile's slice for results of the
    array, the whole word for the pool unit; of ``y + 32768`` if ``control.wide``. Or, in cycle w,
    ``y`` enters the result queue, which must have room (the stream engine counts it); a word is at
    ``result`` one cycle later at the earliest. ``retire`` is high in the cycle of the last of these
    writes of an ``end`` word; in cycle w if the word is not ``last``.

    In arrays with attention ``gathered`` and ``digits`` are, in cycle w - 1, what the statistics
    unit takes of results. A tile whose factors follow does not ``retire`` here.

    Throughput: a result of n planes takes max(1, ceil(n / 2)) cycles; results keep that distance.
    ``outputs.ready`` is always high.
    """

    outputs: stream.Interface
    control: data.View
    results: data.View
    pool_valid: Signal
    pool_end: Signal
    pool_joined: data.View
    write: Sequence[Any]
    result: stream.Interface
    results_empty: Signal
    result_taken: Signal
    retire: Signal
    progress: Signal
    gathered: data.View
    digits: data.View

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        attention = {
            "gathered": Out(MeasureControl(config)),
            "digits": Out(data.ArrayLayout(RESULT_BITS, config.cols)),
        }
        super().__init__(
            {
                "outputs": In(stream.Signature(ResultRun(config), always_ready=True)),
                "control": In(ResultControl(config)),
                "results": In(data.ArrayLayout(RESULT_BITS, config.cols)),
                "pool_valid": In(1),
                "pool_end": In(1),
                "pool_joined": In(data.ArrayLayout(config.joined_bits, config.lanes)),
                "write": Out(WritePort(config)).array(BANKS),
                "result": Out(stream.Signature(RESULT_BITS * config.cols)),
                "results_empty": Out(1),
                "result_taken": Out(1),
                "retire": Out(1),
                # A plane is written or a result taken.
                "progress": Out(1),
                **(attention if config.attention else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, control = self.config, self.control
        slices = config.lanes // config.cols
        m.submodules.places = places = SyncFIFO(
            width=ResultRun(config).size, depth=config.issue_to_write
        )
        m.submodules.queue = queue = SyncFIFO(
            width=RESULT_BITS * config.cols, depth=config.result_depth
        )

        results = self.results.as_value()
        if config.attention:  # y + 32768
            top = (control.wide << (RESULT_BITS - 1))[:RESULT_BITS]
            results = results ^ top.replicate(config.cols)

        place = data.View(ResultRun(config), places.r_data)
        array_valid, late = Signal(), Const(0)
        if config.attention:
            late = place.gather.end
            m.d.comb += [
                self.digits.eq(results),
                self.gathered.eq(place.gather),
                self.gathered.valid.eq(array_valid & place.gather.valid),
            ]
        m.d.comb += [
            places.w_en.eq(self.outputs.valid),
            places.w_data.eq(self.outputs.payload),
            array_valid.eq(control.valid & control.last),
            places.r_en.eq(array_valid | self.pool_valid),
        ]

        # What is being written: the present planes are in the low digits of every value.
        values = Signal(data.ArrayLayout(RESULT_BITS, config.lanes))
        run = Signal(PlaneRun(config))
        mask = Signal(slices)
        storing = Signal()
        sending = Signal()
        ending = Signal()  # retire with the last plane
        dry_end = Signal()  # the end of a tile without results
        final = Signal()
        m.d.comb += final.eq(run.planes <= BANKS)

        m.d.sync += [
            sending.eq(array_valid & control.host),
            dry_end.eq(control.valid & control.end & ~control.last),
            run.address.eq(run.address + (run.plane_step << 1)),
            run.planes.eq(run.planes - BANKS),
        ]
        m.d.sync += [value.eq(value >> BANKS * config.code_bits) for value in values]
        with m.If(final):
            m.d.sync += [storing.eq(0), ending.eq(0)]
        with m.If(places.r_en):
            m.d.sync += [
                run.as_value().eq(place.as_value()),  # without what is gathered
                storing.eq(self.pool_valid | ~control.host),
            ]
        with m.If(array_valid):
            m.d.sync += [
                values.eq(results.replicate(slices)),
                mask.eq(1 << place.slice),
                ending.eq(control.end & ~late),
            ]
            with m.If(control.host):
                m.d.sync += run.planes.eq(1)
        with m.Elif(self.pool_valid):
            m.d.sync += [values[lane].eq(self.pool_joined[lane]) for lane in range(config.lanes)]
            m.d.sync += [mask.eq(~0), ending.eq(self.pool_end)]

        second = config.code_bits
        for port, valid, address, digit in (
            (self.write[0], storing, run.address, 0),
            (self.write[1], storing & (run.planes > 1), run.address + run.plane_step, second),
        ):
            m.d.comb += [
                port.valid.eq(valid),
                port.address.eq(address),
                port.mask.eq(mask),
                port.data.eq(Cat(value[digit : digit + config.code_bits] for value in values)),
            ]
        m.d.comb += [
            queue.w_en.eq(sending),
            queue.w_data.eq(values.as_value()),
            self.result.valid.eq(queue.r_rdy),
            self.result.payload.eq(queue.r_data),
            queue.r_en.eq(self.result.ready),
            self.results_empty.eq(~queue.r_rdy),
            self.result_taken.eq(self.result.valid & self.result.ready),
            self.retire.eq(dry_end | (ending & final)),
            self.progress.eq(storing | sending | self.result_taken),
        ]
        return m
