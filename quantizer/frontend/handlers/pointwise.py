"""Pointwise operators of one tensor: any chain of them is one function, evaluated by PyTorch.

What PyTorch tags as pointwise needs no handler of its own. An operator that reads several values
joins them if they are functions of one tensor: ``x * sigmoid(x)`` is a function of ``x``.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.functions import IDENTITY, Function, compose, scalar_affine
from nupes.quantizer.frontend.graph import Affine, Graph, Node
from nupes.quantizer.frontend.registry import base_name, handles

__all__ = [
    "add_function",
    "common_root",
    "function_of",
    "join",
    "translate_pointwise",
]


def translate_pointwise(call: Call) -> str:
    """Translate any pointwise operator of one tensor and constants."""
    computed = [value for value in call.node.all_input_nodes if call.is_computed(value)]
    root = common_root(call, computed)
    if root is None:
        call.refuse(
            "of two computed tensors only sum, difference, product, maximum and minimum are "
            "supported; a function of one tensor must have no constant per channel inside"
        )
    return join(call, root)


@handles("rrelu", ignores=("generator",))
def rrelu(call: Call, input: fx.Node, lower: float, upper: float, training: bool) -> str:
    """Translate the randomized leaky ReLU, whose slope is the middle one in evaluation."""
    if training:
        call.refuse("rrelu must be in evaluation mode; export the module after eval()")
    slope = (lower + upper) / 2
    leaky = Function(f"leaky_relu({slope!r})", lambda x: torch.where(x < 0, slope * x, x))
    return add_function(call, leaky, call.anywhere(input))


@handles("clamp", "clip")
def clamp(call: Call, input: fx.Node, min: Any = None, max: Any = None) -> str:
    """Translate bounds of values; infinite ones leave them as they are."""
    bounds = [call.values.constants.get(bound, bound) for bound in (min, max) if bound is not None]
    if all(bool(torch.as_tensor(bound).isinf().all()) for bound in bounds):
        return call.view(input, call.places(input))
    return translate_pointwise(call)


def join(call: Call, root: Node) -> str:
    """Add the function that a call is of a node on which all its operands depend."""
    return add_function(call, replay(call, root), root)


def add_function(call: Call, function: Function, source: Node) -> str:
    """Add a function of a node."""
    return call.add(function, (source.name,), source.shape, call.kind)


def function_of(node: Node) -> Function | None:
    """Return a node as a function of what it reads, or None if it is no function of one number."""
    if isinstance(node.op, Function):
        return node.op
    if isinstance(node.op, Affine) and node.op.is_uniform:
        return scalar_affine(float(node.op.scale[0]), float(node.op.shift[0]))
    return None


def chain(graph: Graph, node: Node) -> list[Node]:
    """Return a node, and the nodes before it of which it is a function."""
    nodes = [node]
    while function_of(nodes[-1]) is not None:
        nodes.append(graph.nodes[nodes[-1].inputs[0]])
    return nodes


def common_root(call: Call, operands: list[fx.Node]) -> Node | None:
    """Return the nearest node of which all operands, of one shape, are functions."""
    alike = len({str(full_shape(value)) for value in (*operands, call.node)}) == 1
    if not alike or any(call.repeated(value) for value in operands):
        return None
    nodes = call.arranged(operands) or [call.anywhere(value) for value in operands]
    first, *others = (chain(call.values.graph, node) for node in nodes)
    return next((node for node in first if all(node in other for other in others)), None)


def path(call: Call, value: fx.Node, root: Node) -> Function:
    """Return an operand as a function of the root."""
    function, node = IDENTITY, call.viewed(value)
    while node is not root:
        step = function_of(node)
        assert step is not None
        function = compose(function, step)
        node = call.values.graph.nodes[node.inputs[0]]
    return function


def replay(call: Call, root: Node) -> Function:
    """Return the function that evaluates a call with PyTorch, its constants fixed."""
    node, paths, constants = call.node, {}, {}
    for value in node.all_input_nodes:
        if call.is_computed(value):
            paths[value] = path(call, value, root)
        else:
            tensor = call.tensor(value, "constant operand")
            if tensor.numel() != 1:
                call.refuse(
                    "its constant operand must be one number for all channels, not of shape "
                    f"{tuple(tensor.shape)}: a function is one table for the whole tensor"
                )
            constants[value] = tensor.reshape(())
    target: Any = node.target

    def apply(x: Tensor) -> Tensor:
        def value_of(value: fx.Node) -> Any:
            if value in paths:
                return paths[value].apply(x)
            constant = constants[value].to(x.device)
            return constant.to(x.dtype) if x.dtype.is_floating_point else constant

        args, kwargs = map_arg((node.args, node.kwargs), value_of)
        return target(*args, **kwargs)

    texts = {value: "x" if f is IDENTITY else f.name for value, f in paths.items()}
    texts.update({value: repr(constant.item()) for value, constant in constants.items()})
    return Function(spell(node, texts, alone=len(paths) == 1), apply)


def spell(node: fx.Node, texts: dict[fx.Node, str], alone: bool) -> str:
    """Return a call in words, such as ``silu``, ``clamp(0, 6)`` or ``mul(x, sigmoid)``; an operand
    that is ``alone`` goes without saying."""
    words = [texts[item] if isinstance(item, fx.Node) else repr(item) for item in node.args]
    for name, item in node.kwargs.items():
        words.append(f"{name}={texts[item] if isinstance(item, fx.Node) else repr(item)}")
    if alone and words[0] == "x":
        words = words[1:]
    return f"{base_name(node)}({', '.join(words)})" if words else base_name(node)
