"""Verilog of a whole accelerator."""

import re

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.rtl import emit
from nupes.rtl.accelerator import Accelerator
from nupes.rtl.emit import Library
from nupes.rtl.interface import RESULT_BITS

__all__ = ["TOP", "verilog"]

TOP = "nupes_accelerator"
"""Name of the Verilog module."""

CLEARED = re.compile(
    r"  initial begin\n"
    r"    (?P<name>\w+)\[0\] = \d+'[hd]0+;\n"
    r"(?:    (?P=name)\[\d+\] = \d+'[hd]0+;\n)*"
    r"  end\n"
)
"""How Yosys clears a memory: word by word."""


class Pins(wiring.Component):
    """The accelerator with one flat port per signal, named as in docs/hardware.md."""

    start: Signal
    length: Signal
    idle: Signal
    done: Signal
    status: Signal
    mark: Signal
    request_valid: Signal
    request_ready: Signal
    request_address: Signal
    request_length: Signal
    response_valid: Signal
    response_ready: Signal
    response_data: Signal
    result_valid: Signal
    result_ready: Signal
    result_data: Signal
    store_valid: Signal
    store_ready: Signal
    store_address: Signal
    store_data: Signal
    stored: Signal

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        self.accelerator = Accelerator(config, library)
        spills = {
            "store_valid": Out(1),
            "store_ready": In(1),
            "store_address": Out(32),
            "store_data": Out(config.port_bits),
            "stored": In(1),
        }
        super().__init__(
            {
                "start": In(1),
                "length": In(32),
                "idle": Out(1),
                "done": Out(1),
                "status": Out(2),
                "mark": Out(1),
                "request_valid": Out(1),
                "request_ready": In(1),
                "request_address": Out(32),
                "request_length": Out(8),
                "response_valid": In(1),
                "response_ready": Out(1),
                "response_data": In(config.port_bits),
                "result_valid": Out(1),
                "result_ready": In(1),
                "result_data": Out(RESULT_BITS * config.cols),
                **(spills if config.spills else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = inner = self.accelerator
        m.d.comb += [
            inner.start.eq(self.start),
            inner.length.eq(self.length),
            self.idle.eq(inner.idle),
            self.done.eq(inner.done),
            self.status.eq(inner.status),
            self.mark.eq(inner.mark),
            self.request_valid.eq(inner.request.valid),
            inner.request.ready.eq(self.request_ready),
            self.request_address.eq(inner.request.payload.address),
            self.request_length.eq(inner.request.payload.length),
            inner.response.valid.eq(self.response_valid),
            self.response_ready.eq(inner.response.ready),
            inner.response.payload.eq(self.response_data),
            self.result_valid.eq(inner.result.valid),
            inner.result.ready.eq(self.result_ready),
            self.result_data.eq(inner.result.payload),
        ]
        if inner.config.spills:
            m.d.comb += [
                self.store_valid.eq(inner.store.valid),
                inner.store.ready.eq(self.store_ready),
                self.store_address.eq(inner.store.payload.address),
                self.store_data.eq(inner.store.payload.data),
                inner.stored.eq(self.stored),
            ]
        return m


def verilog(config: ArrayConfig) -> str:
    """Return the Verilog of module ``TOP``: equal text for equal configurations."""
    library = Library()
    return CLEARED.sub(clear_in_a_loop, emit.verilog(Pins(config, library), library, TOP))


def clear_in_a_loop(match: re.Match[str]) -> str:
    """Return a loop for the statements that clear a memory word by word."""
    name, words = match["name"], match[0].count(";")
    return (
        f"  initial begin : clear_{name}\n"
        f"    integer i;\n"
        f"    for (i = 0; i < {words}; i = i + 1) {name}[i] = 0;\n"
        f"  end\n"
    )
