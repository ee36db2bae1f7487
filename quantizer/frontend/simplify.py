"""Chains of functions as one function, each of which an encoder can hold."""

from dataclasses import replace

import torch

from nupes.quantizer.frontend.bounds import EVERYTHING, Bounds, bounds_of
from nupes.quantizer.frontend.extremes import Extremes, find_extremes
from nupes.quantizer.frontend.functions import IDENTITY, Function, compose
from nupes.quantizer.frontend.graph import Affine, Graph, Node
from nupes.quantizer.frontend.handlers.pointwise import function_of

__all__ = ["Examiner", "join_chains"]


class Examiner:
    """Looks at functions, at each one once."""

    def __init__(self) -> None:
        self.seen: dict[str, Extremes] = {}

    def extremes(self, function: Function) -> Extremes:
        """Return where a function turns and stays."""
        if function.name not in self.seen:
            self.seen[function.name] = find_extremes(function)
        return self.seen[function.name]

    def fits(self, function: Function) -> bool:
        """Whether an encoder can be the function."""
        found = self.extremes(function)
        return found.hole is None and found.turns <= 1


def join_chains(graph: Graph, examiner: Examiner) -> None:
    """Let a function, or an affine with one scale and shift, take in the function before it that
    nothing else reads, where an encoder can be both at once."""
    counts = graph.consumers()
    for node in list(graph.nodes.values()):
        outer, before = function_of(node), graph.nodes.get(next(iter(node.inputs), ""))
        if outer is None or before is None or not isinstance(before.op, Function):
            continue
        if counts[before.name] != 1 or (isinstance(node.op, Affine) and node.op.mean is not None):
            continue
        joined = compose(outer, before.op)
        if examiner.fits(joined) or not examiner.fits(before.op):
            graph.nodes[node.name] = Node(node.name, joined, before.inputs, node.shape)
            del graph.nodes[before.name]
    bound_functions(graph, examiner)


def bound_functions(graph: Graph, examiner: Examiner) -> None:
    """Let every function know between which values it stays. One that is not defined everywhere is
    held at the ends of the values that it can be given, if it is defined there."""
    bounds: dict[str, Bounds] = {}
    for node in list(graph.nodes.values()):
        sources = [bounds[name] for name in node.inputs]
        if isinstance(node.op, Function):
            op = node.op
            if examiner.extremes(op).hole is not None:
                op = compose(op, limit(*sources[0]))
            found = examiner.extremes(op)
            node = replace(node, op=replace(op, low=found.low, high=found.high))
            graph.nodes[node.name] = node
        bounds[node.name] = bounds_of(node, *sources)


def limit(low: float, high: float) -> Function:
    """Return the function that keeps numbers between two bounds."""
    if (low, high) == EVERYTHING:
        return IDENTITY
    return Function(f"clamp({low!r}, {high!r})", lambda x: torch.clamp(x, low, high), low, high)
