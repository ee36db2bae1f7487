"""Program image and generated RTL in, outputs, cycles and waveforms out.

Names load their module when they are first used: a simulator's own process imports this package for
``resident`` alone, and would wait for NumPy and the compiler at every start.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nupes.sim.files import RawResult
    from nupes.sim.jobs import NO_STALLS, Stalls
    from nupes.sim.results import SimulationResult
    from nupes.sim.simulator import Simulator

__all__ = ["NO_STALLS", "RawResult", "SimulationResult", "Simulator", "Stalls"]

HOMES = {
    "NO_STALLS": "nupes.sim.jobs",
    "RawResult": "nupes.sim.files",
    "SimulationResult": "nupes.sim.results",
    "Simulator": "nupes.sim.simulator",
    "Stalls": "nupes.sim.jobs",
}


def __getattr__(name: str) -> Any:
    """Import a name of ``HOMES``."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
