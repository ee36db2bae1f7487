"""Standard ONNX: the integer network in integer operators of the default domain, equal to the last
bit.

Feature maps are NCHW codes (uint8). Every accumulator is a ConvInteger, with these bounds:

* Operands are uint8 with a zero point: a level L is stored as ``L + z``, ``z = max(0, -L[0])``.
  Weights always fit. An activation table that spans more than 8 bits is split as ``L = 2 * h + l``
  with ``h = L >> 1`` and ``l = L & 1``, and has two convolutions.
* The result is the accumulator, which the network has proven to fit 32 bits in any order. For a
  split table the same bound holds for ``h`` (``|h| <= |L|``) and for ``l``; they are joined in
  int64.
* uint8 x uint8 on purpose: for a signed operand, x86 kernels without VNNI add pairs of products
  with 16-bit saturation, which is not exact.
* ``|acc * mult + bias| < 2**48`` (``model.network`` checks the ranges), so adding ``2**48`` makes
  it a positive int64; BitShift, which is unsigned, then floors, and ``2**48 >> shift`` is
  subtracted.
* Saturation is comparison and Where: Clip, Min and Max of int64 in ONNX Runtime on x86 let some
  values through whose magnitude lies between 2**31 and 2**32 (github.com/microsoft/onnxruntime,
  pull request 32475).
"""

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from nupes.export.graph import Graph
from nupes.model.arithmetic import Y_RANGE, encode_table, residual_term
from nupes.model.codebook import Codebook
from nupes.model.errors import InputError
from nupes.model.files import write_atomically
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Conv, MaxPool, Operator, Select
from nupes.model.tensor import Tensor

__all__ = ["OPSET", "InputKind", "build_onnx", "export_onnx"]

OPSET = 24
"""Version of the operator set; of its newest features only 4-bit tensors (21) are used."""

InputKind = Literal["float32", "float64", "codes"]
"""What the model takes: real images of either precision, or the codes of the input tensor."""

OFFSET = 1 << 48
"""Makes every scaled accumulator positive; a multiple of ``2**shift`` for every shift."""

DOC = """Integer network of nupes: exact integer arithmetic. Input: images (b, c, h, w), or codes.
Outputs: y, the int16 result of the last layer, and output, y times the network's scale."""

UINT4 = helper.tensor_dtype_to_np_dtype(TensorProto.UINT4)

Operand = tuple[str, int]
"""Name of a uint8 tensor and its zero point."""


def prefix(layer: Layer) -> str:
    """Return what the names of a layer's values begin with; nothing else begins like that."""
    return f"layers/{layer.name}"


def byte_tables(book: Codebook) -> list[tuple[np.ndarray, int]]:
    """Return a codebook's levels as uint8 tables (K,) with their zero points.

    One table where the levels and 0 span at most 8 bits, else those of ``L >> 1`` and ``L & 1``.
    """
    levels = book.levels.astype(np.int64)
    zero = max(0, -int(levels[0]))
    if max(zero, int(levels[-1]) + zero) <= 255:
        return [((levels + zero).astype(np.uint8), zero)]
    return [(((levels >> 1) + 128).astype(np.uint8), 128), ((levels & 1).astype(np.uint8), 0)]


def decode(graph: Graph, book: Codebook, codes: str, name: str) -> list[Operand]:
    """Append the table look-ups that turn uint8 codes into the operands of a convolution."""
    operands = []
    for (table, zero), part in zip(byte_tables(book), ("", "_low"), strict=False):
        if np.array_equal(table, np.arange(len(book))):
            operands.append((codes, zero))  # uniform steps of 1: a code is its own operand
            continue
        index = graph.cast(codes, np.int32, f"{name}/index{part}")
        levels = graph.constant(table, np.uint8, f"{name}/table{part}")
        operands.append((graph.add("Gather", [levels, index], f"{name}/levels{part}"), zero))
    return operands


def weights_of(graph: Graph, op: Operator, channels: int, name: str) -> tuple[Operand, int]:
    """Return the kernel (n, c / groups, kh, kw) of an operator as an operand, and its groups.

    An average pool sums with a depthwise kernel of ones; a selection is a 1x1 kernel with one 1 for
    each channel that exists.
    """
    if isinstance(op, Conv):
        packed = UINT4 if len(op.codebook) <= 16 else np.uint8
        codes = graph.constant(op.codes, packed, f"{name}/weight_codes")
        if packed is UINT4:
            codes = graph.cast(codes, np.uint8, f"{name}/weight_bytes")
        (operand,) = decode(graph, op.codebook, codes, f"{name}/weight")
        return operand, op.groups
    if isinstance(op, AveragePool):
        ones = np.ones((channels, 1, *op.kernel))
        return (graph.constant(ones, np.uint8, f"{name}/ones"), 0), channels
    assert isinstance(op, Select)
    kernel = np.eye(op.channels, channels, -op.offset)[:, :, np.newaxis, np.newaxis]
    return (graph.constant(kernel, np.uint8, f"{name}/selection"), 0), 1


def accumulate(graph: Graph, op: Operator, source: Tensor, codes: str, name: str) -> str:
    """Append the exact accumulator of an operator; return its name, int64 (b, n, oh, ow)."""
    (kernel, kernel_zero), groups = weights_of(graph, op, source.shape[2], name)
    top, bottom, left, right = op.padding
    sums = []
    operands = decode(graph, source.codebook, codes, f"{name}/input")
    for (operand, zero), part in zip(operands, ("", "_low"), strict=False):
        zeros = [graph.constant(z, np.uint8, f"zero_point/{z}") for z in (zero, kernel_zero)]
        acc = graph.add(
            "ConvInteger",
            [operand, kernel, *zeros],
            f"{name}/acc{part}",
            pads=[top, left, bottom, right],
            strides=op.stride,
            dilations=op.dilation,
            group=groups,
        )
        sums.append(graph.cast(acc, np.int64, f"{name}/sum{part}"))
    if len(sums) == 1:
        return sums[0]
    two = graph.constant(2, np.int64, "two")
    high = graph.add("Mul", [sums[0], two], f"{name}/sum_high")
    return graph.add("Add", [high, sums[1]], f"{name}/sum_joined")


def requantize(
    graph: Graph, layer: Layer, acc: str, skip: tuple[Tensor, str] | None, base: int
) -> str:
    """Append ``clip(((acc * mult + bias) >> shift) + r) - base`` to the range of ``y``, int64."""
    assert layer.post is not None
    name, tail = prefix(layer), layer.post.requantize

    def channels(values: np.ndarray, dtype: type, label: str) -> str:
        return graph.constant(values.reshape(-1, 1, 1), dtype, f"{name}/{label}")

    shift = tail.shift.astype(np.int64)
    mult, bias = (
        channels(tail.mult, np.int64, "mult"),
        channels(tail.bias + OFFSET, np.int64, "bias"),
    )
    scaled = graph.add("Mul", [acc, mult], f"{name}/scaled")
    biased = graph.add("Add", [scaled, bias], f"{name}/biased")
    positive = graph.cast(biased, np.uint64, f"{name}/positive")
    amount = channels(shift, np.uint64, "shift")
    shifted = graph.add("BitShift", [positive, amount], f"{name}/shifted", direction="RIGHT")
    signed = graph.cast(shifted, np.int64, f"{name}/signed")
    offset = channels((OFFSET >> shift) + base, np.int64, "offset")
    value = graph.add("Sub", [signed, offset], f"{name}/centred")
    if skip is not None:
        assert layer.residual is not None
        tensor, codes = skip
        terms = residual_term(tensor.codebook.levels, layer.residual.mult, layer.residual.shift)
        table = graph.constant(terms, np.int64, f"{name}/residual_table")
        index = graph.cast(codes, np.int32, f"{name}/residual_index")
        value = graph.add(
            "Add", [value, graph.add("Gather", [table, index], f"{name}/residual")], f"{name}/added"
        )
    for op, limit in zip(("Less", "Greater"), Y_RANGE, strict=True):
        end = graph.constant(limit - base, np.int64, f"limit/{limit - base}")
        beyond = graph.add(op, [value, end], f"{name}/{op.lower()}")
        value = graph.add("Where", [beyond, end, value], f"{name}/y_{op.lower()}")
    return value


def max_pool(graph: Graph, op: MaxPool, codes: str, name: str) -> str:
    """Append a maximum of codes; padding with code 0 changes none, as every window holds a tap."""
    top, bottom, left, right = op.padding
    if any(op.padding):
        pads = graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64, f"{name}/pads")
        codes = graph.add(
            "Pad", [codes, pads, graph.constant(0, np.uint8, "zero_point/0")], f"{name}/padded"
        )
    return graph.add(
        "MaxPool",
        [codes],
        f"{name}/codes",
        kernel_shape=op.kernel,
        strides=op.stride,
        dilations=op.dilation,
    )


def encode_input(graph: Graph, network: IntegerNetwork, images: str) -> str:
    """Append the host's encoder: a binary search over each channel's float64 thresholds.

    Missing thresholds are infinite; only an infinite pixel passes them, and the last step takes
    that back.
    """
    thresholds = network.the_input.encoder.thresholds
    channels, count = thresholds.shape
    depth = max(1, count.bit_length())
    table = np.full((channels, 2**depth - 1), np.inf)
    table[:, :count] = thresholds
    flat = graph.constant(table.reshape(-1), np.float64, "input/thresholds")
    pixels = graph.cast(images, np.float64, "input/pixels")
    rows = np.arange(channels).reshape(-1, 1, 1) * (2**depth - 1)
    found = ""
    for step in (1 << i for i in reversed(range(depth))):
        at = graph.constant(rows + step - 1, np.int32, f"input/rows_{step}")
        if found:
            at = graph.add("Add", [found, at], f"input/index_{step}")
        threshold = graph.add("Gather", [flat, at], f"input/threshold_{step}")
        reached = graph.add("GreaterOrEqual", [pixels, threshold], f"input/reached_{step}")
        gain = graph.add(
            "Mul",
            [
                graph.cast(reached, np.int32, f"input/bit_{step}"),
                graph.constant(step, np.int32, f"input/step_{step}"),
            ],
            f"input/gain_{step}",
        )
        found = graph.add("Add", [found, gain], f"input/found_{step}") if found else gain
    top = graph.constant(count, np.int32, "input/last_code")
    return graph.cast(graph.add("Min", [found, top], "input/clipped"), np.uint8, "input/codes")


def build_onnx(network: IntegerNetwork, input: InputKind = "float32") -> ModelProto:
    """Return a network as a checked ONNX model.

    Input ``images`` (b, c, h, w) float32 or float64, or ``codes`` (b, c, h, w) uint8. Outputs:
    ``y`` (b, *output_shape) int16, equal to ``network.run``, and ``output``, the same times the
    scale in float64, equal to calling the network. A NaN, which the network refuses, counts as
    below every threshold.
    """
    if input not in get_args(InputKind):
        raise InputError(
            f"ONNX input must be one of {', '.join(get_args(InputKind))}, not {input!r}"
        )
    graph = Graph()
    height, width, planes = network.the_input.tensor.shape
    kind, name = (np.uint8, "codes") if input == "codes" else (np.dtype(input), "images")
    codes = name if input == "codes" else encode_input(graph, network, name)
    stored = {network.the_input.tensor.name: (network.the_input.tensor, codes)}
    for layer in network.layers:
        source, codes = stored[layer.inputs[0].tensor]
        if layer.op.copies:
            result = max_pool(graph, layer.op, codes, prefix(layer))
        else:
            acc = accumulate(graph, layer.op, source, codes, prefix(layer))
            skip = stored[layer.residual.port.tensor] if layer.residual else None
            # The table is indexed from 0, hence the base; the last layer's result has none.
            base = Y_RANGE[0] if layer.encoder else 0
            result = requantize(graph, layer, acc, skip, base)
            if layer.encoder:
                table = encode_table(layer.encoder.thresholds, layer.encoder.codes)
                encoder = graph.constant(table, np.uint8, f"{prefix(layer)}/encoder")
                result = graph.add("Gather", [encoder, result], f"{prefix(layer)}/codes")
        stored[layer.output.name] = (layer.output, result)
    shape = graph.constant([0, *network.the_output.shape], np.int64, "output_shape")
    y = graph.add("Reshape", [graph.cast(result, np.int16, "y_map"), shape], "y")
    scale = graph.constant(network.layers[-1].output.scale, np.float64, "scale")
    graph.add("Mul", [graph.cast(y, np.float64, "y_real"), scale], "output")
    ends: list[int | str] = ["batch", *network.the_output.shape]
    model = graph.model(
        network,
        [(name, kind, ["batch", planes, height, width])],
        [("y", np.int16, ends), ("output", np.float64, ends)],
        {"": OPSET},
        DOC,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def export_onnx(
    network: IntegerNetwork, path: str | os.PathLike[str], input: InputKind = "float32"
) -> Path:
    """Write a network as an ONNX file, in one step; return its path."""
    return write_atomically(path, build_onnx(network, input).SerializeToString(deterministic=True))
