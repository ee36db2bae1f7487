"""What each supported ATen operator becomes in the float graph.

A handler takes a call and returns the name of the node that holds its value; an operator that
changes no value returns the node that it reads. ``context.refuse`` names the call in its error.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from torch import fx

from nupes.model.errors import InputError, UnsupportedError
from nupes.model.operators import AveragePool, MaxPool, Padding, Select
from nupes.quantizer.frontend.functions import FUNCTIONS, make_function
from nupes.quantizer.frontend.graph import (
    Add,
    Affine,
    Convolution,
    Graph,
    Node,
    Op,
    Pad,
    Pool,
    Shape,
)

__all__ = ["HANDLERS", "IGNORED", "SUPPORTED", "Context", "base_name"]


@dataclass
class Context:
    """The graph under construction, and what every torch value is in it."""

    graph: Graph
    values: dict[fx.Node, str] = field(default_factory=dict)
    constants: dict[fx.Node, Any] = field(default_factory=dict)
    path: str = ""
    is_layer: bool = False
    where: str = ""

    def refuse(self, reason: str) -> NoReturn:
        """Raise ``UnsupportedError`` that names the operator and its module."""
        raise UnsupportedError(f"{self.where}: {reason}")

    def add(self, op: Op, inputs: tuple[str, ...], shape: Shape, operator: str) -> str:
        """Add a node named after its module and return its name."""
        base = self.path if self.is_layer and self.path else f"{self.path}.{operator}".lstrip(".")
        name, count = base, 1
        while name in self.graph.nodes:
            name, count = f"{base}_{count}", count + 1
        self.graph.nodes[name] = Node(name, op, inputs, shape)
        return name

    def source(self, value: Any) -> Node:
        """Return the graph node of a torch value that depends on the input."""
        if value not in self.values:
            self.refuse("its first operand must depend on the network's input")
        return self.graph.nodes[self.values[value]]

    def vector(self, value: Any, default: float, size: int, name: str) -> np.ndarray:
        """Return an optional constant operand as finite float64 (size,)."""
        if value is None:
            return np.full(size, default)
        return self.constant(value, name).reshape(size)

    def constant(self, value: Any, name: str) -> np.ndarray:
        """Return a constant operand as finite float64."""
        if isinstance(value, fx.Node) and value not in self.constants:
            self.refuse(f"its {name} must be constant, not computed from the input")
        tensor = torch.as_tensor(self.constants[value] if isinstance(value, fx.Node) else value)
        if tensor.is_complex() or tensor.dtype == torch.bool:
            self.refuse(f"its {name} must be real numbers, not {tensor.dtype}")
        array = tensor.detach().to(torch.float64).numpy()
        if not np.isfinite(array).all():
            raise InputError(f"{self.where}: its {name} must be finite, not NaN or infinite")
        return array


def base_name(node: fx.Node) -> str:
    """Return an operator's name without its namespace, overload and in-place mark."""
    schema = getattr(node.target, "_schema", None)
    name = (
        schema.name.split("::")[-1] if schema is not None else getattr(node.target, "__name__", "")
    )
    return name if name.startswith("_") else name.rstrip("_")


def pair(value: Any) -> tuple[int, int]:
    """Return an int, or a list of one or two ints, as a pair."""
    values = [value] if isinstance(value, int) else list(value)
    return int(values[0]), int(values[-1])


def argument(node: fx.Node, position: int, name: str = "", default: Any = None) -> Any:
    """Return an argument of a call by position or keyword."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def symmetric(padding: tuple[int, int]) -> Padding:
    """Return (height, width) padding as (top, bottom, left, right)."""
    return padding[0], padding[0], padding[1], padding[1]


def full_shape(node: fx.Node) -> tuple[Any, ...]:
    """Return the shape of a call's value."""
    return tuple(node.meta["val"].shape)


def value_shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a call's value without its batch dimension."""
    return tuple(int(size) for size in full_shape(node)[1:])


def is_map(node: fx.Node) -> bool:
    """Whether a torch value has the four dimensions of a feature map."""
    return len(full_shape(node)) == 4


def convolution(context: Context, node: fx.Node) -> str:
    """Translate ``conv2d``, with numeric or named padding, and ``convolution``."""
    source = context.source(argument(node, 0))
    weight = context.constant(argument(node, 1), "weight")
    if weight.ndim != 4 or not is_map(argument(node, 0)):
        context.refuse("only two-dimensional convolution of a batch is supported")
    bias = context.vector(argument(node, 2, "bias"), 0.0, len(weight), "bias")
    stride = pair(argument(node, 3, "stride", 1))
    padding = argument(node, 4, "padding", 0)
    dilation = pair(argument(node, 5, "dilation", 1))
    groups = argument(node, 6, "groups", 1)
    if base_name(node) == "convolution":
        if argument(node, 6):
            context.refuse("transposed convolution is not supported")
        groups = argument(node, 8)
    if padding == "same":
        total = [dilation[axis] * (weight.shape[2 + axis] - 1) for axis in (0, 1)]
        sides = (total[0] // 2, -(-total[0] // 2), total[1] // 2, -(-total[1] // 2))
    else:
        sides = symmetric(pair(0 if padding == "valid" else padding))
    channels, height, width = value_shape(node)
    op = Convolution(weight, bias, stride, sides, dilation, int(groups))
    return context.add(op, (source.name,), (height, width, channels), "conv2d")


def linear(context: Context, node: fx.Node) -> str:
    """Translate ``linear`` on a flattened map."""
    weight = context.constant(argument(node, 1), "weight")
    bias = context.vector(argument(node, 2, "bias"), 0.0, len(weight), "bias")
    return whole_map(context, argument(node, 0), weight, bias)


def addmm(context: Context, node: fx.Node) -> str:
    """Translate ``addmm(bias, x, weight.T)``: a linear layer of a decomposed program."""
    if node.kwargs:
        context.refuse("alpha and beta are not supported")
    matrix = context.constant(argument(node, 2), "weight").T
    bias = context.vector(argument(node, 0), 0.0, len(matrix), "bias")
    return whole_map(context, argument(node, 1), matrix, bias)


def whole_map(context: Context, value: fx.Node, weight: np.ndarray, bias: np.ndarray) -> str:
    """Add a linear layer, weight (n, c * h * w), as a convolution whose kernel is the whole map."""
    source = context.source(value)
    dims = len(full_shape(value))
    if dims != 2:
        context.refuse(f"linear must read a tensor of (batch, features), not {dims} dimensions")
    height, width, channels = source.shape
    kernel = weight.reshape(len(weight), channels, height, width)
    return context.add(Convolution(kernel, bias), (source.name,), (1, 1, len(weight)), "linear")


def batch_norm(context: Context, node: fx.Node) -> str:
    """Translate an inference batch norm to an affine with known output statistics."""
    source = context.source(argument(node, 0))
    channels = value_shape(argument(node, 0))[0]
    plain = base_name(node) == "batch_norm"
    if plain and argument(node, 5):
        context.refuse("batch norm must use its running statistics; export in evaluation mode")
    if source.shape[2] != channels:
        context.refuse("batch norm of a flattened map is not supported; put it before the flatten")
    defaults = (1.0, 0.0, 0.0, 1.0)
    names = ("weight", "bias", "running mean", "running variance")
    gamma, beta, mean, variance = (
        context.vector(value, default, channels, name)
        for value, default, name in zip(node.args[1:5], defaults, names, strict=True)
    )
    variance = variance + argument(node, 7 if plain else 6)
    if variance.min() <= 0:
        raise InputError(f"{context.where}: its running variance must be positive")
    scale = gamma / np.sqrt(variance)
    op = Affine(scale, beta - mean * scale, beta, np.abs(gamma))
    return context.add(op, (source.name,), source.shape, "batch_norm")


def training_batch_norm(context: Context, node: fx.Node) -> str:
    """Refuse a batch norm of a program that was exported in training mode."""
    return context.refuse("batch norm must use its running statistics; export in evaluation mode")


def per_channel(context: Context, value: Any, source: Node, data: fx.Node) -> np.ndarray:
    """Return a constant operand, a scalar or one value per channel, as (c,)."""
    array = context.constant(value, "constant operand")
    dims = len(full_shape(data))
    full = array.reshape((1,) * (dims - array.ndim) + array.shape)
    channels = source.shape[2]
    shared = full.size == 1
    one_each = full.size == channels == full.shape[1] and value_shape(data)[0] == channels
    if full.ndim > dims or not (shared or one_each):
        context.refuse(
            "its constant operand must be a scalar or one value per channel, not of shape "
            f"{array.shape}"
        )
    return np.broadcast_to(full.reshape(-1), (channels,)).copy()


def arithmetic(context: Context, node: fx.Node) -> str:
    """Translate the arithmetic with a constant, and the sum of two tensors."""
    kind = base_name(node)
    left, right = argument(node, 0), argument(node, 1, "other")
    alpha = float(argument(node, 9, "alpha", 1))
    dynamic = [isinstance(side, fx.Node) and side in context.values for side in (left, right)]
    if all(dynamic):
        if kind != "add" or alpha != 1:
            context.refuse("of two computed tensors only the plain sum is supported")
        return add_tensors(context, left, right)
    reverse = (kind == "rsub") != dynamic[1]
    data, other = (right, left) if dynamic[1] else (left, right)
    source = context.source(data)
    value = per_channel(context, other, source, data)
    if math.prod(value_shape(node)) != math.prod(source.shape):
        context.refuse("its constant operand must not change the tensor's shape")
    ones, zeros = np.ones_like(value), np.zeros_like(value)
    if kind == "mul":
        scale, shift = value, zeros
    elif kind == "div":
        if reverse or not value.all() or node.kwargs.get("rounding_mode"):
            context.refuse("division must be by a constant that is not zero")
        scale, shift = 1 / value, zeros
    elif kind == "add":
        scale, shift = (alpha * ones, value) if reverse else (ones, alpha * value)
    else:
        scale, shift = (-alpha * ones, value) if reverse else (ones, -alpha * value)
    return context.add(Affine(scale, shift), (source.name,), source.shape, kind)


def add_tensors(context: Context, left: fx.Node, right: fx.Node) -> str:
    """Add the sum of two computed tensors of one shape."""
    first, second = context.source(left), context.source(right)
    if first.shape != second.shape or value_shape(left) != value_shape(right):
        context.refuse(
            f"both tensors of a sum must have one shape, not {value_shape(left)} and "
            f"{value_shape(right)}"
        )
    return context.add(Add(), (first.name, second.name), first.shape, "add")


def pointwise(context: Context, node: fx.Node) -> str:
    """Translate a pointwise function."""
    source = context.source(argument(node, 0))
    kind = base_name(node)
    names = {"hardtanh": ("min_val", "max_val"), "clamp": ("min", "max")}.get(kind, ())
    options: dict[str, Any] = dict(node.kwargs)
    parameters: list[Any] = list(node.args[1:])
    if any(name in options for name in names):
        parameters += [options.pop(name, None) for name in names[len(parameters) :]]
    if any(isinstance(value, fx.Node) for value in (*parameters, *options.values())):
        context.refuse("its parameters must be numbers")
    function = make_function(kind, *parameters, **options)
    if function is None:
        context.refuse("this form of the function is not supported")
    return context.add(function, (source.name,), source.shape, kind)


def max_pool(context: Context, node: fx.Node) -> str:
    """Translate ``max_pool2d``."""
    source = context.source(argument(node, 0))
    kernel = pair(argument(node, 1))
    stride = pair(argument(node, 2, "stride") or kernel)
    padding = pair(argument(node, 3, "padding", 0))
    dilation = pair(argument(node, 4, "dilation", 1))
    if argument(node, 5, "ceil_mode", False):
        context.refuse("ceil_mode must be False; pad the map instead")
    op = MaxPool(kernel, stride, symmetric(padding), dilation)
    return context.add(op, (source.name,), op.shape(source.shape), "max_pool2d")


def average_pool(context: Context, node: fx.Node) -> str:
    """Translate ``avg_pool2d`` with a constant divisor."""
    kernel = pair(argument(node, 1))
    stride = pair(argument(node, 2, "stride") or kernel)
    padding = pair(argument(node, 3, "padding", 0))
    if argument(node, 4, "ceil_mode", False):
        context.refuse("ceil_mode must be False; its divisor varies")
    if any(padding) and not argument(node, 5, "count_include_pad", True):
        context.refuse("count_include_pad must be True with padding; its divisor varies")
    divisor = argument(node, 6, "divisor_override") or kernel[0] * kernel[1]
    if divisor < 0:
        context.refuse(f"divisor_override must be positive, not {divisor}")
    op = AveragePool(kernel, stride, symmetric(padding))
    return add_pool(context, context.source(argument(node, 0)), op, divisor)


def add_pool(context: Context, source: Node, op: AveragePool, divisor: int) -> str:
    """Add an average pool."""
    shape = op.shape(source.shape)
    return context.add(Pool(op, 1.0 / divisor), (source.name,), shape, "avg_pool2d")


def adaptive_pool(context: Context, node: fx.Node) -> str:
    """Translate ``adaptive_avg_pool2d`` to a size that divides the map."""
    source = context.source(argument(node, 0))
    height, width, _ = source.shape
    rows, columns = value_shape(node)[1:]
    if height % rows or width % columns:
        context.refuse(
            f"its output size {(rows, columns)} must divide the map {(height, width)}; "
            "its divisor varies"
        )
    window = (height // rows, width // columns)
    return add_pool(context, source, AveragePool(window, window), window[0] * window[1])


def mean(context: Context, node: fx.Node) -> str:
    """Translate the mean over height and width."""
    source = context.source(argument(node, 0))
    axes = argument(node, 1, "dim")
    if not is_map(argument(node, 0)) or axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        context.refuse(f"mean must be over height and width, dimensions (2, 3), not {axes}")
    window = source.shape[:2]
    return add_pool(context, source, AveragePool(window, window), window[0] * window[1])


def zero_pad(context: Context, node: fx.Node) -> str:
    """Translate constant padding with zeros: of the map, or of channels on both sides."""
    source = context.source(argument(node, 0))
    amounts = [int(value) for value in argument(node, 1)]
    if base_name(node) == "constant_pad_nd":
        mode, value = "constant", argument(node, 2, "value", 0)
    else:
        mode, value = argument(node, 2, "mode", "constant"), argument(node, 3, "value") or 0
    if mode != "constant" or value != 0 or not is_map(argument(node, 0)):
        context.refuse("padding must be of a feature map with the constant 0")
    if min(amounts) < 0:
        context.refuse(f"padding must not be negative, not {amounts}")
    left, right, top, bottom, front, back, *batch = amounts + [0] * (8 - len(amounts))
    if any(batch):
        context.refuse("the batch dimension cannot be padded")
    height, width, channels = source.shape
    name = source.name
    if front or back:
        channels += front + back
        name = context.add(Select(channels, front), (name,), (height, width, channels), "pad")
    if top or bottom or left or right:
        shape = (height + top + bottom, width + left + right, channels)
        name = context.add(Pad((top, bottom, left, right)), (name,), shape, "pad")
    return name


def strided_slice(context: Context, node: fx.Node) -> str:
    """Translate ``x[:, :, ::s, ::s]``: a slice from the start to the end with a step."""
    source = context.source(argument(node, 0))
    axis, start, end = (argument(node, i, n) for i, n in ((1, "dim"), (2, "start"), (3, "end")))
    step, axis = argument(node, 4, "step", 1), axis or 0
    size = full_shape(argument(node, 0))[axis]
    whole = not start and (end is None or end == 2**63 - 1 or end >= size)
    if whole and step == 1:
        return source.name
    if not whole or not is_map(argument(node, 0)) or axis % 4 not in (2, 3):
        context.refuse("a slice must take every n-th row or column of the whole map")
    op = Select(source.shape[2], 0, (step, 1) if axis % 4 == 2 else (1, step))
    return context.add(op, (source.name,), op.shape(source.shape), "slice")


def reshape(context: Context, node: fx.Node) -> str:
    """Let a flatten, or a reshape that keeps the order of values, be the tensor that it reads."""
    source = context.source(argument(node, 0))
    height, width, channels = source.shape
    same_batch = str(full_shape(node)[0]) == str(full_shape(argument(node, 0))[0])
    allowed = ((height * width * channels,), (channels, height, width))
    if not same_batch or value_shape(node) not in allowed:
        context.refuse(
            f"a reshape must flatten the whole map to (batch, features), not "
            f"give {full_shape(node)}"
        )
    return source.name


def identity(context: Context, node: fx.Node) -> str:
    """Let a call that changes no value be the tensor that it reads."""
    return context.source(argument(node, 0)).name


def dropout(context: Context, node: fx.Node) -> str:
    """Let a dropout in evaluation mode be the tensor that it reads."""
    if argument(node, 2, "train") and argument(node, 1, "p"):
        context.refuse("dropout must be in evaluation mode; export the module after eval()")
    return identity(context, node)


def cast(context: Context, node: fx.Node) -> str:
    """Let a cast to the type that a tensor has be the tensor."""
    if node.meta["val"].dtype != argument(node, 0).meta["val"].dtype:
        context.refuse(f"a cast to {node.meta['val'].dtype} is not supported")
    return identity(context, node)


def first_result(context: Context, node: fx.Node) -> str:
    """Take the value of an operator that also returns statistics or indices."""
    if argument(node, 1) != 0:
        context.refuse("only the first result of an operator is supported")
    return identity(context, node)


HANDLERS: dict[str, Callable[[Context, fx.Node], str]] = {
    "conv2d": convolution,
    "convolution": convolution,
    "linear": linear,
    "addmm": addmm,
    "batch_norm": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "_native_batch_norm_legit_functional": training_batch_norm,
    **dict.fromkeys(("add", "sub", "rsub", "mul", "div"), arithmetic),
    "max_pool2d": max_pool,
    "max_pool2d_with_indices": max_pool,
    "avg_pool2d": average_pool,
    "adaptive_avg_pool2d": adaptive_pool,
    "mean": mean,
    "pad": zero_pad,
    "constant_pad_nd": zero_pad,
    "slice": strided_slice,
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze"), reshape),
    "dropout": dropout,
    "feature_dropout": dropout,
    **dict.fromkeys(("clone", "contiguous", "detach", "alias"), identity),
    "to": cast,
    "getitem": first_result,
    **dict.fromkeys(
        (*FUNCTIONS, "hardtanh", "clamp", "clamp_min", "clamp_max", "gelu", "leaky_relu"), pointwise
    ),
}
"""Handlers by the operator's name without namespace, overload and in-place mark."""

IGNORED = {"sym_size", "_assert_tensor_metadata"}
"""Operators without a value that matters: shapes and checks of the capture."""

SUPPORTED = sorted(name for name in HANDLERS if name != "getitem" and not name.startswith("_"))
"""Names of the supported operators, for messages."""
