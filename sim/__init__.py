"""Program image and generated RTL in, outputs, cycles and waveforms out."""

from nupes.sim.files import RawResult
from nupes.sim.jobs import NO_STALLS, Stalls
from nupes.sim.results import SimulationResult
from nupes.sim.simulator import Simulator

__all__ = ["NO_STALLS", "RawResult", "SimulationResult", "Simulator", "Stalls"]
