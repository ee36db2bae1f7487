"""Run a component cycle by cycle in the Python simulator."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from amaranth.hdl import Elaboratable, Value
from amaranth.sim import Simulator

from nupes.arch.isa import Destination

__all__ = ["load", "signed", "simulate"]


def simulate(
    component: Elaboratable,
    cycles: Sequence[Mapping[str, Any]],
    outputs: Iterable[str],
    idle: int = 0,
) -> dict[str, list[int]]:
    """Drive the inputs of ``cycles[n]`` in cycle n, then ``idle`` cycles; return each output's
    values.

    Inputs keep their value until they are driven again. Names are dotted paths; a structure is
    driven by an integer, a mapping or a sequence, and read as its bits.
    """
    watched = {name: Value.cast(attrgetter(name)(component)) for name in outputs}
    seen: dict[str, list[int]] = {name: [] for name in watched}
    driven = {name: attrgetter(name)(component) for name in {key for row in cycles for key in row}}

    async def bench(context: Any) -> None:
        present: dict[str, Any] = {}
        for row in [*cycles, *({} for _ in range(idle))]:
            for name, value in row.items():
                if name not in present or present[name] != value:
                    target = driven[name]
                    context.set(Value.cast(target) if isinstance(value, int) else target, value)
                    present[name] = value
            for name, signal in watched.items():
                seen[name].append(context.get(signal))
            await context.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def load(destination: Destination, entries: Mapping[int, int]) -> list[dict[str, int]]:
    """Return the cycles that write ``entries`` (address: data), and one that ends the LOAD."""
    cycles = [
        {
            "load.valid": 1,
            "load.destination": int(destination),
            "load.address": int(address),
            "load.data": int(entry),
        }
        for address, entry in entries.items()
    ]
    return [*cycles, {"load.valid": 0}]


def signed(value: int, bits: int) -> int:
    """Return the signed number that the low ``bits`` bits of ``value`` stand for."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
