"""Pointwise functions, and the encoder that is one of them and a quantizer in one step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Encoder

__all__ = ["FUNCTIONS", "IDENTITY", "Function", "build_encoder", "compose", "make_function"]


@dataclass(frozen=True, eq=False)
class Function:
    """A real function of one variable on torch tensors; its values lie in ``low..high``."""

    name: str
    apply: Callable[[Tensor], Tensor]
    low: float = -math.inf
    high: float = math.inf

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the function of float64 values, evaluated in float64."""
        return self.apply(torch.from_numpy(np.asarray(values, np.float64))).numpy()


IDENTITY = Function("identity", lambda x: x)

FUNCTIONS = {
    function.name: function
    for function in (
        Function("relu", torch.relu, low=0.0),
        Function("relu6", F.relu6, 0.0, 6.0),
        Function("silu", F.silu, low=-0.3),
        Function("sigmoid", torch.sigmoid, 0.0, 1.0),
        Function("tanh", torch.tanh, -1.0, 1.0),
        Function("hardsigmoid", F.hardsigmoid, 0.0, 1.0),
        Function("hardswish", F.hardswish, low=-0.4),
    )
}
"""Functions without parameters by their ATen name."""


def make_function(name: str, *parameters: float, **options: object) -> Function | None:
    """Return a function by its ATen name and parameters, or ``None`` for an unknown one."""
    if name in ("hardtanh", "clamp", "clamp_min", "clamp_max"):
        default = (-1.0, 1.0) if name == "hardtanh" else (None, None)
        given = (None, *parameters) if name == "clamp_max" else parameters
        low, high = (*given, *default[len(given) :])
        low = -math.inf if low is None else float(low)
        high = math.inf if high is None else float(high)
        return Function(f"clamp({low:g}, {high:g})", lambda x: x.clamp(low, high), low, high)
    if name == "gelu":
        form = str(parameters[0] if parameters else options.get("approximate", "none"))
        return Function(name, lambda x: F.gelu(x, approximate=form), low=-0.2)
    if name == "leaky_relu":
        slope = float(parameters[0]) if parameters else 0.01
        return Function(f"leaky_relu({slope:g})", lambda x: F.leaky_relu(x, slope))
    if options or parameters:
        return None
    return FUNCTIONS.get(name)


def compose(outer: Function, inner: Function) -> Function:
    """Return ``outer(inner(x))``."""
    if inner is IDENTITY:
        return outer
    return Function(
        f"{outer.name}({inner.name})", lambda x: outer.apply(inner.apply(x)), outer.low, outer.high
    )


def build_encoder(
    function: Function, y_scale: float, codebook: Codebook, scale: float, where: str
) -> Encoder:
    """Return the encoder of ``nearest_level(function(y * y_scale) / scale)``, exact for all 65,536
    ``y``.

    Runs of equal codes become the thresholds and the codes; more than ``2**(bits + 1) - 1``
    thresholds are refused with the name of the function.
    """
    y = np.arange(Y_RANGE[0], Y_RANGE[1] + 1)
    codes = codebook.nearest(function(y * y_scale) / scale)
    changes = np.flatnonzero(np.diff(codes.astype(np.int16))) + 1
    most = 2 ** (codebook.bits + 1) - 1
    if len(changes) > most:
        raise UnsupportedError(
            f"{where}: function {function.name!r} must need at most {most} thresholds at "
            f"{codebook.bits} bits, not {len(changes)}; use a function with one turning point"
        )
    return Encoder(y[changes].astype(np.int16), codes[np.concatenate([[0], changes])])
