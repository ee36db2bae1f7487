"""Exact accumulators of windows: ConvInteger on levels as unsigned bytes.

* Operands are uint8 with a zero point: a level L is stored as ``L + z``, ``z = max(0, -L[0])``.
  Weights always fit. An activation table that spans more than 8 bits is split as ``L = 2 * h + l``
  with ``h = L >> 1`` and ``l = L & 1``, and has two convolutions.
* The result is the accumulator, which the network has proven to fit 32 bits in any order. For a
  split table the same bound holds for ``h`` (``|h| <= |L|``) and for ``l``; they are joined in
  int64.
* uint8 x uint8 on purpose: for a signed operand, x86 kernels without VNNI add pairs of products
  with 16-bit saturation, which is not exact.
"""

import numpy as np

from nupes.export.crop import cropped
from nupes.export.graph import Graph, Operand
from nupes.model.codebook import Codebook
from nupes.model.operators import Padding, Window

__all__ = ["Bytes", "add_products", "convolve", "decode", "joined"]

Bytes = tuple[str, int]
"""Name of a uint8 value and its zero point."""


def byte_tables(book: Codebook) -> list[tuple[np.ndarray, int]]:
    """Return a codebook's levels as uint8 tables (K,) with their zero points.

    One table where the levels and 0 span at most 8 bits, else those of ``L >> 1`` and ``L & 1``.
    """
    levels = book.levels.astype(np.int64)
    zero = max(0, -int(levels[0]))
    if max(zero, int(levels[-1]) + zero) <= 255:
        return [((levels + zero).astype(np.uint8), zero)]
    return [(((levels >> 1) + 128).astype(np.uint8), 128), ((levels & 1).astype(np.uint8), 0)]


def decode(graph: Graph, book: Codebook, codes: str, name: str) -> list[Bytes]:
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


def convolve(
    graph: Graph, op: Window, source: Operand, kernel: Bytes, groups: int, name: str
) -> str:
    """Append the exact accumulator of a window; return its name, int64 (b, n, oh, ow).

    ``kernel`` is (n, c / groups, kh, kw).
    """
    source, padding = cropped(graph, op, source, f"{name}/cropped")
    operands = decode(graph, source.tensor.codebook, source.value, f"{name}/input")
    return add_products(graph, op, padding, operands, kernel, groups, name)


def add_products(
    graph: Graph,
    op: Window,
    padding: Padding,
    operands: list[Bytes],
    kernel: Bytes,
    groups: int,
    name: str,
) -> str:
    """Append the sum of products of the taps of an operator's windows, padded so; int64."""
    top, bottom, left, right = padding
    weights, kernel_zero = kernel
    sums = []
    for (operand, zero), part in zip(operands, ("", "_low"), strict=False):
        zeros = [graph.constant(z, np.uint8, f"zero_point/{z}") for z in (zero, kernel_zero)]
        acc = graph.add(
            "ConvInteger",
            [operand, weights, *zeros],
            f"{name}/acc{part}",
            pads=[top, left, bottom, right],
            strides=op.stride,
            dilations=op.dilation,
            group=groups,
        )
        sums.append(graph.cast(acc, np.int64, f"{name}/sum{part}"))
    return joined(graph, sums, name)


def joined(graph: Graph, sums: list[str], name: str) -> str:
    """Append the sum of an operand's products, int64, from those of each of its tables."""
    if len(sums) == 1:
        return sums[0]
    two = graph.constant(2, np.int64, "two")
    high = graph.add("Mul", [sums[0], two], f"{name}/sum_high")
    return graph.add("Add", [high, sums[1]], f"{name}/sum_joined")
