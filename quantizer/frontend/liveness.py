"""Rows that nothing reads: what works on each row alone makes only those that are read, such as the
class token behind the last attention."""

from dataclasses import replace

from nupes.model.operators import Matmul, Select, SubtractMax, WeightedMean
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.graph import (
    Add,
    Affine,
    Concat,
    Constant,
    Convolution,
    Graph,
    Node,
    Normalize,
    Product,
)

__all__ = ["keep_live_rows"]

FOLLOWERS = (Add, Affine, Function)
"""What may be part of the layer of an operand that nothing else reads."""

EACH = (*FOLLOWERS, Concat, Normalize, Product, SubtractMax)
"""Operators of which each row is made of the same row of every operand."""

FIRST = (Matmul, WeightedMean)
"""Those that make it of the same row of the first operand, and of all of the second one."""


def keep_live_rows(graph: Graph) -> None:
    """Let every node that can have only the rows from the first to the last one that is read."""
    live = live_rows(graph)
    if all(rows == everything(graph.nodes[name]) for name, rows in live.items()):
        return
    Cutter(graph, live).run()


def everything(node: Node) -> range:
    """Return all rows of a node."""
    return range(node.shape[0])


def live_rows(graph: Graph) -> dict[str, range]:
    """Return the rows that each node must have: all, if it cannot have less."""
    live: dict[str, range] = {name: everything(graph.nodes[name]) for name, _ in graph.outputs}
    able = able_nodes(graph)
    for name, node in reversed(graph.nodes.items()):
        if name not in live or name not in able:
            live[name] = everything(node)
        wanted = operand_rows(graph, node, live[name])
        for index, source in enumerate(node.inputs):
            rows = everything(graph.nodes[source]) if wanted is None else wanted[index]
            known = live.get(source, rows)
            live[source] = range(min(known.start, rows.start), max(known.stop, rows.stop))
    return live


def able_nodes(graph: Graph) -> set[str]:
    """Return the nodes that can have some rows alone: what a layer begins with, and what only
    follows such a node in its layer, so that no layer becomes two."""
    counts, found = graph.consumers(), set[str]()
    for name, node in graph.nodes.items():
        if operand_rows(graph, node, everything(node)) is None:
            continue
        computed = [s for s in node.inputs if not isinstance(graph.nodes[s].op, Constant)]
        alone = [s for s in computed if counts[s] == 1]
        fitting = True
        if isinstance(node.op, Concat):
            fitting = found.issuperset(node.inputs)
        elif isinstance(node.op, FOLLOWERS) and alone:
            fitting = not found.isdisjoint(alone)
        if fitting:
            found.add(name)
    return found


def operand_rows(graph: Graph, node: Node, rows: range) -> list[range] | None:
    """Return which rows of its operands some rows of a node are made of, ``None`` if it cannot have
    less than all."""
    op, sources = node.op, [graph.nodes[name] for name in node.inputs]
    if isinstance(op, EACH):  # what has one row may serve all
        return [rows if s.shape[0] == node.shape[0] else everything(s) for s in sources]
    if isinstance(op, FIRST):
        return [rows, everything(sources[1])]
    if isinstance(op, Select) and op.stride[0] == 1 and max(op.padding[:2]) <= 0:
        return [range(rows.start - op.padding[0], rows.stop - op.padding[0])]
    if isinstance(op, Convolution):
        small = op.weight.shape[2:] == (1, 1) and op.stride[0] == op.stretch[0] == 1
        return [rows] if small and not any(op.padding[:2]) else None
    return [] if isinstance(op, Constant) else None


class Cutter:
    """Makes the nodes of a graph anew, with the rows that are ``live``. A selection that has
    nothing left to do is what it selects from: ``stands`` says what it is."""

    def __init__(self, graph: Graph, live: dict[str, range]) -> None:
        self.graph, self.live = graph, live
        self.before = dict(graph.nodes)
        self.outputs = {name for name, _ in graph.outputs}
        self.stands: dict[str, str] = {}

    def run(self) -> None:
        """Replace the graph's nodes."""
        before = Graph(self.before)
        self.graph.nodes = {}
        for name, node in self.before.items():
            rows = self.live[name]
            wanted = operand_rows(before, node, rows)
            if wanted is None:
                wanted = [everything(self.before[source]) for source in node.inputs]
            op, (height, width, channels) = node.op, node.shape
            if isinstance(op, Constant):
                op = Constant(op.values[rows.start : rows.stop])
            if isinstance(op, Select) and op.stride[0] == 1 and max(op.padding[:2]) <= 0:
                (source,) = node.inputs
                sides = *self.sides(source, wanted[0]), *op.padding[2:]
                op, sources = replace(op, padding=sides), (self.stands.get(source, source),)
                whole = op == Select.every(self.before[source].shape[2])
                if whole and name not in self.outputs:
                    self.stands[name] = sources[0]
                    continue
            else:
                pairs = zip(node.inputs, wanted, strict=True)
                sources = tuple(self.cut(source, part) for source, part in pairs)
            if len(rows) < height:
                self.graph.cuts[name] = rows
            self.graph.nodes[name] = Node(name, op, sources, (len(rows), width, channels))

    def sides(self, source: str, wanted: range) -> tuple[int, int]:
        """Return the padding, negative, that leaves the wanted rows of a node."""
        made = self.live[source]
        return made.start - wanted.start, wanted.stop - made.stop

    def cut(self, source: str, wanted: range) -> str:
        """Return the node that has the wanted rows of another one."""
        origin, sides = self.stands.get(source, source), self.sides(source, wanted)
        if not any(sides):
            return origin
        name = f"{source}.rows_{wanted.start}_{wanted.stop}"
        _, width, channels = self.before[source].shape
        op = replace(Select.every(channels), padding=(*sides, 0, 0))
        self.graph.nodes[name] = Node(name, op, (origin,), (len(wanted), width, channels))
        return name
