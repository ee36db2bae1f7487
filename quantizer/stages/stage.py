"""A stage, and a network of stages: each one layer of the integer network."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nupes.quantizer.frontend.functions import IDENTITY, Function
from nupes.quantizer.frontend.graph import Node, Shape
from nupes.quantizer.stages.operators import Convolution, StageOperator

__all__ = ["FusedNetwork", "Stage", "weighted"]


@dataclass(frozen=True, eq=False)
class Stage:
    """``function(gain * op(sources) + bias + residual)``, stored under its own name.

    ``gain`` and ``bias`` are (n,) float64; a convolution's gain is 1. ``mean`` and ``std`` (n,)
    describe the value before the residual where a batch norm says so. ``low`` bounds the stored
    values from below.
    """

    name: str
    op: StageOperator
    sources: tuple[str, ...]
    shape: Shape
    gain: np.ndarray
    bias: np.ndarray
    residual: str | None = None
    function: Function = IDENTITY
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    low: float = -np.inf

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that are read, as operands or as residual, each once."""
        names = self.sources if self.residual is None else (*self.sources, self.residual)
        return tuple(dict.fromkeys(names))

    @property
    def copies_codes(self) -> bool:
        """Whether the stored codes are codes of the sources, so that all share one codebook."""
        plain = self.residual is None and self.function is IDENTITY
        scaled = bool((self.gain != 1).any() or self.bias.any())
        return self.op.copies and plain and not scaled


@dataclass(frozen=True, eq=False)
class FusedNetwork:
    """Stages in execution order. ``outputs`` are stages by name, which are not stored, each once,
    and the shape of one result as the module gives it. The input is ``scale * x + shift`` per
    channel."""

    input: Node
    input_scale: np.ndarray
    input_shift: np.ndarray
    stages: tuple[Stage, ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]

    def scale_input(self, inputs: Tensor) -> Tensor:
        """Return inputs (b, c, h, w) with the input's affine applied."""
        shape = (1, -1, 1, 1)
        scale, shift = (
            torch.from_numpy(values.astype(np.float32)).reshape(shape)
            for values in (self.input_scale, self.input_shift)
        )
        return inputs * scale + shift

    @property
    def emitted(self) -> tuple[str, ...]:
        """The names of the stages that are outputs."""
        return tuple(name for name, _ in self.outputs)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Height, width and channels of every tensor, outputs included."""
        shapes = {stage.name: stage.shape for stage in self.stages}
        return {self.input.name: self.input.shape, **shapes}

    def readers(self) -> dict[str, list[Stage]]:
        """Return the stages that read each stored tensor, as operand or as residual."""
        found: dict[str, list[Stage]] = {name: [] for name in self.shapes}
        for stage in self.stages:
            for name in stage.reads:
                found[name].append(stage)
        return found


def weighted(stages: Iterable[Stage]) -> dict[str, Convolution]:
    """Return the operators that have weights by the names of their stages, in order."""
    return {stage.name: stage.op for stage in stages if isinstance(stage.op, Convolution)}
