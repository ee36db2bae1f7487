"""What standard ONNX says for each kind of operator, one module each."""

from collections.abc import Callable
from typing import Any

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.operators.average_pool import add_average_pool
from nupes.export.onnx.operators.concat import add_concat
from nupes.export.onnx.operators.conv import add_conv
from nupes.export.onnx.operators.matmul import add_matmul
from nupes.export.onnx.operators.max_pool import add_max_pool
from nupes.export.onnx.operators.mosaic import add_mosaic
from nupes.export.onnx.operators.normalize import add_normalize
from nupes.export.onnx.operators.product import add_product
from nupes.export.onnx.operators.select import add_select
from nupes.export.onnx.operators.subtract_max import add_subtract_max
from nupes.export.onnx.operators.sum_of_products import add_sum_of_products
from nupes.export.onnx.operators.transposed_conv import add_transposed_conv
from nupes.export.onnx.operators.weighted_mean import add_weighted_mean

__all__ = ["EXPORTERS"]

EXPORTERS: dict[str, Callable[[Graph, Any, list[Operand], str], str]] = {
    "conv": add_conv,
    "transposed_conv": add_transposed_conv,
    "average_pool": add_average_pool,
    "select": add_select,
    "max_pool": add_max_pool,
    "mosaic": add_mosaic,
    "concat": add_concat,
    "product": add_product,
    "sum_of_products": add_sum_of_products,
    "matmul": add_matmul,
    "subtract_max": add_subtract_max,
    "weighted_mean": add_weighted_mean,
    "normalize": add_normalize,
}
"""By kind: append an operator's nodes, their names below the given one; return the accumulator,
int64, or the codes, uint8, of one that copies them."""
