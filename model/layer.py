"""Layers: an operator, what it reads, what follows its accumulator, and the tensor it stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from nupes.model.arithmetic import (
    Y_RANGE,
    encode_table,
    requantize,
    residual_term,
    shift_thresholds,
)
from nupes.model.codebook import Codebook
from nupes.model.operators import Operator
from nupes.model.stored import CodeVector, Int16Vector, Int32Vector, Int64Vector
from nupes.model.tensor import Port, Tensor, Wide

__all__ = ["Encoder", "Layer", "Operands", "Post", "Requantize", "Residual", "ShiftEncoder"]

Operands = Sequence[tuple[Tensor, np.ndarray]]
"""The tensor of each port that a layer reads, and what it reads of it: a map (b, h, w, c)."""


@dataclass(frozen=True, eq=False)
class Requantize:
    """Per output channel: ``mult`` (n,) int32 in -65535..65535, ``bias`` (n,) int64 signed 48-bit,
    ``shift`` (n,) int32 1..31."""

    mult: Int32Vector
    bias: Int64Vector
    shift: Int32Vector


@dataclass(frozen=True)
class Residual:
    """A stored tensor added after the shift: ``(level * mult + 2**(shift-1)) >> shift``."""

    port: Port
    mult: int
    shift: int

    def term(self, tensor: Tensor, stored: np.ndarray) -> np.ndarray:
        """Return what is added, int64, for what is read of a stored tensor."""
        if isinstance(tensor.format, Wide):
            return residual_term(stored, self.mult, self.shift)
        return residual_term(tensor.codebook.levels, self.mult, self.shift).take(stored)


@dataclass(frozen=True, eq=False)
class Encoder:
    """Non-decreasing ``thresholds`` (t,) int16 and ``codes`` (t + 1,) uint8: code = ``codes[#{k : y
    >= thresholds[k]}]``."""

    kind: ClassVar[str] = "table"

    thresholds: Int16Vector
    codes: CodeVector

    @cached_property
    def table(self) -> np.ndarray:
        """The code of every ``y``: uint8 (65536,), indexed by the 16 bits of ``y``, unsigned."""
        return np.roll(encode_table(self.thresholds, self.codes), Y_RANGE[0])

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """Return the codes, uint8, of int16 ``y`` of any shape."""
        return self.table.take(y.view(np.uint16))


@dataclass(frozen=True)
class ShiftEncoder:
    """The nearest of levels that are consecutive integers: ``(y + 2**(shift-1)) >> shift``, clamped
    to them. It has no table: ``shift``, 1..15, is all of it."""

    kind: ClassVar[str] = "shift"

    shift: int

    def table(self, codebook: Codebook) -> Encoder:
        """Return the encoder of thresholds that gives the same codes."""
        return Encoder(*shift_thresholds(codebook.levels, self.shift))


@dataclass(frozen=True, eq=False)
class Post:
    """What follows an accumulator: requantization, a stored tensor added, an encoder.

    Without an encoder ``y`` itself is the result, and the layer's output is wide.
    """

    requantize: Requantize
    residual: Residual | None = None
    encoder: Encoder | ShiftEncoder | None = None


@dataclass(frozen=True, eq=False)
class Layer:
    """One operator on ports of stored tensors; its result is the tensor ``output``.

    ``post`` is ``None`` where the operator copies codes.
    """

    name: str
    op: Operator
    inputs: tuple[Port, ...]
    output: Tensor
    post: Post | None = None

    @property
    def reads(self) -> tuple[Port, ...]:
        """Every port of the layer: its inputs, then its residual's."""
        return self.inputs if self.residual is None else (*self.inputs, self.residual.port)

    @property
    def wide(self) -> bool:
        """Whether the result is ``y`` itself."""
        return isinstance(self.output.format, Wide)

    @property
    def residual(self) -> Residual | None:
        """The stored tensor that is added, if there is one."""
        return None if self.post is None else self.post.residual

    @cached_property
    def encoder(self) -> Encoder | None:
        """The encoder, as one of thresholds, if codes are stored that are not copied."""
        found = None if self.post is None else self.post.encoder
        return found.table(self.output.codebook) if isinstance(found, ShiftEncoder) else found

    def run(self, operands: Operands, bound: int) -> np.ndarray:
        """Return what the layer stores, codes uint8 or ``y`` int16 (b, h, w, n).

        ``bound`` is that of the operator's accumulator.
        """
        if self.post is None:
            return self.op.copy(*(stored for _, stored in operands))
        y = self.results(operands, bound)
        return y if self.encoder is None else self.encoder(y)

    def results(self, operands: Operands, bound: int) -> np.ndarray:
        """Return ``y`` int16 (b, h, w, n) before the encoder, of a layer that copies no codes."""
        assert self.post is not None
        count = len(self.inputs)
        levels = (numbers_of(*operand) for operand in operands[:count])
        acc = self.op.accumulate(*levels, bound=bound)
        tail, residual = self.post.requantize, self.post.residual
        term = 0 if residual is None else residual.term(*operands[count])
        return requantize(acc, tail.mult, tail.bias, tail.shift, term)


def numbers_of(tensor: Tensor, stored: np.ndarray) -> np.ndarray:
    """Return the integers that an operator reads: levels as float32, or ``y`` int16."""
    if isinstance(tensor.format, Wide):
        return stored
    return tensor.codebook.level_of(stored)
