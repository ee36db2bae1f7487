"""The contract once more, in Python integers and plain loops: slow, and independent of NumPy's."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Conv, MaxPool, Select, Window

__all__ = ["accumulate", "encode", "max_pool", "requantize", "residual_term", "run"]

Map = list[list[list[int]]]
"""One image as nested lists [y][x][channel]."""


def saturate(value: int, bits: int) -> int:
    """Clamp to a signed number of ``bits`` bits."""
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


def requantize(acc: int, mult: int, bias: int, shift: int, residual: int = 0) -> int:
    """Return ``y``; Python's ``//`` floors, as an arithmetic shift does."""
    return saturate((acc * mult + bias) // 2**shift + residual, 16)


def residual_term(level: int, mult: int, shift: int) -> int:
    """Return what a skip tensor's level adds to ``y``."""
    return (level * mult + 2 ** (shift - 1)) // 2**shift


def encode(y: int, thresholds: Sequence[int], codes: Sequence[int]) -> int:
    """Count the thresholds that ``y`` reaches; map the count."""
    return codes[sum(y >= threshold for threshold in thresholds)]


def windows(op: Window, height: int, width: int) -> list[list[list[tuple[int, int, int, int]]]]:
    """Return for each output pixel the (ky, kx, y, x) of its taps that lie inside the map."""
    top, bottom, left, right = op.padding
    rows = []
    y = -top
    while y + op.dilation[0] * (op.kernel[0] - 1) < height + bottom:
        row = []
        x = -left
        while x + op.dilation[1] * (op.kernel[1] - 1) < width + right:
            taps = [
                (ky, kx, y + ky * op.dilation[0], x + kx * op.dilation[1])
                for ky, kx in product(range(op.kernel[0]), range(op.kernel[1]))
            ]
            row.append([t for t in taps if 0 <= t[2] < height and 0 <= t[3] < width])
            x += op.stride[1]
        rows.append(row)
        y += op.stride[0]
    return rows


def accumulate(op: Conv | AveragePool | Select, levels: Map) -> Map:
    """Return the exact accumulators of one image."""
    channels = len(levels[0][0])

    def conv(op: Conv, taps: list) -> list[int]:
        table = [int(level) for level in op.codebook.levels]
        outputs, per_group = op.codes.shape[0], op.codes.shape[1]
        sums = []
        for n in range(outputs):
            first = n // (outputs // op.groups) * per_group
            sums.append(
                sum(
                    table[int(op.codes[n, c, ky, kx])] * levels[y][x][first + c]
                    for ky, kx, y, x in taps
                    for c in range(per_group)
                )
            )
        return sums

    def pixel(taps: list) -> list[int]:
        if isinstance(op, Conv):
            return conv(op, taps)
        if isinstance(op, AveragePool):
            return [sum(levels[y][x][c] for _, _, y, x in taps) for c in range(channels)]
        ((_, _, y, x),) = taps
        sources = [n - op.offset for n in range(op.channels)]
        return [levels[y][x][c] if 0 <= c < channels else 0 for c in sources]

    return [[pixel(taps) for taps in row] for row in windows(op, len(levels), len(levels[0]))]


def max_pool(op: MaxPool, codes: Map) -> Map:
    """Return the maximum of the codes of each window of one image."""
    return [
        [
            [max(codes[y][x][c] for _, _, y, x in taps) for c in range(len(codes[0][0]))]
            for taps in row
        ]
        for row in windows(op, len(codes), len(codes[0]))
    ]


def run(network: IntegerNetwork, codes: Any) -> list[int]:
    """Return the flat ``y`` (channel, row, column) of one image's input codes (h, w, c)."""
    stored: dict[str, Map] = {network.the_input.tensor.name: codes.tolist()}
    tables = {name: tensor.codebook.levels.tolist() for name, tensor in network.stored.items()}
    result: Map = []
    for layer in network.layers:
        result = run_layer(layer, stored, tables)
        stored[layer.output.name] = result
    height, width, channels = len(result), len(result[0]), len(result[0][0])
    return [result[y][x][c] for c, y, x in product(range(channels), range(height), range(width))]


def run_layer(layer: Layer, stored: dict[str, Map], tables: dict[str, list[int]]) -> Map:
    """Return the codes that a layer stores, or ``y`` for the last one."""
    if layer.op.copies:
        return max_pool(layer.op, stored[layer.inputs[0].tensor])
    source, post = layer.inputs[0].tensor, layer.post
    assert post is not None
    table, tail, skip = tables[source], post.requantize, post.residual
    levels = [
        [[table[c] for c in pixel] for pixel in row] for row in stored[layer.inputs[0].tensor]
    ]
    sums = accumulate(layer.op, levels)
    for y, row in enumerate(sums):
        for x, pixel in enumerate(row):
            for n, acc in enumerate(pixel):
                term = 0
                if skip is not None:
                    level = tables[skip.port.tensor][stored[skip.port.tensor][y][x][n]]
                    term = residual_term(level, skip.mult, skip.shift)
                value = requantize(
                    acc, int(tail.mult[n]), int(tail.bias[n]), int(tail.shift[n]), term
                )
                if layer.encoder is not None:
                    thresholds = layer.encoder.thresholds.tolist()
                    value = encode(value, thresholds, layer.encoder.codes.tolist())
                pixel[n] = value
    return sums
