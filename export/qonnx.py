"""QONNX: the integer network in the form that FINN calls streamlined, equal to the last bit.

Tensors are float32 that hold integer levels. Weights are Quant nodes, an accumulator is a Conv, and
requantization, activation function and encoder together are one MultiThreshold with integer
thresholds on the accumulator, per channel:

    y >= t   <=>   acc * mult + bias >= t << shift   <=>   acc >= ceil(((t << shift) - bias) / mult)

Every sum is an integer below 2**24, which float32 holds exactly; more is refused. Where ``y``
itself is needed (a layer with a skip tensor, the last layer) it is computed in float64, in which
all of its steps are exact: integers below 2**48, a division by a power of two, Floor.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from nupes.export.graph import Graph, element_type
from nupes.model.arithmetic import FLOAT32_EXACT, Y_RANGE, encode_table
from nupes.model.codebook import Codebook
from nupes.model.errors import UnsupportedError
from nupes.model.files import write_atomically
from nupes.model.layer import Layer, Requantize, Residual
from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Conv, MaxPool, Operator, Select
from nupes.model.tensor import Tensor

__all__ = ["DOMAIN", "OPSET", "build_qonnx", "export_qonnx"]

DOMAIN = "qonnx.custom_op.general"
"""Where Quant and MultiThreshold are defined."""

OPSET = 13
"""Version of the standard operators: the one in which all of them take float64."""

DOC = "Integer network of nupes: integer levels in float32 tensors, exact. Batch of one image."

Shape = tuple[int, ...]


class Shaped(Graph):
    """A graph that knows every value's type and shape: custom operators are not inferred."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: dict[str, tuple[Any, Shape]] = {}

    def put(
        self, op: str, inputs: list[str], output: str, dtype: Any, shape: Shape, **attributes: Any
    ) -> str:
        """Append a node whose output has this type and shape."""
        self.shapes[output] = dtype, shape
        return self.add(op, inputs, output, **attributes)

    def real(self, op: str, value: str, constant: Any, output: str) -> str:
        """Append a float64 node of a value and a constant that broadcasts to its shape."""
        _, shape = self.shapes[value]
        other = self.constant(constant, np.float64, f"{output}_constant")
        return self.put(op, [value, other], output, np.float64, shape)

    def convert(self, value: str, dtype: Any, shape: Shape, output: str) -> str:
        """Append a conversion."""
        return self.put("Cast", [value], output, dtype, shape, to=element_type(dtype))


def spacing(book: Codebook, what: str) -> int:
    """Return the step between a codebook's levels; refuse a non-uniform one."""
    steps = np.unique(np.diff(book.levels))
    if len(steps) > 1:
        raise UnsupportedError(
            f"{what} must have equally spaced levels in QONNX, not a {book.family} codebook; "
            'quantize with codebook="uniform" or export standard ONNX'
        )
    return int(steps[0]) if len(steps) else 1


def data_type(book: Codebook) -> str:
    """Return QONNX's name of the smallest integer type that holds a codebook's levels."""
    low, high = int(book.levels[0]), int(book.levels[-1])
    if low >= 0:
        return f"UINT{max(1, high.bit_length())}"
    return f"INT{max(high.bit_length(), (-low - 1).bit_length()) + 1}"


def first_reached(layer: Layer, book: Codebook) -> np.ndarray:
    """Return, for each code above 0, the least ``y`` that is encoded at least so high, int64.

    32768 means that no ``y`` is. Refuse a function with a turning point.
    """
    assert layer.encoder is not None
    table = encode_table(layer.encoder.thresholds, layer.encoder.codes)
    if np.any(np.diff(table.astype(np.int64)) < 0):
        raise UnsupportedError(
            f"layer {layer.name!r}: activation function must not decrease anywhere in QONNX's "
            "MultiThreshold; export standard ONNX"
        )
    return np.searchsorted(table, np.arange(1, len(book)), side="left") + Y_RANGE[0]


def accumulator_thresholds(tail: Requantize, reached: np.ndarray, bound: int) -> np.ndarray:
    """Return the least accumulator of each channel (n, t) whose ``y`` reaches each threshold (t,).

    Accumulators lie within ``bound``: ``-bound`` is always reached, ``bound + 1`` never.
    """
    mult, bias, shift = (
        values.astype(np.int64)[:, np.newaxis] for values in (tail.mult, tail.bias, tail.shift)
    )
    missing = (reached << shift) - bias  # at least this much of acc * mult
    least = np.where(
        mult > 0, -(-missing // np.maximum(mult, 1)), np.where(missing > 0, 2**62, -(2**62))
    )
    least = np.where(reached <= Y_RANGE[0], -(2**62), least)
    least = np.where(reached > Y_RANGE[1], 2**62, least)
    return np.clip(least, -bound, bound + 1)


def round_up(thresholds: np.ndarray) -> np.ndarray:
    """Return the least float32 that is at least each float64: equal for every float32 pixel."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    return np.where(
        near.astype(np.float64) < thresholds, np.nextafter(near, np.float32(np.inf)), near
    )


def threshold(
    graph: Shaped, value: str, thresholds: np.ndarray, book: Codebook, shape: Shape, name: str
) -> str:
    """Append a MultiThreshold from a value to levels; thresholds (n or 1, K - 1)."""
    if thresholds.shape[1] == 0:
        thresholds = np.full((len(thresholds), 1), np.inf)
    return graph.put(
        "MultiThreshold",
        [value, graph.constant(thresholds, np.float32, f"{name}_thresholds")],
        name,
        np.float32,
        shape,
        domain=DOMAIN,
        out_dtype=data_type(book),
        out_scale=float(spacing(book, name)),
        out_bias=float(book.levels[0]),
        data_layout="NCHW",
    )


def quantized_weights(graph: Shaped, op: Conv, where: str, name: str) -> str:
    """Append the Quant node of a convolution's weights, which are levels already."""
    what = f"{where}: weight codebook"
    step = spacing(op.codebook, what)
    integers = op.codebook.levels.astype(np.int64) // step
    bits = op.codebook.bits
    signed = bool(integers[0] < 0)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    fits = low <= integers[0] and integers[-1] <= high
    if int(op.codebook.levels[0]) % step or not fits or (signed and bits == 1):
        raise UnsupportedError(
            f"{what} must be multiples of its step that fit {bits} bits in QONNX, "
            f"not {op.codebook.levels[0]}..{op.codebook.levels[-1]} in steps of {step}"
        )
    parameters = [
        graph.constant(value, np.float32, f"{name}/weight_{label}")
        for label, value in (("scale", step), ("zero", 0), ("bits", bits))
    ]
    levels = graph.constant(op.levels, np.float32, f"{name}/weight_levels")
    return graph.put(
        "Quant",
        [levels, *parameters],
        f"{name}/weight",
        np.float32,
        op.codes.shape,
        domain=DOMAIN,
        signed=int(signed),
        narrow=int(signed and integers[0] > low),
        rounding_mode="ROUND",
    )


def accumulate(graph: Shaped, layer: Layer, source: Tensor, levels: str, name: str) -> str:
    """Append the accumulator of a layer, float32."""
    op, channels, groups = layer.op, source.shape[2], 1
    if isinstance(op, Conv):
        kernel, groups = quantized_weights(graph, op, f"layer {layer.name!r}", name), op.groups
    elif isinstance(op, AveragePool):
        kernel = graph.constant(np.ones((channels, 1, *op.kernel)), np.float32, f"{name}/ones")
        groups = channels
    else:
        assert isinstance(op, Select)
        chosen = np.eye(op.channels, channels, -op.offset)[:, :, np.newaxis, np.newaxis]
        kernel = graph.constant(chosen, np.float32, f"{name}/selection")
    top, bottom, left, right = op.padding
    return graph.put(
        "Conv",
        [levels, kernel],
        f"{name}/acc",
        np.float32,
        planes(op, source),
        kernel_shape=op.kernel,
        pads=[top, left, bottom, right],
        strides=op.stride,
        dilations=op.dilation,
        group=groups,
    )


def planes(op: Operator, source: Tensor) -> Shape:
    """Return the shape (1, n, oh, ow) of an operator's result."""
    height, width, channels = op.shape(source.shape)
    return 1, channels, height, width


def result(
    graph: Shaped, tail: Requantize, acc: str, skip: tuple[str, Residual] | None, name: str
) -> str:
    """Append ``y`` in float64: every step is exact."""
    column = (-1, 1, 1)
    _, shape = graph.shapes[acc]
    value = graph.convert(acc, np.float64, shape, f"{name}/acc_real")
    value = graph.real("Mul", value, tail.mult.reshape(column), f"{name}/scaled")
    value = graph.real("Add", value, tail.bias.reshape(column), f"{name}/biased")
    value = graph.real("Mul", value, 0.5 ** tail.shift.reshape(column), f"{name}/shifted")
    value = graph.put("Floor", [value], f"{name}/floored", np.float64, shape)
    if skip is not None:
        levels, residual = skip
        term = graph.convert(levels, np.float64, shape, f"{name}/skip_real")
        term = graph.real("Mul", term, residual.mult, f"{name}/skip_scaled")
        term = graph.real("Add", term, 2 ** (residual.shift - 1), f"{name}/skip_biased")
        term = graph.real("Mul", term, 0.5**residual.shift, f"{name}/skip_shifted")
        term = graph.put("Floor", [term], f"{name}/skip_term", np.float64, shape)
        value = graph.put("Add", [value, term], f"{name}/added", np.float64, shape)
    low, high = (graph.constant(limit, np.float64, f"limit/{limit}") for limit in Y_RANGE)
    return graph.put("Clip", [value, low, high], f"{name}/y", np.float64, shape)


def max_pool(graph: Shaped, op: MaxPool, source: Tensor, levels: str, name: str) -> str:
    """Append a maximum of levels; padding with the lowest changes none."""
    top, bottom, left, right = op.padding
    if any(op.padding):
        height, width, channels = source.shape
        pads = graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64, f"{name}/pads")
        lowest = graph.constant(source.codebook.levels[0], np.float32, f"{name}/lowest")
        padded = 1, channels, top + height + bottom, left + width + right
        levels = graph.put("Pad", [levels, pads, lowest], f"{name}/padded", np.float32, padded)
    return graph.put(
        "MaxPool",
        [levels],
        f"{name}/levels",
        np.float32,
        planes(op, source),
        kernel_shape=op.kernel,
        strides=op.stride,
        dilations=op.dilation,
    )


def store(
    graph: Shaped,
    layer: Layer,
    source: Tensor,
    acc: str,
    skip: tuple[str, Residual] | None,
    name: str,
) -> str:
    """Append what a layer with an encoder stores: levels, float32."""
    assert layer.post is not None
    book, shape = layer.output.codebook, planes(layer.op, source)
    spacing(book, f"layer {layer.name!r}: output codebook")
    reached = first_reached(layer, book)
    if skip is None:
        bound = layer.op.bound(source.codebook)
        limits = accumulator_thresholds(layer.post.requantize, reached, bound)
        return threshold(graph, acc, limits, book, shape, f"{name}/levels")
    y = result(graph, layer.post.requantize, acc, skip, name)
    single = graph.convert(y, np.float32, shape, f"{name}/y_single")
    return threshold(graph, single, reached[np.newaxis], book, shape, f"{name}/levels")


def build_qonnx(network: IntegerNetwork) -> onnx.ModelProto:
    """Return a network as a QONNX model: one image (1, c, h, w) float32 in, ``output`` float64 out,
    equal to calling the network.

    Raise ``UnsupportedError``, naming the layer, for what the format cannot say: codebooks whose
    levels are not equally spaced, activation functions that decrease somewhere, accumulators beyond
    24 bits.
    """
    graph = Shaped()
    height, width, channels = network.the_input.tensor.shape
    book = network.the_input.tensor.codebook
    spacing(book, f"input {network.the_input.tensor.name!r}: codebook")
    image = 1, channels, height, width
    limits = round_up(network.the_input.encoder.thresholds)
    levels = threshold(graph, "images", limits, book, image, "input/levels")
    stored = {network.the_input.tensor.name: (network.the_input.tensor, levels)}
    for layer in network.layers:
        source, levels = stored[layer.inputs[0].tensor]
        name = f"layers/{layer.name}"
        if layer.op.copies:
            levels = max_pool(graph, layer.op, source, levels, name)
        else:
            bound = layer.op.bound(source.codebook)
            if bound + 1 >= FLOAT32_EXACT:
                raise UnsupportedError(
                    f"layer {layer.name!r}: accumulator must stay below 2**24, which float32 "
                    f"holds exactly, not {bound}; use fewer bits or export standard ONNX"
                )
            acc = accumulate(graph, layer, source, levels, name)
            skip = None
            if layer.residual is not None:
                skip = stored[layer.residual.port.tensor][1], layer.residual
            assert layer.post is not None
            if layer.encoder is None:
                levels = result(graph, layer.post.requantize, acc, skip, name)
            else:
                levels = store(graph, layer, source, acc, skip, name)
        stored[layer.output.name] = (layer.output, levels)
    ends = 1, *network.the_output.shape
    target = graph.constant(ends, np.int64, "output_shape")
    y = graph.put("Reshape", [levels, target], "y", np.float64, ends)
    graph.add(
        "Mul", [y, graph.constant(network.layers[-1].output.scale, np.float64, "scale")], "output"
    )
    model = graph.model(
        network,
        [("images", np.float32, list(image))],
        [("output", np.float64, list(ends))],
        {"": OPSET, DOMAIN: 1},
        DOC,
    )
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, element_type(dtype), shape)
        for name, (dtype, shape) in graph.shapes.items()
    )
    onnx.checker.check_model(model)
    return model


def export_qonnx(network: IntegerNetwork, path: str | os.PathLike[str]) -> Path:
    """Write a network as a QONNX file, in one step; return its path."""
    return write_atomically(path, build_qonnx(network).SerializeToString(deterministic=True))
