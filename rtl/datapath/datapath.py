"""The datapath: feeders, array and lanes, wired."""

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import connect, flipped

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.array import Array
from nupes.rtl.datapath.delays import Deskew, Skew, delay
from nupes.rtl.datapath.feeder import RowFeeder, WeightFeeder
from nupes.rtl.datapath.lane import Lane
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import RESULT_BITS, DatapathPort, ResultControl

__all__ = ["Datapath"]

LEVELS = 2
"""Cycles from the issue of a word to the level of row 0."""


class Datapath(wiring.Component):
    """Multiply, accumulate, requantize and encode one word per cycle; ``DatapathPort`` says when.

    With a library the cells, decoders and lanes are instances of shared modules.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        super().__init__(DatapathPort(config).flip())
        self.load: wiring.FlippedInterface
        self.weights: wiring.FlippedInterface
        self.feed: data.View
        self.control: data.View
        self.link: Signal
        self.word: data.View
        self.lower: data.View
        self.residual: data.View
        self.factor: data.View
        self.result_control: data.View
        self.results: data.View
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.row_feeder = row_feeder = RowFeeder(config, self.library)
        m.submodules.weight_feeder = weight_feeder = WeightFeeder(config, self.library)
        m.submodules.array = array = Array(config, self.library)
        m.submodules.residual_skew = residual_skew = Skew(config.residual_bits, config.cols)
        m.submodules.deskew = deskew = Deskew(RESULT_BITS, config.cols)
        connect(m, flipped(self.load), row_feeder.load)
        connect(m, flipped(self.load), weight_feeder.load)
        connect(m, flipped(self.load), array.load)
        connect(m, flipped(self.weights), weight_feeder.row)
        m.d.comb += [
            row_feeder.control.eq(self.feed),
            row_feeder.word.eq(self.word),
            row_feeder.lower.eq(self.lower),
            array.levels.eq(row_feeder.levels),
            array.swap.eq(row_feeder.swap),
            array.weights.eq(weight_feeder.weights),
            array.row_load.eq(weight_feeder.row_load),
            array.link.eq(delay(m, self.link, LEVELS, "link")),
            residual_skew.i.eq(self.residual),
            self.results.eq(deskew.o),
        ]

        # Lane 0 takes its control some cycles ahead of the partial sum, in x.
        arrival = config.issue_to_psum - config.control_lead
        control = delay(m, self.control, arrival, "control")
        factor = self.factor
        for col in range(config.cols):
            lane = place(m, self.library, f"lane_{col}", Lane, config, self.library)
            connect(m, flipped(self.load), lane.load)
            m.d.comb += [
                lane.index.eq(Const(col, len(lane.index))),
                lane.control.eq(control),
                lane.psum.eq(array.psums[col]),
                lane.residual.eq(residual_skew.o[col]),
                deskew.i[col].eq(lane.result),
            ]
            if config.attention:
                m.d.comb += lane.factor.eq(factor)
                factor = lane.factor_out
            control = lane.control_out

        result_control = Signal(ResultControl(config))
        wide = self.control.out_wide if config.attention else Const(0)
        m.d.comb += [
            result_control.valid.eq(self.control.valid),
            result_control.last.eq(self.control.last),
            result_control.end.eq(self.control.end),
            result_control.host.eq((self.control.encoder_depth == 0) & ~wide),
            result_control.wide.eq(wide),
            self.result_control.eq(
                delay(m, result_control, config.issue_to_write - 1, "result_control")
            ),
        ]
        return m
