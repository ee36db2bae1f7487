"""The hardware: an array configuration in, Amaranth components and Verilog out.

``control`` says what happens in every cycle, ``datapath`` computes, ``memory`` holds the
activations; ``accelerator`` wires them, ``top`` makes the Verilog; ``bus`` and ``system`` connect
it to others. Importing the package itself does not import Amaranth.
"""

from nupes.arch.config import ArrayConfig

__all__ = ["ArrayConfig", "verilog"]


def verilog(config: ArrayConfig) -> str:
    """Return the Verilog of an accelerator; equal text for equal configurations.

    The module is ``nupes_accelerator``; docs/hardware.md lists its ports.
    """
    from nupes.rtl.top import verilog  # Only this function needs Amaranth.

    return verilog(config)
