"""Whole networks, layer by layer."""

from collections.abc import Mapping
from itertools import product
from typing import Any, cast

from nupes.model.layer import Layer, Post, ShiftEncoder
from nupes.model.network import IntegerNetwork
from nupes.model.tensor import Port, Tensor, Wide
from tests.model.reference import result_of
from tests.model.reference.arithmetic import encode, requantize, residual_term, shifted
from tests.model.reference.windows import Map

__all__ = ["advance", "run"]


def run(network: IntegerNetwork, *codes: Any) -> list[int]:
    """Return the flat ``y`` (channel, row, column) of one image's input codes (h, w, c), for a
    network with one output."""
    (result,), _ = advance(network, {}, *codes)
    return result


def advance(
    network: IntegerNetwork, state: Mapping[str, Map], *codes: Any
) -> tuple[list[list[int]], dict[str, Map]]:
    """Return every output's flat ``y`` (channel, row, column), and the state after it."""
    stored: dict[str, Map] = {item.tensor.name: item.initial.tolist() for item in network.state}
    stored |= {item.tensor.name: item.codes.tolist() for item in network.constants}
    stored |= state
    for item, part in zip(network.inputs, codes, strict=True):
        stored[item.tensor.name] = part.tolist()
    for layer in network.layers:
        stored[layer.output.name] = run_layer(layer, stored, network.tensors)
    results = [flat(stored[output.tensor]) for output in network.outputs]
    return results, {item.tensor.name: stored[item.written] for item in network.state}


def flat(result: Map) -> list[int]:
    """Return the numbers of a map in the order channel, row, column."""
    height, width, channels = len(result), len(result[0]), len(result[0][0])
    return [result[y][x][c] for c, y, x in product(range(channels), range(height), range(width))]


def read(port: Port, stored: dict[str, Map]) -> Map:
    """Return the codes of the rows and channels that a port reads."""
    last = None if port.channels is None else port.first + port.channels
    end = None if port.rows is None else port.first_row + port.rows
    rows = stored[port.tensor][port.first_row : end]
    return [[pixel[port.first : last] for pixel in row] for row in rows]


def levels(port: Port, stored: dict[str, Map], tensors: dict[str, Tensor]) -> Map:
    """Return the levels that a port reads; those of a wide tensor are its results."""
    codes, tensor = read(port, stored), tensors[port.tensor]
    if isinstance(tensor.format, Wide):
        return codes
    table = tensor.codebook.levels.tolist()
    return [[[table[code] for code in pixel] for pixel in row] for row in codes]


def run_layer(layer: Layer, stored: dict[str, Map], tensors: dict[str, Tensor]) -> Map:
    """Return the codes that a layer stores, or ``y``."""
    if layer.post is None:
        return result_of(layer.op, *(read(port, stored) for port in layer.inputs))
    sums = result_of(layer.op, *(levels(port, stored, tensors) for port in layer.inputs))
    skip = None
    if layer.post.residual is not None:
        skip = levels(layer.post.residual.port, stored, tensors)
    return [
        [
            [
                finish(layer, acc, n, None if skip is None else pixel_of(skip, y, x)[n])
                for n, acc in enumerate(pixel)
            ]
            for x, pixel in enumerate(row)
        ]
        for y, row in enumerate(sums)
    ]


def pixel_of(skip: Map, y: int, x: int) -> list[int]:
    """Return what is added to a pixel: one pixel may serve all."""
    return skip[0][0] if len(skip) == len(skip[0]) == 1 else skip[y][x]


def finish(layer: Layer, acc: int, n: int, skip: int | None) -> int:
    """Return the code, or ``y``, of one accumulator of channel ``n``."""
    post = cast(Post, layer.post)
    tail, term = post.requantize, 0
    if skip is not None and post.residual is not None:
        term = residual_term(skip, post.residual.mult, post.residual.shift)
    y = requantize(acc, int(tail.mult[n]), int(tail.bias[n]), int(tail.shift[n]), term)
    if post.encoder is None:
        return y
    if isinstance(post.encoder, ShiftEncoder):
        return shifted(y, post.encoder.shift, layer.output.codebook.levels.tolist())
    return encode(y, post.encoder.thresholds.tolist(), post.encoder.codes.tolist())
