"""Calls that a rewrite inserts in a program, with their values' shapes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx
from torch.fx.node import map_arg

__all__ = ["add_call", "add_constant"]


class Held:
    """A function that gives a tensor, to be called in a program."""

    __name__ = "held"

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __call__(self, kind: str) -> Tensor:
        """Return the tensor; ``kind`` says in a printed program what it is."""
        return self.values


def add_call(like: fx.Node, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
    """Insert the call of an operator where the graph inserts; it is part of the module that made
    the call ``like``."""
    made = like.graph.call_function(target, args, kwargs)
    given, named = map_arg((args, kwargs), lambda node: node.meta["val"])
    made.meta = {**like.meta, "val": target(*given, **named)}
    return made


def add_constant(like: fx.Node, values: Tensor, kind: str) -> fx.Node:
    """Insert a tensor that the program holds, of some kind."""
    made = like.graph.call_function(Held(values), (kind,))
    made.meta = {**like.meta, "val": like.meta["val"].new_empty(values.shape, dtype=values.dtype)}
    return made
