"""``network.c``: every table, tensor and layer."""

import numpy as np

from nupes.export.firmware.memory import MemoryMap, describe, held, size_of
from nupes.export.firmware.operators.operator import Described
from nupes.export.firmware.text import array, comment, initializer, numbers
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.tensor import Port, Wide

__all__ = ["source_text"]

NO_PORT = numbers(-1, 0, 0, 0)


def layer_arrays(layer: Layer, described: Described, ports: list[str], index: int) -> str:
    """Return the arrays of one layer, under a comment with its name."""
    parts = [f"/* layer {index}: {comment(layer.name)} */\n"]
    parts.append(f"static const nupes_port inputs_{index}[] = {{{', '.join(ports)}}};\n")
    if described.codebook is not None:
        parts.append(array("int8_t", f"levels_{index}", described.codebook.levels))
    if described.selected:
        parts.append(array("int32_t", f"selected_{index}", np.array(described.selected)))
    if layer.post is not None:
        parts.append(array("int32_t", f"mult_{index}", layer.post.requantize.mult))
        parts.append(array("int64_t", f"bias_{index}", layer.post.requantize.bias))
        parts.append(array("uint8_t", f"shift_{index}", layer.post.requantize.shift))
    if layer.encoder is not None:
        if len(layer.encoder.thresholds):
            parts.append(array("int16_t", f"thresholds_{index}", layer.encoder.thresholds))
        parts.append(array("uint8_t", f"codes_{index}", layer.encoder.codes))
    return "".join(parts)


def post_fields(layer: Layer, skip: str, index: int) -> dict[str, object]:
    """Return the members that say what follows the accumulator."""
    fields: dict[str, object] = {"skip": skip}
    if layer.post is not None:
        fields |= {name: f"{name}_{index}" for name in ("mult", "bias", "shift")}
    if layer.residual is not None:
        fields |= {"skip_mult": layer.residual.mult, "skip_shift": layer.residual.shift}
    if layer.encoder is not None:
        fields["codes"] = f"codes_{index}"
        if len(layer.encoder.thresholds):
            fields["steps"] = len(layer.encoder.thresholds)
            fields["thresholds"] = f"thresholds_{index}"
    return fields


def result_places(network: IntegerNetwork) -> dict[str, int]:
    """Return where each output begins among the results, by tensor."""
    places, first = {}, 0
    for output in network.outputs:
        places[output.tensor] = first
        first += size_of(network.tensors[output.tensor]) // 2
    return places


def layer_texts(network: IntegerNetwork, places: MemoryMap) -> tuple[list[str], list[str]]:
    """Return every layer's arrays, and its entry in the table of layers."""
    tensors, described = held(network), describe(network)
    order = {name: number for number, name in enumerate(tensors)}
    results = result_places(network)
    arrays, entries = [], []

    def port_text(port: Port) -> str:
        whole = tensors[port.tensor].shape
        rows, width, channels = port.shape(whole)
        first = port.first_row * width * whole[2] + port.first
        return numbers(order[port.tensor], first, channels, rows)

    for index, layer in enumerate(network.layers):
        item, name = described[layer.name], layer.output.name
        height, width, channels = layer.output.shape
        skip = NO_PORT if layer.residual is None else port_text(layer.residual.port)
        fields = {
            "kind": item.kind,
            "inputs": f"inputs_{index}",
            "output": order.get(name, -1),
            "result": results.get(name, -1),
            "height": height,
            "width": width,
            "channels": channels,
            **item.fields,
            **post_fields(layer, skip, index),
        }
        if item.codebook is not None:
            fields["weights"] = places.weights[layer.name]
            fields["bits"] = item.codebook.bits
            fields["levels"] = f"levels_{index}"
        if item.selected:
            fields["selected"] = f"selected_{index}"
        ports = [port_text(port) for port in layer.inputs]
        arrays.append(layer_arrays(layer, item, ports, index))
        entries.append(f"    /* {index}: {comment(layer.name)} */\n    {initializer(fields)},\n")
    return arrays, entries


def source_text(network: IntegerNetwork, places: MemoryMap) -> str:
    """Return ``network.c``."""
    parts, rows = ['#include "network.h"\n\n'], []
    codes = {item.tensor.name: item.codes for item in network.constants}
    for index, (name, tensor) in enumerate(held(network).items()):
        table, kept = "0", "0"
        if not isinstance(tensor.format, Wide):
            table = f"tensor_{index}"
            parts.append(f"/* tensor {index}: {comment(name)} */\n")
            parts.append(array("int16_t", table, np.asarray(tensor.codebook.levels)))
        if name in codes:
            kept = f"constant_{index}"
            parts.append(array("uint8_t", kept, codes[name].ravel()))
        sizes = ", ".join(map(str, tensor.shape))
        rows.append(f"    {{{sizes}, {places.bases[name]}, {table}, {kept}}},\n")
    arrays, entries = layer_texts(network, places)
    tables = ["static const nupes_tensor tensors[] = {\n", *rows, "};\n"]
    tables += ["static const nupes_layer layers[] = {\n", *entries, "};\n"]
    counts = f"{len(network.inputs)}, {len(network.constants)}, {len(network.layers)}"
    end = f"const nupes_network network = {{tensors, layers, {counts}}};\n"
    return "".join([*parts, *arrays, *tables, end])
