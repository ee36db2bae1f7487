"""Program image and generated RTL in, outputs, cycles and waveforms out."""

from nupes.sim.files import RawResult
from nupes.sim.simulator import NO_STALLS, SimulationResult, Simulator, Stalls

__all__ = ["NO_STALLS", "RawResult", "SimulationResult", "Simulator", "Stalls"]
