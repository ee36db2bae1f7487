"""Chains of functions as one function, each of which an encoder can hold."""

from dataclasses import replace

from nupes.quantizer.frontend.extremes import Extremes, find_extremes
from nupes.quantizer.frontend.functions import Function, compose
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
    for node in list(graph.nodes.values()):
        if isinstance(node.op, Function):
            found = examiner.extremes(node.op)
            op = replace(node.op, low=found.low, high=found.high)
            graph.nodes[node.name] = replace(node, op=op)
