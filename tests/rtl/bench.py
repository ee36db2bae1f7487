"""Run a component with a coroutine that answers it cycle by cycle, with a reset at hand."""

from collections.abc import Awaitable, Callable
from typing import Any

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator

__all__ = ["execute"]


def execute(component: wiring.Component, bench: Callable[[Any, Signal], Awaitable[None]]) -> None:
    """Run ``bench(context, reset)`` on a component of the ``sync`` domain until it returns."""
    top = Module()
    top.domains.sync = domain = ClockDomain("sync")
    top.submodules.component = component

    async def testbench(context: Any) -> None:
        await bench(context, domain.rst)

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
