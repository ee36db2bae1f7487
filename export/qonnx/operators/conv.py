"""A convolution, linear layers included: Conv with a Quant node for the weights."""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.convolution import convolve
from nupes.export.qonnx.shaped import DOMAIN, Shaped, spacing
from nupes.model.errors import UnsupportedError
from nupes.model.operators import Conv

__all__ = ["add_conv"]


def add_conv(graph: Shaped, op: Conv, sources: list[Operand], name: str, where: str) -> str:
    """Append the sum of products, float32."""
    (source,) = sources
    kernel = quantized_weights(graph, op, f"{where}: weight codebook", name)
    return convolve(graph, op, source, kernel, op.groups, name)


def quantized_weights(graph: Shaped, op: Conv, what: str, name: str) -> str:
    """Append the Quant node of a convolution's weights, which are levels already."""
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
