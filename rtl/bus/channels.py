"""The channels of AXI4 and AXI4-Lite, with the names of the specification in lower case."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from nupes.arch.registers import ADDRESS_BITS, REGISTER_BITS

__all__ = [
    "BUS_ADDRESS_BITS",
    "INCR",
    "MOST_BEATS",
    "PAGE_BYTES",
    "LiteChannels",
    "ReadChannels",
    "WriteChannels",
]

BUS_ADDRESS_BITS = 64

INCR = 1
"""Bursts over rising addresses."""

CACHE = 0b0011
"""Normal memory, not cacheable, bufferable: what the interconnects of FPGAs want."""

MOST_BEATS = 256
"""Beats of the longest burst."""

PAGE_BYTES = 4096
"""No burst may cross a multiple of it."""


def address_channel(letter: str, size: int) -> dict[str, Member]:
    """Return AR or AW: ``size`` is the logarithm of a beat's bytes, the same for every burst."""
    return {
        f"a{letter}id": Out(1),
        f"a{letter}addr": Out(BUS_ADDRESS_BITS),
        f"a{letter}len": Out(8),
        f"a{letter}size": Out(3, init=size),
        f"a{letter}burst": Out(2, init=INCR),
        f"a{letter}cache": Out(4, init=CACHE),
        f"a{letter}prot": Out(3),
        f"a{letter}valid": Out(1),
        f"a{letter}ready": In(1),
    }


class ReadChannels(wiring.Signature):
    """AR and R of beats of ``data_bits``, from the manager's side; one ID, so all is in order."""

    def __init__(self, data_bits: int) -> None:
        super().__init__(
            {
                **address_channel("r", (data_bits // 8).bit_length() - 1),
                "rid": In(1),
                "rdata": In(data_bits),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class WriteChannels(wiring.Signature):
    """AW, W and B of beats of ``data_bits``, from the manager's side; one ID."""

    def __init__(self, data_bits: int) -> None:
        super().__init__(
            {
                **address_channel("w", (data_bits // 8).bit_length() - 1),
                "wdata": Out(data_bits),
                "wstrb": Out(data_bits // 8),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


class LiteChannels(wiring.Signature):
    """The five channels of AXI4-Lite, from the manager's side."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": Out(ADDRESS_BITS),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(REGISTER_BITS),
                "wstrb": Out(REGISTER_BITS // 8),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(ADDRESS_BITS),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(REGISTER_BITS),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )
