"""Where everything lies: weights in the image, tensors in the activation memory."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nupes.compiler.place.memory import Request, arrange
from nupes.export.firmware.operators import EXPORTERS
from nupes.export.firmware.operators.operator import Described
from nupes.export.support import exporter
from nupes.model.network import IntegerNetwork
from nupes.model.packing import pack_codes
from nupes.model.tensor import Tensor, Wide

__all__ = ["MemoryMap", "describe", "held", "memory_map", "size_of"]


@dataclass(frozen=True)
class MemoryMap:
    """Where everything lies, in bytes: ``bases`` of tensors by name in the activation memory, of
    ``activations`` bytes; ``weights`` of layers by name in the weight image."""

    bases: dict[str, int]
    activations: int
    weights: dict[str, int]
    image: bytes


def describe(network: IntegerNetwork) -> dict[str, Described]:
    """Return what the firmware must know of every layer's operator, by the layers' names."""
    return {
        layer.name: exporter(EXPORTERS, layer, "firmware")(layer.op) for layer in network.layers
    }


def held(network: IntegerNetwork) -> dict[str, Tensor]:
    """Return the tensors that lie in the activation memory, by name: all but results that no layer
    reads; inputs first."""
    read = {port.tensor for layer in network.layers for port in layer.reads}
    return {
        name: tensor
        for name, tensor in network.tensors.items()
        if name in read or not isinstance(tensor.format, Wide)
    }


def size_of(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes: one for a code, two for a result."""
    return int(np.prod(tensor.shape)) * (2 if isinstance(tensor.format, Wide) else 1)


def memory_map(network: IntegerNetwork) -> MemoryMap:
    """Return the memory map: tensors share bytes when they do not live at the same time."""
    tensors = held(network)
    born = {name: -1 for name in tensors}
    last = dict(born)
    for index, layer in enumerate(network.layers):
        for port in layer.reads:
            last[port.tensor] = index
        if layer.output.name in tensors:
            born[layer.output.name] = last[layer.output.name] = index
    requests = [
        Request(name, size_of(tensor), born[name], last[name]) for name, tensor in tensors.items()
    ]
    placed = arrange(requests)
    size = max(base + request.words for request, base in placed)
    weights, image = pack_weights(describe(network))
    return MemoryMap({request.name: base for request, base in placed}, size, weights, image)


def pack_weights(described: Mapping[str, Described]) -> tuple[dict[str, int], bytes]:
    """Return the weight image, and where each layer that has weights begins in it."""
    weights, image = {}, bytearray()
    for name, item in described.items():
        if item.codes is not None and item.codebook is not None:
            weights[name] = len(image)
            image += pack_codes(item.codes, item.codebook.bits).tobytes()
    return weights, bytes(image)
