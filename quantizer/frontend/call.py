"""A call of the captured program on its way into the float graph: what every handler is given."""

from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from torch import fx

from nupes.model.errors import InputError, UnsupportedError
from nupes.quantizer.frontend.graph import Graph, Node, Op, Shape
from nupes.quantizer.frontend.registry import base_name
from nupes.quantizer.frontend.views import (
    find_mosaic,
    find_selection,
    in_order,
    own_places,
    without_repeats,
)

__all__ = [
    "Call",
    "Values",
    "concrete",
    "describe",
    "full_shape",
    "is_known",
    "is_map",
    "module_path",
    "value_shape",
]


@dataclass
class Values:
    """The graph under construction, and what every torch value is in it: the name of a node, or a
    constant. ``views`` are the places of values that are not a node in its own order, a list for
    several tensors. ``origins`` are the calls for which nodes were added; the nodes in ``unknown``
    stand for values of refused calls."""

    graph: Graph = field(default_factory=Graph)
    names: dict[fx.Node, str] = field(default_factory=dict)
    constants: dict[fx.Node, Any] = field(default_factory=dict)
    views: dict[fx.Node, np.ndarray | list[np.ndarray]] = field(default_factory=dict)
    origins: dict[str, fx.Node] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)


class Call:
    """One call, the values before it, and how it adds nodes to the graph."""

    def __init__(self, node: fx.Node, values: Values) -> None:
        self.node = node
        self.values = values
        self.kind = base_name(node)
        self.path, self.is_layer = module_path(node)
        self.where = describe(node)

    def refuse(self, reason: str) -> NoReturn:
        """Raise ``UnsupportedError`` that names the operator and its module."""
        raise UnsupportedError(f"{self.where}: {reason}")

    def add(
        self, op: Op, inputs: tuple[str, ...], shape: Shape, operator: str, part: str = ""
    ) -> str:
        """Add a node named after its module, and the part of it that it is; return its name."""
        graph = self.values.graph
        base = self.path if self.is_layer and self.path else f"{self.path}.{operator}".lstrip(".")
        base = f"{base}.{part}" if part else base
        name, count = base, 1
        while name in graph.nodes:
            name, count = f"{base}_{count}", count + 1
        graph.nodes[name] = Node(name, op, inputs, shape)
        self.values.origins[name] = self.node
        return name

    def is_computed(self, value: Any) -> bool:
        """Whether an operand depends on the network's input."""
        return isinstance(value, fx.Node) and value in self.values.names

    def source(self, value: Any) -> Node:
        """Return the graph node of an operand that depends on the network's input; a view becomes a
        node when it is first asked for."""
        if value in self.values.views:
            Call(value, self.values).settle()
        return self.viewed(value)

    def viewed(self, value: Any) -> Node:
        """Return the node that holds the values of an operand, in an order of its own."""
        if not self.is_computed(value):
            self.refuse("its first operand must depend on the network's input")
        return self.values.graph.nodes[self.values.names[value]]

    def repeated(self, value: fx.Node) -> Node | None:
        """Return the node whose rows, columns or channels of size 1 an operand repeats, if that is
        all that it does."""
        if value not in self.values.views or not is_map(value):
            return None
        node = self.viewed(value)
        height, width, channels = node.shape
        once = without_repeats(self.places(value))
        same = once.shape == (channels, height, width) and in_order(once, node.shape)
        return node if same else None

    def places(self, value: fx.Node) -> np.ndarray:
        """Return where an operand's values lie in its node."""
        places = self.values.views.get(value)
        assert not isinstance(places, list)  # a list's only readers take one of it
        return own_places(value_shape(value)) if places is None else places

    def view(self, source: fx.Node, places: np.ndarray | list[np.ndarray]) -> str:
        """Let the call's value be a view of an operand's node; return the node's name."""
        name, shape = self.viewed(source).name, self.viewed(source).shape
        if not isinstance(places, list) and not places.size:
            self.refuse("it must leave some values, not none")
        moved = isinstance(places, list) or not in_order(places, shape)
        changed = is_map(self.node) and value_shape(self.node) != (shape[2], *shape[:2])
        if moved or changed:
            self.values.views[self.node] = places
        return name

    def settle(self) -> None:
        """Let the call's value, a view, be a node: a selection or a mosaic of the one that it
        views."""
        values, places, source = self.values, self.places(self.node), self.viewed(self.node)
        for shape in map_shapes(self.node, source.shape):
            grid = places.reshape(shape)
            op = find_selection(grid, source.shape) or find_mosaic(grid, source.shape)
            if op is not None:
                kind = self.kind.lstrip("_")
                name = self.add(op, (source.name,), op.shape(source.shape), kind)
                values.names[self.node], values.graph.calls[name] = name, self.node
                del values.views[self.node]
                return
        self.refuse(
            "it must select whole channels, rows and columns, or flatten the whole map; move "
            "single values on the host"
        )

    def tensor(self, value: Any, name: str) -> torch.Tensor:
        """Return a constant operand as a finite, real tensor."""
        if self.is_computed(value):
            self.refuse(f"its {name} must be constant, not computed from the input")
        constant = self.values.constants[value] if isinstance(value, fx.Node) else value
        tensor = torch.as_tensor(constant).detach()
        if tensor.is_complex():
            self.refuse(f"its {name} must be real numbers, not {tensor.dtype}")
        if not tensor.isfinite().all():
            raise InputError(f"{self.where}: its {name} must be finite, not NaN or infinite")
        return tensor

    def constant(self, value: Any, name: str) -> np.ndarray:
        """Return a constant operand as finite float64."""
        tensor = self.tensor(value, name)
        if tensor.dtype == torch.bool:
            self.refuse(f"its {name} must be real numbers, not {tensor.dtype}")
        return tensor.to(torch.float64).numpy()

    def weight(self, value: Any, name: str) -> np.ndarray:
        """Return a constant operand as the module holds it, a view if it is float."""
        tensor = self.tensor(value, name)
        exact = tensor.dtype in (torch.float32, torch.float64)
        return tensor.numpy() if exact else self.constant(value, name)

    def vector(self, value: Any, default: float, size: int, name: str) -> np.ndarray:
        """Return an optional constant operand as finite float64 (size,)."""
        if value is None:
            return np.full(size, default)
        return self.constant(value, name).reshape(size)


def full_shape(node: fx.Node) -> tuple[Any, ...]:
    """Return the shape of a call's value, of the first one where there are several."""
    value = node.meta["val"]
    return tuple((value[0] if isinstance(value, list | tuple) else value).shape)


def concrete(size: Any) -> int:
    """Return a size, for one that varies that of the program's example."""
    return int(size.node.hint if isinstance(size, torch.SymInt) else size)


def value_shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a call's value without its batch dimension; 1 for a size that depends on
    values."""
    return tuple(int(size) if is_known(size) else 1 for size in full_shape(node)[1:])


def is_known(size: Any) -> bool:
    """Whether a size depends on no value."""
    return not isinstance(size, torch.SymInt) or size.node.has_hint()


def map_shapes(node: fx.Node, shape: Shape) -> list[tuple[int, int, int]]:
    """Return the shapes (c, h, w) that a view of a map (h, w, c) may have as a map: its own, or
    where it has none those of the maps that it flattens, and of one pixel."""
    if is_map(node):
        channels, height, width = value_shape(node)
        return [(channels, height, width)]
    count = int(np.prod(value_shape(node), dtype=int))
    found = [(count // (shape[0] * shape[1]), *shape[:2]), (count, 1, 1)]
    while node.op == "call_function" and node.all_input_nodes:
        node = node.all_input_nodes[0]
        if is_map(node):
            channels, height, width = value_shape(node)
            found.append((channels, height, width))
    return [sizes for sizes in found if int(np.prod(sizes)) == count]


def is_map(node: fx.Node) -> bool:
    """Whether a torch value has the four dimensions of a feature map."""
    return len(full_shape(node)) == 4


def module_path(node: fx.Node) -> tuple[str, bool]:
    """Return the path of the module that made a call, and whether it is a layer of torch."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack:
        return "", False
    path, kind = stack[-1]
    return path, str(kind).replace("<class '", "").startswith("torch.nn.modules")


def describe(node: fx.Node) -> str:
    """Return ``operator X in module 'path'`` for messages."""
    path, _ = module_path(node)
    place = f"module {path!r}" if path else "the top module"
    return f"operator {node.target} in {place}"
