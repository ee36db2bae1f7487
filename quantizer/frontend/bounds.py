"""Between which values the nodes of a float graph stay, as far as their operators say so."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from nupes.model.operators import MaxPool, Mosaic, Select
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.graph import Add, Affine, Concat, Constant, Node, Pad, Pool, Product

__all__ = ["EVERYTHING", "Bounds", "bounds_of"]

Bounds = tuple[float, float]
"""The lowest and the highest value that there can be."""

EVERYTHING: Bounds = (-np.inf, np.inf)
"""What is known of a value of which nothing is known."""


def bounds_of(node: Node, *sources: Bounds) -> Bounds:
    """Return the bounds of a node's values from those of the nodes that it reads."""
    rule = RULES.get(type(node.op))
    return EVERYTHING if rule is None else rule(node.op, *sources)


def around(*bounds: Bounds) -> Bounds:
    """Return what holds all bounds."""
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def products(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return the products of all pairs; of 0 and a bound that is infinite 0, as no value is."""
    with np.errstate(invalid="ignore"):
        found = np.multiply.outer(first, second)
    return np.where(np.isnan(found), 0.0, found)


def of_affine(op: Affine, source: Bounds) -> Bounds:
    """Return the bounds of a scale and a shift per channel."""
    ends = products(source, op.scale) + op.shift
    return float(ends.min()), float(ends.max())


def of_pool(op: Pool, source: Bounds) -> Bounds:
    """Return the bounds of sums, of windows that padding may leave with less."""
    low, high = source
    return op.bound(low), -op.bound(-high)


def of_sum(op: Add, first: Bounds, second: Bounds) -> Bounds:
    """Return the bounds of a sum."""
    return first[0] + second[0], first[1] + second[1]


def of_product(op: Product, first: Bounds, second: Bounds) -> Bounds:
    """Return the bounds of a product: those of its corners."""
    corners = products(first, second)
    return float(corners.min()), float(corners.max())


RULES: dict[type, Callable[..., Bounds]] = {
    Function: lambda op, source: (op.low, op.high),
    Affine: of_affine,
    Pool: of_pool,
    Add: of_sum,
    Product: of_product,
    Constant: lambda op: (float(op.values.min()), float(op.values.max())),
    Concat: lambda op, *sources: around(*sources),
    Mosaic: lambda op, *sources: around(*sources),
    MaxPool: lambda op, source: source,
    Select: lambda op, source: around(source, (0.0, 0.0)),
    Pad: lambda op, source: around(source, (0.0, 0.0)),
}
"""How operators bound their results; of others nothing is known."""
