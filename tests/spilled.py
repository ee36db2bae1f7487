"""Networks in so little activation memory that some of their tensors lie in the program."""

from dataclasses import replace

from hypothesis import assume
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.instructions import Store
from nupes.compiler.program import Program, compile
from nupes.model.errors import CapacityError
from nupes.model.network import IntegerNetwork
from tests.networks import kinds_of, networks
from tests.packed import least_depth, packed_networks

__all__ = ["spilled_programs", "spills"]

PARTS = 8
"""Into how many parts the memory is divided that a network needs without spilling."""


def spills(program: Program) -> bool:
    """Whether a program stores words in itself."""
    return any(isinstance(item, Store) for item in program.schedule.instructions)


@st.composite
def spilled_programs(
    draw: st.DrawFn, config: ArrayConfig, latency: int = 20, batch: int = 1
) -> Program:
    """Draw a program for an array that spills, which uses so little of its activation memory that
    it must."""
    packed = draw(st.booleans())
    make = packed_networks(config, 4) if packed else networks(4, also=kinds_of(config))
    network = draw(make)
    least = least_depth(network, replace(config, spills=False))
    assume(least > 4)
    easiest = within(network, config, least - 1, latency, batch)
    if easiest is None:
        assume(False)
        raise AssertionError
    depth = 4 + (least - 5) * draw(st.integers(0, PARTS - 1)) // PARTS
    return within(network, config, depth, latency, batch) or easiest


def within(
    network: IntegerNetwork, config: ArrayConfig, depth: int, latency: int, batch: int
) -> Program | None:
    """Return a program for an array that uses ``depth`` words of its activation memory, if there is
    one that spills."""
    try:
        program = compile(network, replace(config, act_depth=depth), latency, batch)
    except CapacityError:
        return None
    return replace(program, array=config) if spills(program) else None
