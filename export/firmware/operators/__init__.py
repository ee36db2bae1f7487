"""What the firmware must know of each kind of operator, one module each."""

from collections.abc import Callable
from typing import Any

from nupes.export.firmware.operators.average_pool import describe_average_pool
from nupes.export.firmware.operators.concat import describe_concat
from nupes.export.firmware.operators.conv import describe_conv
from nupes.export.firmware.operators.matmul import describe_matmul
from nupes.export.firmware.operators.max_pool import describe_max_pool
from nupes.export.firmware.operators.mosaic import describe_mosaic
from nupes.export.firmware.operators.normalize import describe_normalize
from nupes.export.firmware.operators.operator import Described
from nupes.export.firmware.operators.product import describe_product
from nupes.export.firmware.operators.select import describe_select
from nupes.export.firmware.operators.subtract_max import describe_subtract_max
from nupes.export.firmware.operators.sum_of_products import describe_sum_of_products
from nupes.export.firmware.operators.transposed_conv import describe_transposed_conv
from nupes.export.firmware.operators.weighted_mean import describe_weighted_mean

__all__ = ["EXPORTERS"]

EXPORTERS: dict[str, Callable[[Any], Described]] = {
    "conv": describe_conv,
    "transposed_conv": describe_transposed_conv,
    "average_pool": describe_average_pool,
    "select": describe_select,
    "max_pool": describe_max_pool,
    "mosaic": describe_mosaic,
    "concat": describe_concat,
    "product": describe_product,
    "sum_of_products": describe_sum_of_products,
    "matmul": describe_matmul,
    "subtract_max": describe_subtract_max,
    "weighted_mean": describe_weighted_mean,
    "normalize": describe_normalize,
}
"""By kind: what the firmware must know of an operator."""
