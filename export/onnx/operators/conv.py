"""A convolution, linear layers included: ConvInteger with the weights' packed codes."""

import numpy as np
from onnx import TensorProto, helper

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.convolution import Bytes, convolve, decode
from nupes.model.operators import Conv

__all__ = ["add_conv", "weights_of"]

UINT4 = helper.tensor_dtype_to_np_dtype(TensorProto.UINT4)


def add_conv(graph: Graph, op: Conv, sources: list[Operand], name: str) -> str:
    """Append the sum of products, int64."""
    (source,) = sources
    return convolve(graph, op, source, weights_of(graph, op, name), op.groups, name)


def weights_of(graph: Graph, op: Conv, name: str) -> Bytes:
    """Append the kernel of a convolution, from its packed codes."""
    packed = UINT4 if len(op.codebook) <= 16 else np.uint8
    codes = graph.constant(op.codes, packed, f"{name}/weight_codes")
    if packed is UINT4:
        codes = graph.cast(codes, np.uint8, f"{name}/weight_bytes")
    (kernel,) = decode(graph, op.codebook, codes, f"{name}/weight")
    return kernel
