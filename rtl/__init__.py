"""The hardware: an array configuration in, Amaranth components and Verilog out.

``control`` says what happens in every cycle, ``datapath`` computes, ``memory`` holds the
activations; ``accelerator`` wires them, ``top`` makes the Verilog; ``bus`` is what connects it to
a system. Importing the package itself does not import Amaranth.
"""

from nupes.arch.bus import check_bus
from nupes.arch.config import ArrayConfig

__all__ = ["ArrayConfig", "bus_verilog", "verilog"]


def verilog(config: ArrayConfig, bus: str | None = None, bus_bits: int | None = None) -> str:
    """Return the Verilog of an accelerator; equal text for equal configurations.

    The module is ``nupes_accelerator``; docs/hardware.md lists its ports. With ``bus`` "axi4" there
    is also ``nupes_axi`` around it (docs/bus.md): beats of ``bus_bits``, 64 or 128; by default 64
    if a port word fits them, else 128.
    """
    from nupes.rtl.top import verilog  # Only this function needs Amaranth.

    data_bits = check_bus(bus, bus_bits, config)
    text = verilog(config)
    return text if data_bits is None else f"{text}\n{bus_verilog(config, data_bits)}"


def bus_verilog(config: ArrayConfig, data_bits: int) -> str:
    """Return the Verilog of module ``nupes_axi`` alone, with beats of ``data_bits``."""
    from nupes.rtl.bus.top import bus_verilog

    return bus_verilog(config, data_bits)
