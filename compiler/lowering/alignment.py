"""Copies of what begins within a word of the activation memory, for ports that read whole words:
heads of attention narrower than a word, halves of a map that gate one another."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from nupes.model.layer import Layer
from nupes.model.names import free_name
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Mosaic, Piece
from nupes.model.tensor import Port, Shape, Tensor, Wide

__all__ = ["Inputs", "copy_parts", "none"]

Inputs = Callable[[int], Iterable[int]]
"""Which inputs of a layer that has so many, by number."""


def none(count: int) -> Iterable[int]:
    """Return that no input is meant."""
    return ()


def copy_parts(network: IntegerNetwork, lanes: int, whole: Mapping[str, Inputs]) -> IntegerNetwork:
    """Return a network of equal results, in which no port that reads whole words of ``lanes``
    channels begins within one: a layer before copies the part, once for all that read it.

    ``whole`` are such inputs by the kind of the operator; skip tensors are read so by every kind.
    Parts of wide tensors stay, as nothing copies them.
    """
    copies = Copies(network, lanes)
    for layer in network.layers:
        inputs, residual = list(layer.inputs), layer.residual
        for index in whole.get(layer.op.kind, none)(len(inputs)):
            inputs[index] = copies.of(inputs[index])
        post = layer.post
        if post is not None and residual is not None:
            skip = replace(residual, port=copies.of(residual.port))
            post = replace(post, residual=skip)
        copies.layers.append(replace(layer, inputs=tuple(inputs), post=post))
    return replace(network, layers=tuple(copies.layers)) if copies.made else network


@dataclass
class Copies:
    """The layers so far, and the tensors that are copies by what they are copies of."""

    network: IntegerNetwork
    lanes: int
    layers: list[Layer] = field(default_factory=list)
    made: dict[Port, Tensor] = field(default_factory=dict)

    def of(self, port: Port) -> Port:
        """Return the port of a copy, made now if there is none yet, or one that is aligned."""
        tensor = self.network.tensors[port.tensor]
        if port.first % self.lanes == 0 or isinstance(tensor.format, Wide):
            return port
        if port not in self.made:
            shape = port.shape(tensor.shape)
            copy = self.made[port] = Tensor(self.name(port, shape), shape, tensor.format)
            self.layers.append(Layer(copy.name, everything(shape), (port,), copy))
        return Port(self.made[port].name)

    def name(self, port: Port, shape: Shape) -> str:
        """Return the name of a copy: that of the tensor, with the ranges of channels and rows."""
        rows, _, channels = shape
        name = f"{port.tensor}[{port.first}:{port.first + channels}]"
        if rows != self.network.tensors[port.tensor].shape[0]:
            name += f"[{port.first_row}:{port.first_row + rows}]"
        return free_name(name, self.network.names)


def everything(shape: Shape) -> Mosaic:
    """Return the mosaic that is a copy of a map."""
    return Mosaic(shape, (Piece(0, shape, (0, 0, 0), (1, 1, 1), (0, 0, 0), (1, 1, 1)),))
