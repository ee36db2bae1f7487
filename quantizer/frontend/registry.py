"""Which handler translates which ATen operator, and what it reads of a call.

A handler is a function ``(call, **arguments) -> name of the node that holds the value``. The names
of its parameters are those of the operator's schema (``self`` is called ``input``), so that its
signature says what it understands: any other argument must have its default.
"""

import inspect
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import fx

__all__ = [
    "HANDLERS",
    "JOINS",
    "Handler",
    "arguments",
    "base_name",
    "copy_graph",
    "handles",
    "is_call",
    "is_pointwise",
    "is_view",
    "rewrite",
    "strangers",
    "supported",
    "without_casts",
]


@dataclass(frozen=True)
class Handler:
    """A handler, the arguments that it reads and those that change no value."""

    translate: Callable[..., str]
    reads: frozenset[str]
    ignores: frozenset[str]


UNTAGGED = {
    *("absolute", "floor_divide", "hardswish", "log_sigmoid", "negative"),
    *("special_expit", "special_erf", "where"),
}
"""Pointwise operators that PyTorch does not tag as such."""

CASTS = {"to", "_to_copy", "clone", "contiguous", "detach", "alias", "lift_fresh_copy"}
"""Operators that give their operand as it is, up to its type."""

JOINS = {"cat", "concat", "concatenate"}
"""Names of the concatenation."""

COPIES = {
    *("_unsafe_view", "channel_shuffle", "native_channel_shuffle", "flip", "index", "index_select"),
    *("repeat", "repeat_interleave", "roll", "tile", "unsafe_chunk", "unsafe_split"),
    *("unsafe_split_with_sizes", "upsample_nearest1d", "_upsample_nearest_exact1d"),
    *("upsample_nearest2d", "_upsample_nearest_exact2d", "pixel_shuffle", "pixel_unshuffle"),
}
"""Operators that give values as they are, and that PyTorch does not call views."""

OTHERS = {"alias", "as_strided", "contiguous", "detach", "view_as_complex", "view_as_real"}
"""Views that give a tensor itself, and such as depend on how it lies in memory."""

HANDLERS: dict[str, Handler] = {}
"""Handlers by the operator's name without namespace, overload and in-place mark."""


def handles(*names: str, ignores: Iterable[str] = ()) -> Callable[[Callable], Callable]:
    """Register a handler for operators; ``ignores`` are arguments that change no value."""

    def register(translate: Callable) -> Callable:
        reads = frozenset(list(inspect.signature(translate).parameters)[1:])
        for name in names:
            HANDLERS[name] = Handler(translate, reads, frozenset(ignores))
        return translate

    return register


def base_name(node: fx.Node) -> str:
    """Return an operator's name without its namespace, overload and in-place mark."""
    schema = getattr(node.target, "_schema", None)
    name = getattr(node.target, "__name__", "") if schema is None else schema.name.split("::")[-1]
    return name if name.startswith("_") else name.rstrip("_")


def is_pointwise(node: fx.Node) -> bool:
    """Whether an operator gives each value from the value at the same place."""
    tags = getattr(node.target, "tags", ())
    random = torch.Tag.nondeterministic_seeded in tags
    return not random and (torch.Tag.pointwise in tags or base_name(node) in UNTAGGED)


def is_view(node: fx.Node) -> bool:
    """Whether an operator gives values of its first operand as they are."""
    name, overload = base_name(node), getattr(node.target, "_overloadname", "")
    view = getattr(node.target, "is_view", False) and overload != "dtype"
    # Patches of a map, unless some are partly padding.
    patches = name == "im2col" and not any(arguments(node)["padding"])
    return name in COPIES or patches or (view and name not in OTHERS)


def is_call(value: Any, names: Collection[str]) -> TypeGuard[fx.Node]:
    """Whether a value is that of one of some operators."""
    return isinstance(value, fx.Node) and value.op == "call_function" and base_name(value) in names


def copy_graph(graph: fx.Graph, copies: dict[fx.Node, fx.Node] | None = None) -> fx.Graph:
    """Return a graph of its own, to be changed; ``copies`` gets the copy of each node."""
    copy = fx.Graph()
    copy.output(copy.graph_copy(graph, {} if copies is None else copies))
    return copy


def rewrite(
    graph: fx.Graph,
    match: Callable[[fx.Node], Any],
    insert: Callable[[fx.Graph, Any], fx.Node | None],
) -> fx.Graph:
    """Return a graph in which what ``insert`` makes of each match takes the place of its node: the
    graph itself, or a changed copy."""
    if not any(match(node) for node in graph.nodes):
        return graph
    copy = copy_graph(graph)
    for node in list(copy.nodes):
        found = match(node)
        if not found:
            continue
        with copy.inserting_before(node):
            made = insert(copy, found)
        if made is not None:
            made.meta = dict(node.meta)
            node.replace_all_uses_with(made)
            copy.erase_node(node)
    return copy


def without_casts(value: Any, also: Collection[str] = ()) -> Any:
    """Return what a value is, before its casts from other real numbers, and before operators named
    ``also``, which must give numbers as they are."""
    while is_call(value, CASTS) or (is_call(value, also) and not arguments(value).get("train")):
        before: Any = value.args[0]
        known = (item.meta.get("val") for item in (before, value))
        if not all(isinstance(item, torch.Tensor) and item.is_floating_point() for item in known):
            break
        value = before
    return value


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return every argument of a call by its name in the schema, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # a built-in function: its operands have no names
        return {"input": node.args[0], **node.kwargs}
    given = dict(zip((item.name for item in schema.arguments), node.args, strict=False))
    given.update(node.kwargs)
    return {
        "input" if item.name == "self" else item.name: given.get(item.name, default_of(item))
        for item in schema.arguments
    }


def default_of(item: torch.Argument) -> Any:
    """Return the default of a schema's argument; None where it has none."""
    return item.default_value if item.has_default_value() else None


def strangers(node: fx.Node, handler: Handler) -> dict[str, tuple[Any, Any]]:
    """Return the arguments of a call that its handler does not read and that differ from their
    default: (value, default) by name."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    values = arguments(node)
    found = {}
    for item in schema.arguments:
        name = "input" if item.name == "self" else item.name
        if name not in handler.reads | handler.ignores and values[name] != default_of(item):
            found[name] = values[name], default_of(item)
    return found


def supported() -> list[str]:
    """Return the names of the operators that have a handler of their own, for messages."""
    return sorted(name for name in HANDLERS if name != "getitem" and not name.startswith("_"))
