"""Heads of attention: the scores, numerators and means that follow one another."""

from collections.abc import Iterator
from dataclasses import dataclass

from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Matmul, SubtractMax, WeightedMean
from nupes.model.tensor import Port

__all__ = ["Head", "find_heads", "head_of"]


@dataclass(frozen=True, eq=False)
class Head:
    """The layers of a head; nothing else reads the scores or the numerators."""

    scores: Layer
    numerators: Layer
    means: Layer

    @property
    def layers(self) -> tuple[Layer, Layer, Layer]:
        """The layers in order."""
        return self.scores, self.numerators, self.means


def find_heads(network: IntegerNetwork) -> Iterator[Head]:
    """Yield the heads of a network."""
    for layer in network.layers:
        if isinstance(layer.op, Matmul):
            head = head_of(network, layer)
            if head is not None:
                yield head


def head_of(network: IntegerNetwork, scores: Layer) -> Head | None:
    """Return the head to which scores belong, if they are of one."""
    numerators = only_reader(network, scores)
    means = None if numerators is None else only_reader(network, numerators)
    if numerators is None or means is None:
        return None
    kinds = isinstance(numerators.op, SubtractMax), isinstance(means.op, WeightedMean)
    return Head(scores, numerators, means) if all(kinds) else None


def only_reader(network: IntegerNetwork, layer: Layer) -> Layer | None:
    """Return the layer whose first input alone reads all of another one's result, if nothing else
    does."""
    port = Port(layer.output.name)
    readers = [other for other in network.layers if port.tensor in tensors_of(other)]
    kept = port.tensor in {*network.emitted, *(item.written for item in network.state)}
    if kept or len(readers) != 1 or readers[0].inputs[0] != port:
        return None
    return readers[0] if tensors_of(readers[0]).count(port.tensor) == 1 else None


def tensors_of(layer: Layer) -> list[str]:
    """Return the tensors that a layer reads."""
    return [port.tensor for port in layer.reads]
