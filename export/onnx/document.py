"""The whole ONNX model: inputs, layers in order, outputs."""

import os
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from onnx import ModelProto

from nupes.export.graph import Graph, Operand, end_name, prefix, read, safe
from nupes.export.onnx.input_encoder import add_positions, encode_input, look_up
from nupes.export.onnx.operators import EXPORTERS
from nupes.export.onnx.requantize import add_post
from nupes.export.support import exporter
from nupes.model.errors import InputError
from nupes.model.files import write_atomically
from nupes.model.host import has_channels_last
from nupes.model.layer import Layer
from nupes.model.network import Constant, Input, IntegerNetwork, Output, State

__all__ = ["OPSET", "InputKind", "build_onnx", "export_onnx"]

OPSET = 24
"""Version of the operator set; of its newest features only 4-bit tensors (21) are used."""

InputKind = Literal["float32", "float64", "codes"]
"""What the model takes: real images of either precision, or the codes of the input tensors."""

DOC = """Integer network of nupes: exact integer arithmetic. Input: images (b, c, h, w), or codes.
Outputs: y, the int16 result of the last layer, and output, y times the network's scale."""

End = tuple[str, Any, list[int | str]]
"""An input or output of the model: name, type, shape."""


def add_input(graph: Graph, item: Input, kind: InputKind, count: int) -> tuple[End, Operand]:
    """Append one of ``count`` inputs; return it and its codes."""
    height, width, channels = item.tensor.shape
    below = end_name("input", item.tensor, count)
    if kind != "codes" and item.lookup is not None:
        name = end_name("ids", item.tensor, count)
        return (name, np.int64, ["batch", item.tokens]), add_lookup(graph, item, name, below)
    name = end_name("codes" if kind == "codes" else "images", item.tensor, count)
    codes, dtype = name, np.dtype(np.uint8 if kind == "codes" else kind)
    if kind != "codes":
        codes = encode_input(graph, item.encoder.thresholds, name, below)
    return (name, dtype, ["batch", channels, height, width]), Operand(item.tensor, codes)


def add_lookup(graph: Graph, item: Input, ids: str, name: str) -> Operand:
    """Append the look-up of ids; return the codes."""
    assert item.lookup is not None
    rows = ids if item.positions is None else add_positions(graph, item.positions, ids, name)
    return Operand(item.tensor, look_up(graph, item.lookup, rows, name, item.of_one_pixel))


def add_shared(graph: Graph, item: Input, ends: dict[str, End], count: int) -> Operand:
    """Append an input of the array of another one; return its codes."""
    assert item.source is not None
    (given, *_), below = ends[item.source], end_name("input", item.tensor, count)
    if item.lookup is not None:
        return add_lookup(graph, item, given, below)
    height, width, channels = item.tensor.shape
    shape = graph.constant([0, channels, height, width], np.int64, f"{below}/shape")
    pixels = graph.add("Reshape", [given, shape], f"{below}/map")
    return Operand(item.tensor, encode_input(graph, item.encoder.thresholds, pixels, below))


def add_constant(graph: Graph, item: Constant, input: str) -> Operand:
    """Append a constant as often as there are images in an input; return its codes."""
    name = f"constants/{safe(item.tensor.name)}"
    codes = graph.constant(item.codes.transpose(2, 0, 1)[np.newaxis], np.uint8, f"{name}/held")
    batch = graph.add("Shape", [input], f"{name}/batch", start=0, end=1)
    rest = graph.constant([1, 1, 1], np.int64, "constants/rest")
    shape = graph.add("Concat", [batch, rest], f"{name}/shape", axis=0)
    return Operand(item.tensor, graph.add("Expand", [codes, shape], f"{name}/codes"))


def add_layer(graph: Graph, layer: Layer, stored: dict[str, Operand]) -> str:
    """Append a layer; return its result: codes, uint8, or ``y``, int64."""
    add, name = exporter(EXPORTERS, layer, "ONNX"), prefix(layer)
    sources, skip = [], None
    for number, port in enumerate(layer.reads):
        sources.append(read(graph, port, stored[port.tensor], f"{name}/part_{number}"))
    if layer.residual is not None:
        skip = sources.pop()
    result = add(graph, layer.op, sources, name)
    return result if layer.post is None else add_post(graph, layer, result, skip, name)


def add_output(graph: Graph, item: Output, source: Operand, count: int) -> list[End]:
    """Append one of ``count`` outputs as ``y`` and as real numbers; return both."""
    y_name, name = (end_name(base, source.tensor, count) for base in ("y", "output"))
    shape = graph.constant([0, *item.shape], np.int64, f"{name}/shape")
    y = graph.cast(source.value, np.int16, f"{y_name}/map")
    if has_channels_last(item.shape, source.tensor.shape):
        y = graph.add("Transpose", [y], f"{y_name}/last", perm=[0, 2, 3, 1])
    y = graph.add("Reshape", [y, shape], y_name)
    scale = graph.constant(source.tensor.scale, np.float64, end_name("scale", source.tensor, count))
    graph.add("Mul", [graph.cast(y, np.float64, f"{y_name}/real"), scale], name)
    ends: list[int | str] = ["batch", *item.shape]
    return [(y_name, np.int16, ends), (name, np.float64, ends)]


def state_end(base: str, item: State) -> End:
    """Return the end at which a state's codes come in or go out."""
    height, width, channels = item.tensor.shape
    return f"{base}/{safe(item.tensor.name)}", np.uint8, ["batch", channels, height, width]


def build_onnx(network: IntegerNetwork, input: InputKind = "float32") -> ModelProto:
    """Return a network as a checked ONNX model.

    Input ``images`` (b, c, h, w) float32 or float64, or ``codes`` (b, c, h, w) uint8; ``ids`` (b,
    t) int64 in place of images that are looked up in a table, once where several inputs share them.
    Outputs:
    ``y`` (b, *output shape) int16, equal to ``network.run``, and ``output``, the same times the
    scale in float64, equal to calling the network. Where there are several inputs or outputs, each
    of these names is followed by a slash and the tensor's name, percent-encoded. State is an input
    ``state/NAME`` and an output ``next/NAME``, both codes (b, c, h, w) uint8. A NaN, which the
    network refuses, counts as below every threshold.

    Raise ``UnsupportedError`` for a kind of operator without an export.
    """
    if input not in get_args(InputKind):
        raise InputError(
            f"ONNX input must be one of {', '.join(get_args(InputKind))}, not {input!r}"
        )
    graph = Graph()
    inputs, outputs, stored = [], [], {}
    ends: dict[str, End] = {}
    count = len(network.inputs)
    for item in network.inputs:
        name = item.tensor.name
        if item.source is not None and input != "codes":
            stored[name] = add_shared(graph, item, ends, count)
            continue
        ends[name], stored[name] = add_input(graph, item, input, count)
        inputs.append(ends[name])
    for item in network.constants:
        stored[item.tensor.name] = add_constant(graph, item, inputs[0][0])
    for item in network.state:
        inputs.append(state_end("state", item))
        stored[item.tensor.name] = Operand(item.tensor, inputs[-1][0])
    for layer in network.layers:
        stored[layer.output.name] = Operand(layer.output, add_layer(graph, layer, stored))
    for item in network.outputs:
        outputs += add_output(graph, item, stored[item.tensor], len(network.outputs))
    for item in network.state:
        outputs.append(state_end("next", item))
        graph.add("Identity", [stored[item.written].value], outputs[-1][0])
    model = graph.model(network, inputs, outputs, {"": OPSET}, DOC)
    onnx.checker.check_model(model, full_check=True)
    return model


def export_onnx(
    network: IntegerNetwork, path: str | os.PathLike[str], input: InputKind = "float32"
) -> Path:
    """Write a network as an ONNX file, in one step; return its path."""
    return write_atomically(path, build_onnx(network, input).SerializeToString(deterministic=True))
