"""A stage, and a network of stages: each one layer of the integer network."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nupes.model.host import as_maps
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import IDENTITY, Function
from nupes.quantizer.frontend.graph import Shape
from nupes.quantizer.stages.operators import Convolution, StageOperator

__all__ = ["Entry", "FusedNetwork", "Held", "Stage", "weighted"]


@dataclass(frozen=True, eq=False)
class Stage:
    """``function(gain * op(sources) + bias + residual)``, stored under its own name.

    ``gain`` and ``bias`` are (n,) float64; a convolution's gain is 1. ``mean`` and ``std`` (n,)
    describe the value before the residual where a batch norm says so. ``low`` bounds the stored
    values from below. ``wide`` asks for 16 bits without a code, where all that read it can.
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
    wide: bool = False

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
class Entry:
    """An input of the network, stored under its own name as ``scale * x + shift`` of what the host
    gives; ``scale`` and ``shift`` are (c,) float64."""

    name: str
    shape: Shape
    scale: np.ndarray
    shift: np.ndarray

    def start(self, values: Tensor) -> Tensor:
        """Return the tensor that is stored for the host's values (b, c, h, w)."""
        scale, shift = (
            torch.from_numpy(factors.astype(np.float32)).reshape(1, -1, 1, 1)
            for factors in (self.scale, self.shift)
        )
        return values * scale + shift


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor that the network holds: ``values`` (h, w, c) float64, the same for every image."""

    name: str
    values: np.ndarray

    @property
    def shape(self) -> Shape:
        """Height, width and channels."""
        height, width, channels = self.values.shape
        return height, width, channels

    def start(self, count: int) -> Tensor:
        """Return the tensor (count, c, h, w) of as many images."""
        values = torch.from_numpy(self.values.transpose(2, 0, 1).astype(np.float32))
        return values.expand(count, *values.shape)


@dataclass(frozen=True, eq=False)
class FusedNetwork:
    """Inputs, constants, and stages in execution order. ``outputs`` are stages by name, which are
    not stored, each once, and the shape of one result as the module gives it."""

    inputs: tuple[Entry, ...]
    stages: tuple[Stage, ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    constants: tuple[Held, ...] = ()

    def maps(self, batch: Batch) -> Batch:
        """Return what the host gives, in any of its shapes (``model.host``), as (b, c, h, w)."""
        pairs = zip(batch, self.inputs, strict=True)
        return Batch(tuple(as_maps(values, entry.shape) for values, entry in pairs))

    def start(self, batch: Batch) -> dict[str, Tensor]:
        """Return the tensors that are there before any stage, by name, for what the host gives (b,
        c, h, w): the inputs and the constants."""
        pairs = zip(self.inputs, batch, strict=True)
        found = {entry.name: entry.start(values) for entry, values in pairs}
        return found | {item.name: item.start(len(batch)) for item in self.constants}

    def entry(self, name: str) -> Entry:
        """Return an input by name."""
        return next(entry for entry in self.inputs if entry.name == name)

    def with_entry(self, entry: Entry) -> "FusedNetwork":
        """Return the network with another input in place of the one of its name."""
        inputs = tuple(entry if old.name == entry.name else old for old in self.inputs)
        return replace(self, inputs=inputs)

    @property
    def entered(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return tuple(entry.name for entry in self.inputs)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the tensors that are there before any stage."""
        return (*self.entered, *(item.name for item in self.constants))

    @property
    def emitted(self) -> tuple[str, ...]:
        """The names of the stages that are outputs."""
        return tuple(name for name, _ in self.outputs)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Height, width and channels of every tensor, inputs and outputs included."""
        parts = (*self.inputs, *self.constants, *self.stages)
        return {part.name: part.shape for part in parts}

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
