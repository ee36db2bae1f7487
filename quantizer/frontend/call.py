"""A call of the captured program on its way into the float graph: what every handler is given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import isqrt
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import fx

from nupes.model.errors import InputError, UnsupportedError
from nupes.model.operators import Mosaic, Select
from nupes.quantizer.frontend.graph import Constant, Graph, Node, Op, Places, Shape
from nupes.quantizer.frontend.pieces import find_pieces
from nupes.quantizer.frontend.registry import base_name
from nupes.quantizer.frontend.views import (
    channels_first,
    find_mosaic,
    find_selection,
    in_order,
    is_permutation,
    last_places,
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
    "map_shape",
    "module_path",
    "value_shape",
]


Order = Literal["first", "last", "any", "rather last"]
"""Where the channels of a value are to be."""


@dataclass
class Values:
    """The graph under construction, and what every torch value is in it: the name of a node, or a
    constant. ``origins`` are the calls for which nodes were added; the nodes in ``unknown`` stand
    for values of refused calls. ``moved`` are the numbers of the values of views whose first
    dimension is not the ``batch``, as many images as the program's example has."""

    graph: Graph = field(default_factory=Graph)
    names: dict[fx.Node, str] = field(default_factory=dict)
    constants: dict[fx.Node, Any] = field(default_factory=dict)
    origins: dict[str, fx.Node] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    moved: dict[fx.Node, torch.Tensor | list[torch.Tensor]] = field(default_factory=dict)
    batch: int = 1


class Call:
    """One call, the values before it, and how it adds nodes to the graph."""

    def __init__(self, node: fx.Node, values: Values) -> None:
        self.node = node
        self.values = values
        self.kind = base_name(node)
        self.path, self.is_layer = module_path(node)
        self.where = describe(node)

    @property
    def views(self) -> dict[fx.Node, Places]:
        """The places of values that are not a node in its own order."""
        return self.values.graph.views

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

    def hold(self, values: np.ndarray) -> str:
        """Return the name of a map (h, w, c) that the network holds, the one that there is or a new
        one."""
        for name, node in self.values.graph.nodes.items():
            if isinstance(node.op, Constant) and np.array_equal(node.op.values, values):
                return name
        height, width, channels = values.shape
        return self.add(Constant(values), (), (height, width, channels), self.kind, "constant")

    def is_computed(self, value: Any) -> bool:
        """Whether an operand depends on the network's input."""
        return isinstance(value, fx.Node) and value in self.values.names

    def source(self, value: Any) -> Node:
        """Return the node of an operand that has its channels in dimension 1, or is the whole map
        flattened; any other view becomes a node when it is first asked for."""
        if not self.is_first(value):
            if self.is_last(value):
                self.refuse(
                    "its operand must have its channels in dimension 1, not in the last one"
                )
            Call(value, self.values).settle("first")
        return self.viewed(value)

    def lays_last(self, value: fx.Node, strict: bool = True) -> bool:
        """Whether an operand has its channels in the last dimension; a view that has them nowhere
        becomes a node that has, one in any order if it must not be ``strict``."""
        if not (self.is_last(value) or self.is_first(value)):
            Call(value, self.values).settle("last" if strict else "rather last")
        return self.is_last(value)

    def anywhere(self, value: Any) -> Node:
        """Return the node of an operand that holds its numbers in their order, or is a map whose
        channels are in the last dimension; any other view becomes a node."""
        if value in self.views and not self.is_last(value):
            Call(value, self.values).settle()
        return self.viewed(value)

    def viewed(self, value: Any) -> Node:
        """Return the node that holds the values of an operand, in an order of its own."""
        if not self.is_computed(value):
            self.refuse("its first operand must depend on the network's input")
        return self.values.graph.nodes[self.values.names[value]]

    def is_first(self, value: fx.Node) -> bool:
        """Whether an operand has its channels in dimension 1, or is the whole map flattened."""
        shape, sizes = self.viewed(value).shape, value_shape(value)
        ordered = channels_first(sizes, shape) or len(sizes) not in (2, 3)
        return value not in self.views and ordered

    def is_last(self, value: fx.Node) -> bool:
        """Whether an operand has its channels in the last dimension."""
        if isinstance(self.views.get(value), list):
            return False
        last = last_places(value_shape(value), self.viewed(value).shape)
        return last is not None and bool((self.places(value) == last).all())

    def repeated(self, value: fx.Node) -> Node | None:
        """Return the node whose rows, columns or channels of size 1 an operand repeats, if that is
        all that it does."""
        if value not in self.views:
            return None
        node, once = self.viewed(value), without_repeats(self.places(value))
        same = channels_first(once.shape, node.shape) and in_order(once, node.shape)
        return node if same else None

    def places(self, value: fx.Node) -> np.ndarray:
        """Return where an operand's values lie in its node."""
        places = self.views.get(value)
        assert not isinstance(places, list)  # a list's only readers take one of it
        return own_places(value_shape(value)) if places is None else places

    def arranged(self, values: Sequence[fx.Node]) -> list[Node] | None:
        """Return the nodes of operands of the call's own shape that all hold their numbers in one
        order that is none of a map's, such as that of windows; the call's value then is such a view
        of a node of their shape. ``None`` for other operands."""
        first = values[0]
        if any(value_shape(value) != value_shape(self.node) for value in values):
            return None
        if self.is_last(first) or self.is_first(first):
            return None
        if not all(map(self.gathered, values)):
            return None
        nodes, places = [self.viewed(value) for value in values], self.places(first)
        alike = all(
            node.shape == nodes[0].shape and np.array_equal(self.places(value), places)
            for node, value in zip(nodes, values, strict=True)
        )
        if alike and not in_order(places, nodes[0].shape):
            self.views[self.node] = places
        return nodes if alike else None

    def gathered(self, value: fx.Node) -> bool:
        """Whether an operand is a view of all numbers of a node, each once; one of some rows,
        columns and channels of a node becomes a view of these, which are added."""
        node, places = self.viewed(value), self.views.get(value)
        if isinstance(places, list):
            return False
        places = self.places(value)
        if is_permutation(places, node.shape):
            return True
        pixels = node.shape[0] * node.shape[1]
        channels, channel = np.unique(places // pixels, return_inverse=True)
        chosen, pixel = np.unique(places % pixels, return_inverse=True)
        if len(channels) * len(chosen) != places.size:
            return False
        moved = (channel * len(chosen) + pixel).reshape(places.shape).astype(np.int32)
        rows = len(np.unique(chosen // node.shape[1]))
        grid = channels[:, None] * pixels + chosen
        op = find_selection(grid.reshape(len(channels), rows, -1), node.shape)
        if op is None or not is_permutation(moved, op.shape(node.shape)):
            return False
        name = self.add(op, (node.name,), op.shape(node.shape), self.kind.lstrip("_"), "part")
        self.values.names[value], self.views[value] = name, moved
        if in_order(moved, op.shape(node.shape)):
            del self.views[value]
        return True

    def spread_tokens(self, value: fx.Node) -> tuple[np.ndarray, np.ndarray] | None:
        """Return which pixels of its node the tokens (..., c) of an operand are, if they are all
        pixels in another order, and which channel each of its channels is; else ``None``."""
        node, places = self.viewed(value), self.views.get(value)
        pixels = node.shape[0] * node.shape[1]
        if places is None or isinstance(places, list) or places.shape[-1:] != node.shape[2:]:
            return None
        flat = places.reshape(-1, places.shape[-1])
        channels, tokens = flat[0] // pixels, places[..., 0] % pixels
        whole = (places == tokens[..., None] + channels * pixels).all()
        return (tokens, channels) if whole and is_permutation(places, node.shape) else None

    def view(self, source: fx.Node, places: Places) -> str:
        """Let the call's value be a view of an operand's node; return the node's name."""
        node = self.viewed(source)
        if not isinstance(places, list) and not places.size:
            self.refuse("it must leave some values, not none")
        if isinstance(places, list) or not in_order(places, node.shape):
            self.views[self.node] = places
        return node.name

    def settle(self, channels: Order = "any") -> None:
        """Let the call's value, a view, be a node: a selection or a mosaic of the one that it
        views, with its channels in dimension 1, in the last one, or in any order."""
        places, source = self.places(self.node), self.viewed(self.node)
        turned = np.moveaxis(places, -1, 0)
        first, last = [(places, True)], [(turned, True)]
        loose = [(places, False)]
        orders = {
            "first": first,
            "last": last,
            "any": first + last + loose,
            "rather last": last + first + loose,
        }[channels]
        sequence = places.ndim > 1
        for find, (ordered, own) in product((find_selection, find_mosaic, find_pieces), orders):
            for shape in map_shapes(self.node, ordered.shape, source.shape):
                if own and sequence and shape[0] != len(ordered):
                    continue  # these are channels of other maps
                op = find(ordered.reshape(shape), source.shape)
                if op is not None:
                    self.become(op, source, last=ordered is turned)
                    return
        self.refuse(
            "it must select whole channels, rows and columns, or flatten the whole map; move "
            "single values on the host"
        )

    def become(self, op: Select | Mosaic, source: Node, last: bool) -> None:
        """Let the call's value be a new node, with its channels first or last."""
        values, shape = self.values, op.shape(source.shape)
        if values.graph.calls.get(source.name) is self.node:  # its places are those of the new one
            del values.graph.calls[source.name]
        name = self.add(op, (source.name,), shape, self.kind.lstrip("_"))
        values.names[self.node], values.graph.calls[name] = name, self.node
        self.views.pop(self.node, None)
        if last:
            self.lay_last()

    def lay_last(self) -> None:
        """Let the call's value have its node's channels in the last dimension, if it can."""
        places = last_places(value_shape(self.node), self.viewed(self.node).shape)
        if places is not None:
            self.view(self.node, places)

    def follow(self) -> None:
        """Let the call's value, a new node, have its channels in the last dimension if its operands
        have; refuse operands of both kinds."""
        if self.node in self.views:
            return
        operands = [value for value in self.node.all_input_nodes if self.is_computed(value)]
        last = [value for value in operands if self.is_last(value)]
        mixed = len(last) < len(operands)
        if all(map(self.is_first, last)) or (mixed and self.kind in ("matmul", "bmm")):
            return  # a product of matrices is laid by its handler
        if mixed:
            self.refuse(
                "its operands must all have their channels in dimension 1, or in the last one"
            )
        self.lay_last()

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


def map_shapes(node: fx.Node, sizes: tuple[int, ...], shape: Shape) -> list[tuple[int, int, int]]:
    """Return the shapes (c, h, w) that a view, of sizes (c, h, w), (c, t) or others, of a map
    (h, w, c) may have as a map: its own, or else those of the map, its square patches or what it
    flattens, of a line and of one pixel."""
    if len(sizes) == 3:
        return [(sizes[0], sizes[1], sizes[2])]
    count = int(np.prod(sizes, dtype=int))
    found, maps = [(count // (shape[0] * shape[1]), *shape[:2])], []
    while node.op == "call_function" and node.all_input_nodes:
        node = node.all_input_nodes[0]
        if is_map(node):
            channels, height, width = value_shape(node)
            maps.append((channels, height, width))
    if len(sizes) > 1:
        pixels = count // sizes[0]
        patches = max(1, shape[0] // max(1, isqrt(shape[0] * shape[1] // pixels)))
        for rows in (pixels, 1, shape[0], patches, *(height for _, height, _ in maps)):
            found.append((sizes[0], rows, pixels // rows))
    found += [(count, 1, 1), *maps]
    return [sizes for sizes in found if int(np.prod(sizes)) == count]


def map_shape(shape: tuple[int, ...], last: bool) -> Shape:
    """Return the map (h, w, c) of a value (c, h, w), (c, w), (c,) or, with its channels in the last
    dimension, (h, w, c), (h, c)."""
    if last:
        height, *width, channels = shape
        return height, *(width or [1]), channels  # type: ignore[return-value]
    channels, *sizes = shape
    height, width = [1] * (2 - len(sizes)) + sizes
    return height, width, channels


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
