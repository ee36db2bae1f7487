"""What QONNX says for each kind of operator, one module each."""

from collections.abc import Callable
from typing import Any

from nupes.export.graph import Operand
from nupes.export.qonnx.operators.average_pool import add_average_pool
from nupes.export.qonnx.operators.concat import add_concat
from nupes.export.qonnx.operators.conv import add_conv
from nupes.export.qonnx.operators.max_pool import add_max_pool
from nupes.export.qonnx.operators.mosaic import add_mosaic
from nupes.export.qonnx.operators.product import add_product
from nupes.export.qonnx.operators.select import add_select
from nupes.export.qonnx.operators.sum_of_products import add_sum_of_products
from nupes.export.qonnx.operators.transposed_conv import add_transposed_conv
from nupes.export.qonnx.shaped import Shaped

__all__ = ["EXPORTERS"]

EXPORTERS: dict[str, Callable[[Shaped, Any, list[Operand], str, str], str]] = {
    "conv": add_conv,
    "transposed_conv": add_transposed_conv,
    "average_pool": add_average_pool,
    "select": add_select,
    "max_pool": add_max_pool,
    "mosaic": add_mosaic,
    "concat": add_concat,
    "product": add_product,
    "sum_of_products": add_sum_of_products,
}
"""By kind: append an operator's nodes, their names below the first text given; return the
accumulator, or the levels of an operator that copies codes, both float32. The second text says in
errors which layer it is."""
