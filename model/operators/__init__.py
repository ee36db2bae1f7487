"""The operators of an integer network, one module each; ``OPERATORS`` finds them by kind."""

from nupes.model.operators.average_pool import AveragePool
from nupes.model.operators.concat import Concat
from nupes.model.operators.conv import Conv
from nupes.model.operators.matmul import Matmul
from nupes.model.operators.max_pool import MaxPool
from nupes.model.operators.mosaic import Mosaic, Piece
from nupes.model.operators.normalize import Normalize
from nupes.model.operators.operator import Operator
from nupes.model.operators.product import Product
from nupes.model.operators.select import Select
from nupes.model.operators.subtract_max import SubtractMax
from nupes.model.operators.sum_of_products import SumOfProducts
from nupes.model.operators.transposed_conv import TransposedConv
from nupes.model.operators.weighted_mean import WeightedMean
from nupes.model.operators.window import Padding, Window

__all__ = [
    "OPERATORS",
    "AveragePool",
    "Concat",
    "Conv",
    "Matmul",
    "MaxPool",
    "Mosaic",
    "Normalize",
    "Operator",
    "Padding",
    "Piece",
    "Product",
    "Select",
    "SubtractMax",
    "SumOfProducts",
    "TransposedConv",
    "WeightedMean",
    "Window",
]

OPERATORS: dict[str, type[Operator]] = {
    operator.kind: operator
    for operator in (
        AveragePool,
        Concat,
        Conv,
        Matmul,
        MaxPool,
        Mosaic,
        Normalize,
        Product,
        Select,
        SubtractMax,
        SumOfProducts,
        TransposedConv,
        WeightedMean,
    )
}
"""Every operator by its kind."""
