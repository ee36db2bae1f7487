"""The operators of an integer network, one module each; ``OPERATORS`` finds them by kind."""

from nupes.model.operators.average_pool import AveragePool
from nupes.model.operators.concat import Concat
from nupes.model.operators.conv import Conv
from nupes.model.operators.max_pool import MaxPool
from nupes.model.operators.mosaic import Mosaic, Piece
from nupes.model.operators.operator import Operator
from nupes.model.operators.product import Product
from nupes.model.operators.select import Select
from nupes.model.operators.transposed_conv import TransposedConv
from nupes.model.operators.window import Padding, Window

__all__ = [
    "OPERATORS",
    "AveragePool",
    "Concat",
    "Conv",
    "MaxPool",
    "Mosaic",
    "Operator",
    "Padding",
    "Piece",
    "Product",
    "Select",
    "TransposedConv",
    "Window",
]

OPERATORS: dict[str, type[Operator]] = {
    operator.kind: operator
    for operator in (
        AveragePool,
        Concat,
        Conv,
        MaxPool,
        Mosaic,
        Product,
        Select,
        TransposedConv,
    )
}
"""Every operator by its kind."""
