"""Pointwise functions, and the encoder that is one of them and a quantizer in one step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Encoder

__all__ = ["COUNTS", "IDENTITY", "SIGMOID", "Function", "build_encoder", "compose", "scalar_affine"]


@dataclass(frozen=True, eq=False)
class Function:
    """A real function of one variable on torch tensors; its values lie in ``low..high``."""

    name: str
    apply: Callable[[Tensor], Tensor]
    low: float = -math.inf
    high: float = math.inf

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the function of float64 values, evaluated in float64."""
        result = self.apply(torch.from_numpy(np.asarray(values, np.float64)))
        return result.to(torch.float64).numpy()


IDENTITY = Function("identity", lambda x: x)

SIGMOID = Function("sigmoid", torch.sigmoid, 0.0, 1.0)

SHOWN = -64.0
"""The least number of a mask for what it shows: 0 is added for that, and far less for others."""

COUNTS = Function("counts", lambda x: (x >= SHOWN).to(x.dtype), 0.0, 1.0)
"""One for what a mask shows, zero for what it hides."""


def scalar_affine(scale: float, shift: float) -> Function:
    """Return ``scale * x + shift``."""
    name = "x" if scale == 1 else f"{scale!r} * x"
    name += f" + {shift!r}" if shift else ""
    return Function(name, lambda x: x * scale + shift)


def compose(outer: Function, inner: Function) -> Function:
    """Return ``outer(inner(x))``; its values lie where those of ``outer`` do."""
    if inner is IDENTITY:
        return outer
    if outer is IDENTITY:
        return inner
    return Function(
        f"{outer.name}({inner.name})", lambda x: outer.apply(inner.apply(x)), outer.low, outer.high
    )


def build_encoder(
    function: Function,
    y_scale: float,
    codebook: Codebook,
    scale: float,
    where: str,
    masked: bool = False,
) -> Encoder:
    """Return the encoder of ``nearest_level(function(y * y_scale) / scale)``, exact for all 65,536
    ``y``.

    With ``masked`` the lowest ``y`` is minus infinity, where the function is 0. Runs of equal codes
    become the thresholds and the codes; more than ``2**(bits + 1) - 1`` thresholds are refused with
    the name of the function.
    """
    y = np.arange(Y_RANGE[0], Y_RANGE[1] + 1)
    codes = codebook.nearest(function(y * y_scale) / scale)
    if masked:
        codes[0] = codebook.nearest(np.zeros(1))[0]
    changes = np.flatnonzero(np.diff(codes.astype(np.int16))) + 1
    most = 2 ** (codebook.bits + 1) - 1
    if len(changes) > most:
        raise UnsupportedError(
            f"{where}: function {function.name!r} must need at most {most} thresholds at "
            f"{codebook.bits} bits, not {len(changes)}; use a function with one turning point"
        )
    return Encoder(y[changes].astype(np.int16), codes[np.concatenate([[0], changes])])
