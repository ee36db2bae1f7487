"""The whole QONNX model: inputs, layers in order, outputs."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from nupes.export.graph import Operand, end_name, prefix, safe
from nupes.export.qonnx.operators import EXPORTERS
from nupes.export.qonnx.requantize import add_post
from nupes.export.qonnx.shaped import DOMAIN, Shaped, planes, spacing
from nupes.export.qonnx.thresholds import add_threshold, round_up
from nupes.export.support import exporter, refuse_state
from nupes.model.arithmetic import FLOAT32_EXACT
from nupes.model.errors import UnsupportedError
from nupes.model.files import write_atomically
from nupes.model.host import has_channels_last
from nupes.model.layer import Layer
from nupes.model.network import Constant, Input, IntegerNetwork, Output

__all__ = ["DOMAIN", "OPSET", "build_qonnx", "export_qonnx"]

OPSET = 13
"""Version of the standard operators: the one in which all of them take float64."""

DOC = "Integer network of nupes: integer levels in float32 tensors, exact. Batch of one image."

End = tuple[str, Any, list[int | str]]
"""An input or output of the model: name, type, shape."""


def add_input(graph: Shaped, item: Input, count: int) -> tuple[End, Operand]:
    """Append one of ``count`` inputs; return it and its levels."""
    tensor = item.tensor
    if item.source is not None or item.positions is not None:
        raise UnsupportedError(
            f"input {tensor.name!r} must have an array of its own and no positions in QONNX; "
            "export standard ONNX"
        )
    spacing(tensor.codebook, f"input {tensor.name!r}: codebook")
    label, shape = f"{end_name('input', tensor, count)}/levels", planes(tensor.shape)
    if item.lookup is not None:
        name, tokens = end_name("ids", tensor, count), item.tokens
        return (name, np.int64, [1, tokens]), Operand(tensor, look_up(graph, item, name, label))
    name, limits = end_name("images", tensor, count), round_up(item.encoder.thresholds)
    levels = add_threshold(graph, name, limits, tensor.codebook, shape, label)
    return (name, np.float32, list(shape)), Operand(tensor, levels)


def look_up(graph: Shaped, item: Input, ids: str, label: str) -> str:
    """Append the table of an input's levels; return those of ids (1, t)."""
    assert item.lookup is not None
    tokens, channels = item.tokens, item.lookup.shape[1]
    levels = item.tensor.codebook.levels[item.lookup]
    table = graph.constant(levels, np.float32, f"{label}/table")
    rows = graph.put("Gather", [table, ids], f"{label}/rows", np.float32, (1, tokens, channels))
    turned = graph.put(
        *("Transpose", [rows], f"{label}/turned", np.float32),
        (1, channels, tokens),
        perm=[0, 2, 1],
    )
    target = graph.constant(planes(item.tensor.shape), np.int64, f"{label}/shape")
    return graph.put("Reshape", [turned, target], label, np.float32, planes(item.tensor.shape))


def add_constant(graph: Shaped, item: Constant) -> Operand:
    """Append a constant tensor; return its levels."""
    tensor = item.tensor
    spacing(tensor.codebook, f"constant {tensor.name!r}: codebook")
    levels = tensor.codebook.levels[item.codes].transpose(2, 0, 1)[np.newaxis]
    held = graph.constant(levels, np.float32, f"constants/{safe(tensor.name)}")
    label, shape = f"constants/{safe(tensor.name)}/levels", planes(tensor.shape)
    return Operand(tensor, graph.put("Identity", [held], label, np.float32, shape))


def add_layer(graph: Shaped, layer: Layer, bound: int, stored: dict[str, Operand]) -> str:
    """Append a layer; return its result: levels, float32, or ``y``, float64."""
    add, name, where = exporter(EXPORTERS, layer, "QONNX"), prefix(layer), f"layer {layer.name!r}"
    if bound + 1 >= FLOAT32_EXACT:
        raise UnsupportedError(
            f"{where}: accumulator must stay below 2**24, which float32 "
            f"holds exactly, not {bound}; use fewer bits or export standard ONNX"
        )
    if layer.post is not None and layer.post.requantize.mult.min() < 0:
        raise UnsupportedError(f"{where}: mult must not be negative in QONNX; export standard ONNX")
    sources, skip = [], None
    for number, port in enumerate(layer.reads):
        sources.append(graph.slice(port, stored[port.tensor], f"{name}/part_{number}"))
    if layer.residual is not None:
        skip = sources.pop()
    result = add(graph, layer.op, sources, name, where)
    return result if layer.post is None else add_post(graph, layer, result, bound, skip, name)


def add_output(graph: Shaped, item: Output, source: Operand, count: int) -> End:
    """Append one of ``count`` outputs as real numbers; return it."""
    shape = 1, *item.shape
    y_name, name = (end_name(base, source.tensor, count) for base in ("y", "output"))
    target, value = graph.constant(shape, np.int64, f"{name}/shape"), source.value
    if has_channels_last(item.shape, source.tensor.shape):
        value = graph.put(
            *("Transpose", [value], f"{y_name}/last", np.float64),
            (1, *source.tensor.shape),
            perm=[0, 2, 3, 1],
        )
    y = graph.put("Reshape", [value, target], y_name, np.float64, shape)
    scale = graph.constant(source.tensor.scale, np.float64, end_name("scale", source.tensor, count))
    graph.add("Mul", [y, scale], name)
    return name, np.float64, list(shape)


def build_qonnx(network: IntegerNetwork) -> onnx.ModelProto:
    """Return a network as a QONNX model: one image (1, c, h, w) float32 in, or ids (1, t) int64 of
    a table, ``output`` float64 out, equal to calling the network. Where there are several inputs or
    outputs, their names are followed by a slash and the tensor's name, percent-encoded.

    Raise ``UnsupportedError``, naming the layer, for what the format cannot say: codebooks whose
    levels are not equally spaced, activation functions that decrease somewhere, accumulators beyond
    24 bits, state, a kind of operator without an export.
    """
    refuse_state(network, "QONNX")
    graph = Shaped()
    inputs, outputs, stored = [], [], {}
    for item in network.inputs:
        end, stored[item.tensor.name] = add_input(graph, item, len(network.inputs))
        inputs.append(end)
    for item in network.constants:
        stored[item.tensor.name] = add_constant(graph, item)
    for layer in network.layers:
        value = add_layer(graph, layer, network.bounds.get(layer.name, 0), stored)
        stored[layer.output.name] = Operand(layer.output, value)
    for item in network.outputs:
        outputs.append(add_output(graph, item, stored[item.tensor], len(network.outputs)))
    model = graph.model(network, inputs, outputs, {"": OPSET, DOMAIN: 1}, DOC)
    model.graph.value_info.extend(graph.described())
    onnx.checker.check_model(model)
    return model


def export_qonnx(network: IntegerNetwork, path: str | os.PathLike[str]) -> Path:
    """Write a network as a QONNX file, in one step; return its path."""
    return write_atomically(path, build_qonnx(network).SerializeToString(deterministic=True))
