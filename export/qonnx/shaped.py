"""A QONNX graph in the making: it knows the type and shape of every value."""

from typing import Any

import numpy as np
from onnx import helper

from nupes.export.crop import cropped
from nupes.export.graph import Graph, Operand, element_type, read
from nupes.model.codebook import Codebook
from nupes.model.errors import UnsupportedError
from nupes.model.operators import Padding, Window
from nupes.model.tensor import Port, Shape

__all__ = ["DOMAIN", "Planes", "Shaped", "planes", "spacing"]

DOMAIN = "qonnx.custom_op.general"
"""Where Quant and MultiThreshold are defined."""

Planes = tuple[int, ...]
"""A shape (1, c, h, w)."""


class Shaped(Graph):
    """A graph that knows every value's type and shape: custom operators are not inferred."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: dict[str, tuple[Any, Planes]] = {}

    def put(
        self, op: str, inputs: list[str], output: str, dtype: Any, shape: Planes, **attributes: Any
    ) -> str:
        """Append a node whose output has this type and shape."""
        self.shapes[output] = dtype, shape
        return self.add(op, inputs, output, **attributes)

    def real(self, op: str, value: str, constant: Any, output: str) -> str:
        """Append a float64 node of a value and a constant that broadcasts to its shape."""
        _, shape = self.shapes[value]
        other = self.constant(constant, np.float64, f"{output}_constant")
        return self.put(op, [value, other], output, np.float64, shape)

    def convert(self, value: str, dtype: Any, output: str) -> str:
        """Append a conversion."""
        _, shape = self.shapes[value]
        return self.put("Cast", [value], output, dtype, shape, to=element_type(dtype))

    def slice(self, port: Port, whole: Operand, output: str) -> Operand:
        """Append what a port reads of a tensor: all of it, or a slice of its channels."""
        part = read(self, port, whole, output)
        if part is not whole:
            dtype, _ = self.shapes[whole.value]
            self.shapes[output] = dtype, planes(part.tensor.shape)
        return part

    def crop(self, op: Window, source: Operand, output: str) -> tuple[Operand, Padding]:
        """Append what negative padding leaves of a map; return it and the padding that is added."""
        part, padding = cropped(self, op, source, output)
        if part is not source:
            dtype, _ = self.shapes[source.value]
            self.shapes[output] = dtype, planes(part.tensor.shape)
        return part, padding

    def described(self) -> list[Any]:
        """Return ONNX's description of every value."""
        return [
            helper.make_tensor_value_info(name, element_type(dtype), shape)
            for name, (dtype, shape) in self.shapes.items()
        ]


def planes(shape: Shape) -> Planes:
    """Return the shape (1, c, h, w) of one map (h, w, c)."""
    height, width, channels = shape
    return 1, channels, height, width


def spacing(book: Codebook, what: str) -> int:
    """Return the step between a codebook's levels; refuse a non-uniform one."""
    steps = np.unique(np.diff(book.levels))
    if len(steps) > 1:
        raise UnsupportedError(
            f"{what} must have equally spaced levels in QONNX, not a {book.family} codebook; "
            'quantize with codebook="uniform" or export standard ONNX'
        )
    return int(steps[0]) if len(steps) else 1
