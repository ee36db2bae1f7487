"""Layers and networks with one input and one output, in few words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nupes.model.codebook import Codebook
from nupes.model.layer import Encoder, Layer, Post, Requantize, Residual
from nupes.model.network import Input, InputEncoder, IntegerNetwork, Output
from nupes.model.operators import Operator
from nupes.model.tensor import Coded, Port, Shape, Tensor, Wide

__all__ = ["assemble", "coded", "given", "layer_of", "wide"]


def coded(name: str, shape: Shape, book: Codebook, scale: float = 1.0) -> Tensor:
    """Return a tensor of codes."""
    return Tensor(name, shape, Coded(book, scale))


def wide(name: str, shape: Shape, scale: float = 1.0) -> Tensor:
    """Return a tensor of 16-bit results."""
    return Tensor(name, shape, Wide(scale))


def layer_of(
    name: str,
    op: Operator,
    sources: str | Sequence[str],
    output: Tensor,
    tail: Requantize | None = None,
    residual: Residual | None = None,
    encoder: Encoder | None = None,
) -> Layer:
    """Return a layer that reads whole tensors; without ``tail`` it copies codes."""
    names = [sources] if isinstance(sources, str) else sources
    post = None if tail is None else Post(tail, residual, encoder)
    return Layer(name, op, tuple(Port(source) for source in names), output, post)


def given(tensor: Tensor) -> Input:
    """Return an input whose codes are the numbers of half-integers from 0.5 on that it reaches."""
    row = np.arange(1, len(tensor.codebook)) - 0.5
    return Input(tensor, InputEncoder(np.tile(row, (tensor.shape[2], 1))))


def assemble(
    source: Tensor,
    layers: Sequence[Layer],
    shape: tuple[int, ...],
    thresholds: np.ndarray | None = None,
    metadata: Mapping[str, Any] | None = None,
    more: Sequence[Tensor] = (),
) -> IntegerNetwork:
    """Return the network of layers, the last one's result its output; an input's code is the
    number of half-integers from 0.5 on that it reaches, unless ``thresholds`` say otherwise.
    ``more`` are other inputs."""
    first = given(source) if thresholds is None else Input(source, InputEncoder(thresholds))
    return IntegerNetwork(
        (first, *map(given, more)),
        tuple(layers),
        (Output(layers[-1].output.name, shape),),
        metadata=metadata or {},
    )
