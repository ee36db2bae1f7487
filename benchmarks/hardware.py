"""Programs on the simulated hardware, compared with the model and the prediction."""

import numpy as np

import nupes
from nupes.verify import Check, check_layers, check_outputs

__all__ = ["check_on_rtl"]


def check_on_rtl(program: nupes.Program, inputs: tuple[np.ndarray, ...], stored: bool) -> Check:
    """Return whether every output and every layer's cycles are equal, and with ``stored`` all that
    is stored for the first sample."""
    with nupes.Simulator(program.array) as hardware:
        check = check_outputs(hardware, program, inputs)
        if stored and check.exact:
            first = tuple(part[:1] for part in inputs)
            check = check_layers(hardware, program, check_outputs(hardware, program, first), first)
    return check
