"""From accumulators to results ``y`` or codes, in int64.

* ``|acc * mult + bias| < 2**48`` (``model.network`` checks the ranges), so adding ``2**48`` makes
  it a positive int64; BitShift, which is unsigned, then floors, and ``2**48 >> shift`` is
  subtracted.
* Saturation is comparison and Where: Clip, Min and Max of int64 in ONNX Runtime on x86 let some
  values through whose magnitude lies between 2**31 and 2**32 (github.com/microsoft/onnxruntime,
  pull request 32475).
"""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.model.arithmetic import Y_RANGE, encode_table, residual_term
from nupes.model.layer import Layer, Residual
from nupes.model.tensor import Wide

__all__ = ["add_post"]

OFFSET = 1 << 48
"""Makes every scaled accumulator positive; a multiple of ``2**shift`` for every shift."""


def add_post(graph: Graph, layer: Layer, acc: str, skip: Operand | None, name: str) -> str:
    """Append what follows a layer's accumulator (b, n, h, w); return the codes, uint8, or ``y``,
    int64."""
    post = layer.post
    assert post is not None
    # The table is indexed from 0, hence the base; a wide result has none.
    base = Y_RANGE[0] if layer.encoder else 0
    tail, column = post.requantize, (-1, 1, 1)
    mult, bias, shift = (values.reshape(column) for values in (tail.mult, tail.bias, tail.shift))
    value = shift_right(graph, acc, mult, bias, shift, base, name)
    if skip is not None:
        assert post.residual is not None
        term = residual(graph, post.residual, skip, name)
        value = graph.add("Add", [value, term], f"{name}/added")
    value = saturate(graph, value, base, name)
    if layer.encoder is None:
        return value
    table = encode_table(layer.encoder.thresholds, layer.encoder.codes)
    encoder = graph.constant(table, np.uint8, f"{name}/encoder")
    return graph.add("Gather", [encoder, value], f"{name}/codes")


def shift_right(
    graph: Graph,
    value: str,
    mult: np.ndarray,
    bias: np.ndarray,
    shift: np.ndarray,
    base: int,
    name: str,
) -> str:
    """Append ``((value * mult + bias) >> shift) - base``, int64."""
    shift = shift.astype(np.int64)
    factor = graph.constant(mult, np.int64, f"{name}/mult")
    summand = graph.constant(bias + OFFSET, np.int64, f"{name}/bias")
    amount = graph.constant(shift, np.uint64, f"{name}/shift")
    offset = graph.constant((OFFSET >> shift) + base, np.int64, f"{name}/offset")
    scaled = graph.add("Mul", [value, factor], f"{name}/scaled")
    biased = graph.add("Add", [scaled, summand], f"{name}/biased")
    positive = graph.cast(biased, np.uint64, f"{name}/positive")
    shifted = graph.add("BitShift", [positive, amount], f"{name}/shifted", direction="RIGHT")
    signed = graph.cast(shifted, np.int64, f"{name}/signed")
    return graph.add("Sub", [signed, offset], f"{name}/centred")


def residual(graph: Graph, added: Residual, skip: Operand, name: str) -> str:
    """Append the term of a stored tensor, int64: a table of its codes, arithmetic of results."""
    if isinstance(skip.tensor.format, Wide):
        mult, shift = (np.asarray(value, np.int64) for value in (added.mult, added.shift))
        half = np.int64(1) << (shift - 1)
        return shift_right(graph, skip.value, mult, half, shift, 0, f"{name}/residual")
    terms = residual_term(skip.tensor.codebook.levels, added.mult, added.shift)
    table = graph.constant(terms, np.int64, f"{name}/residual_table")
    index = graph.cast(skip.value, np.int32, f"{name}/residual_index")
    return graph.add("Gather", [table, index], f"{name}/residual")


def saturate(graph: Graph, value: str, base: int, name: str) -> str:
    """Append the limits of ``y``, from which ``base`` is subtracted."""
    for op, limit in zip(("Less", "Greater"), Y_RANGE, strict=True):
        end = graph.constant(limit - base, np.int64, f"limit/{limit - base}")
        beyond = graph.add(op, [value, end], f"{name}/{op.lower()}")
        value = graph.add("Where", [beyond, end, value], f"{name}/y_{op.lower()}")
    return value
