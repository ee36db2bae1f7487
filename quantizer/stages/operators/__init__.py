"""Operators of the captured graph in, operators of stages out: one file for each kind."""

from typing import Any

from nupes.model import operators as integer
from nupes.quantizer.frontend import graph
from nupes.quantizer.stages.operators.average_pool import AveragePool
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, column, pad_map
from nupes.quantizer.stages.operators.concat import Concat
from nupes.quantizer.stages.operators.convolution import Convolution
from nupes.quantizer.stages.operators.matmul import Matmul
from nupes.quantizer.stages.operators.max_pool import MaxPool
from nupes.quantizer.stages.operators.mosaic import Mosaic
from nupes.quantizer.stages.operators.normalize import Normalize
from nupes.quantizer.stages.operators.product import Product
from nupes.quantizer.stages.operators.select import Select
from nupes.quantizer.stages.operators.subtract_max import SubtractMax
from nupes.quantizer.stages.operators.sum_of_products import SumOfProducts
from nupes.quantizer.stages.operators.weighted_mean import WeightedMean

__all__ = [
    "OPERATORS",
    "AveragePool",
    "Beginning",
    "Concat",
    "Convolution",
    "Matmul",
    "MaxPool",
    "Mosaic",
    "Normalize",
    "Product",
    "Select",
    "StageOperator",
    "SubtractMax",
    "SumOfProducts",
    "WeightedMean",
    "begin",
    "column",
    "pad_map",
]

OPERATORS: dict[type, type[StageOperator]] = {
    graph.Convolution: Convolution,
    graph.Pool: AveragePool,
    graph.Concat: Concat,
    graph.Product: Product,
    integer.Mosaic: Mosaic,
    integer.Select: Select,
    integer.MaxPool: MaxPool,
    integer.Matmul: Matmul,
    integer.SubtractMax: SubtractMax,
    integer.SumOfProducts: SumOfProducts,
    integer.WeightedMean: WeightedMean,
    graph.Normalize: Normalize,
}
"""The stage operator of each operator of the graph that begins a stage."""


def begin(op: Any) -> Beginning:
    """Return how a stage begins with an operator of the captured graph."""
    return OPERATORS[type(op)].begin(op)
