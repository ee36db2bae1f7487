"""Calls that a rewrite inserts in a program, with their values' shapes."""

from collections.abc import Callable
from typing import Any

from torch import fx
from torch.fx.node import map_arg

__all__ = ["add_call"]


def add_call(like: fx.Node, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
    """Insert the call of an operator where the graph inserts; it is part of the module that made
    the call ``like``."""
    made = like.graph.call_function(target, args, kwargs)
    given, named = map_arg((args, kwargs), lambda node: node.meta["val"])
    made.meta = {**like.meta, "val": target(*given, **named)}
    return made
