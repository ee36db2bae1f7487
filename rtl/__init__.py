"""The hardware: an array configuration in, Amaranth components and Verilog out.

``config`` and ``isa`` describe the machine without importing Amaranth; the compiler builds on those
two.
"""

from nupes.arch.config import ArrayConfig

__all__ = ["ArrayConfig", "verilog"]


def verilog(config: ArrayConfig) -> str:
    """Return the Verilog of an accelerator; equal text for equal configurations.

    The module is ``nupes_accelerator``; docs/hardware.md lists its ports.
    """
    from nupes.rtl.top import verilog  # Only this function needs Amaranth.

    return verilog(config)
