"""The Verilog of an accelerator as a system takes it: alone, or on a bus."""

from nupes import rtl
from nupes.arch.bus import check_bus
from nupes.arch.config import ArrayConfig

__all__ = ["bus_verilog", "verilog"]


def verilog(config: ArrayConfig, bus: str | None = None, bus_bits: int | None = None) -> str:
    """Return the Verilog of an accelerator; equal text for equal configurations.

    The module is ``nupes_accelerator``; docs/hardware.md lists its ports. With ``bus`` "axi4" there
    is also ``nupes_axi`` around it (docs/bus.md): beats of ``bus_bits``, 64 or 128; by default 64
    if a port word fits them, else 128. Raise ``InputError`` if there is no such bus.
    """
    data_bits = check_bus(bus, bus_bits, config)
    text = rtl.verilog(config)
    return text if data_bits is None else f"{text}\n{bus_verilog(config, data_bits)}"


def bus_verilog(config: ArrayConfig, data_bits: int) -> str:
    """Return the Verilog of module ``nupes_axi`` alone, with beats of ``data_bits``."""
    from nupes.rtl.bus.top import bus_verilog  # Only this function needs Amaranth.

    return bus_verilog(config, data_bits)
