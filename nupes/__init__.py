"""From a trained PyTorch network to low-bit silicon, equal to the last bit at every stage.

    qnet = nupes.quantize(module, "W4A4", calibration=images)   # PyTorch -> integer network
    logits = qnet(images)                                       # exact integers, NumPy alone
    program = nupes.compile(qnet, nupes.ArrayConfig(16, 16))    # exact cycles, per layer
    with nupes.Simulator(program.array) as hw:                  # the generated RTL, cycle by cycle
        result = hw.run(program, images)                        # result.outputs == logits

Names load the stage they belong to when they are first used: saved networks load, run and compile
without torch, amaranth or cocotb.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nupes.arch.config import ArrayConfig
    from nupes.compiler.program import Program, compile
    from nupes.compiler.report.losses import LayerReport
    from nupes.model.artifact.reader import load
    from nupes.model.errors import (
        ArtifactError,
        CapacityError,
        InputError,
        NupesError,
        SimulationError,
        UnsupportedError,
    )
    from nupes.model.network import IntegerNetwork
    from nupes.quantizer import quantize
    from nupes.rtl.system import verilog
    from nupes.sim import SimulationResult, Simulator, Stalls

__all__ = [
    "ArrayConfig",
    "ArtifactError",
    "CapacityError",
    "InputError",
    "IntegerNetwork",
    "LayerReport",
    "NupesError",
    "Program",
    "SimulationError",
    "SimulationResult",
    "Simulator",
    "Stalls",
    "UnsupportedError",
    "compile",
    "load",
    "quantize",
    "verilog",
]

HOMES = {
    "ArrayConfig": "nupes.arch.config",
    "ArtifactError": "nupes.model.errors",
    "CapacityError": "nupes.model.errors",
    "InputError": "nupes.model.errors",
    "IntegerNetwork": "nupes.model.network",
    "LayerReport": "nupes.compiler.report.losses",
    "NupesError": "nupes.model.errors",
    "Program": "nupes.compiler.program",
    "SimulationError": "nupes.model.errors",
    "SimulationResult": "nupes.sim",
    "Simulator": "nupes.sim",
    "Stalls": "nupes.sim",
    "UnsupportedError": "nupes.model.errors",
    "compile": "nupes.compiler.program",
    "load": "nupes.model.artifact.reader",
    "quantize": "nupes.quantizer",
    "verilog": "nupes.rtl.system",
}
"""The module that defines each public name."""


def __getattr__(name: str) -> Any:
    """Import a public name from its stage at first use (PEP 562)."""
    if name not in HOMES:
        raise AttributeError(f"module 'nupes' has no attribute {name!r}")
    value = getattr(import_module(HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names for completion, loaded or not."""
    return sorted({*globals(), *__all__})
