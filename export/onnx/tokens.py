"""The token stage, and the two reciprocals that give its factors: int64, by tables of bit lengths.

Every number is non-negative where it is divided, so that ``Div``, which truncates, floors. What
depends on the bits of a number alone is a table of them.
"""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.model.tensor import Wide
from nupes.model.token_stage import FRACTION_BITS, MANTISSA_MAX, ROOT_BITS

__all__ = ["Factor", "add_integers", "reciprocal", "reciprocal_root", "scale_tokens"]

Factor = tuple[str, str]
"""Names of a mantissa and a shift, int64 (b, 1, h, w)."""

OFFSET = 1 << 48
"""Makes every scaled number positive; a multiple of ``2**shift`` for every shift."""

TOTAL_BITS, VARIANCE_BITS, MOST_SHIFT = 31, 61, 32


def add_integers(graph: Graph, source: Operand, name: str) -> str:
    """Append what the numbers of a tensor stand for, int64: levels, or ``y`` as it is."""
    if isinstance(source.tensor.format, Wide):
        return source.value
    levels = graph.constant(source.tensor.codebook.levels, np.int64, f"{name}/table")
    index = graph.cast(source.value, np.int32, f"{name}/index")
    return graph.add("Gather", [levels, index], f"{name}/levels")


def lookup(graph: Graph, values: list[int], index: str, name: str) -> str:
    """Append a table of int64 at an index."""
    table = graph.constant(values, np.int64, f"{name}_table")
    return graph.add("Gather", [table, index], name)


def bit_length(graph: Graph, value: str, bits: int, name: str) -> str:
    """Append the bits of a number (b, 1, h, w) of at most so many: the powers of two that it
    reaches."""
    powers = [[[1 << bit]] for bit in range(bits)]
    reached = graph.constant(powers, np.int64, f"bits/{bits}")
    found = graph.add("GreaterOrEqual", [value, reached], f"{name}_reached")
    ones = graph.cast(found, np.int64, f"{name}_ones")
    axes = graph.constant([1], np.int64, "axes/channels")
    return graph.add("ReduceSum", [ones, axes], name, keepdims=1)


def reciprocal(graph: Graph, total: str, name: str) -> Factor:
    """Append the factor of ``2**15 / total``, which is below 2**31; one below 2 counts as 2."""
    two, one = (graph.constant(value, np.int64, f"number/{value}") for value in (2, 1))
    small = graph.add("Less", [total, two], f"{name}/small")
    total = graph.add("Where", [small, two, total], f"{name}/total")
    bits = bit_length(graph, total, TOTAL_BITS, f"{name}/bits")
    powers = [1 << (FRACTION_BITS + n) for n in range(TOTAL_BITS + 1)]
    power = lookup(graph, powers, bits, f"{name}/power")
    half = graph.add("Div", [total, two], f"{name}/half")
    raised = graph.add("Add", [power, half], f"{name}/raised")
    quotient = graph.add("Div", [raised, total], f"{name}/quotient")
    most = graph.constant(MANTISSA_MAX, np.int64, f"number/{MANTISSA_MAX}")
    carry = graph.add("Greater", [quotient, most], f"{name}/carry")
    lowest = graph.constant(1 << FRACTION_BITS, np.int64, f"number/{1 << FRACTION_BITS}")
    mantissa = graph.add("Where", [carry, lowest, quotient], f"{name}/mantissa")
    less = graph.add("Sub", [bits, one], f"{name}/less")
    return mantissa, graph.add("Where", [carry, less, bits], f"{name}/shift")


def reciprocal_root(graph: Graph, variance: str, name: str) -> Factor:
    """Append the factor of ``2**15 / sqrt(variance)``, which is in 1..2**61 - 1: 16 steps of one
    bit each."""
    bits = bit_length(graph, variance, VARIANCE_BITS, f"{name}/bits")
    dropped = [max(0, n - ROOT_BITS) for n in range(VARIANCE_BITS + 1)]
    dropped = [amount + (amount & 1) for amount in dropped]
    halves = [(n - amount + 1) >> 1 for n, amount in enumerate(dropped)]
    divisor = lookup(graph, [1 << n for n in dropped], bits, f"{name}/divisor")
    limits = [1 << (2 * (FRACTION_BITS + half)) for half in halves]
    limit = lookup(graph, limits, bits, f"{name}/limit")
    shifts = [half + amount // 2 for half, amount in zip(halves, dropped, strict=True)]
    shift = lookup(graph, shifts, bits, f"{name}/shift")
    d = graph.add("Div", [variance, divisor], f"{name}/d")
    mantissa = graph.constant(0, np.int64, "number/0")
    for bit in reversed(range(MANTISSA_MAX.bit_length())):
        at = f"{name}/step_{bit}"
        step = graph.constant(1 << bit, np.int64, f"number/{1 << bit}")
        trial = graph.add("Add", [mantissa, step], f"{at}_trial")
        square = graph.add("Mul", [trial, trial], f"{at}_square")
        product = graph.add("Mul", [square, d], f"{at}_product")
        fits = graph.add("LessOrEqual", [product, limit], f"{at}_fits")
        mantissa = graph.add("Where", [fits, trial, mantissa], at)
    return mantissa, shift


def scale_tokens(graph: Graph, values: str, factor: Factor, name: str) -> str:
    """Append ``(values * mantissa + 2**(shift - 1)) >> shift``, int64; the product is below
    2**48 in magnitude."""
    mantissa, shift = factor
    amounts = range(1, MOST_SHIFT + 1)
    halves = [0, *(OFFSET + (1 << (n - 1)) for n in amounts)]
    half = lookup(graph, halves, shift, f"{name}/half")
    power = lookup(graph, [1, *(1 << n for n in amounts)], shift, f"{name}/power")
    offset = lookup(graph, [0, *(OFFSET >> n for n in amounts)], shift, f"{name}/offset")
    product = graph.add("Mul", [values, mantissa], f"{name}/product")
    positive = graph.add("Add", [product, half], f"{name}/positive")
    shifted = graph.add("Div", [positive, power], f"{name}/shifted")
    return graph.add("Sub", [shifted, offset], f"{name}/scaled")
