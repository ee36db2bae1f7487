"""Sums of products, such as rotary position embeddings, however they are written: one operator,
which selects the channels that each product reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nupes.model.operators import Select, SumOfProducts
from nupes.quantizer.frontend.graph import Add, Affine, Concat, Constant, Graph, Node, Product
from nupes.quantizer.frontend.multiples import changes_signs, origin, takes_channels

__all__ = ["join_products"]


@dataclass(frozen=True, eq=False)
class Term:
    """Channels of a factor, by number, times a whole: another node, by name, or a table (h, w, n).
    A product of nodes is subtracted if it is ``negative``; a table has signs of its own."""

    factor: str
    channels: np.ndarray
    whole: str | np.ndarray
    negative: bool = False

    def times(self, factors: np.ndarray) -> "Term | None":
        """Return the term times a table, or numbers per channel, ``None`` where there is no such
        term."""
        if isinstance(self.whole, str):
            return None
        return replace(self, whole=self.whole * factors)

    def signed(self, signs: np.ndarray) -> "Term | None":
        """Return the term times 1 or -1 per channel, ``None`` where there is no such term."""
        if isinstance(self.whole, np.ndarray):
            return self.times(signs)
        if (signs != signs[0]).any():
            return None
        return replace(self, negative=self.negative != (signs[0] < 0))

    def of(self, order: np.ndarray) -> "Term | None":
        """Return some of the channels, by number, ``None`` where there is no such term."""
        if isinstance(self.whole, str):
            return None
        return replace(self, channels=self.channels[order], whole=self.whole[..., order])


Terms = list[Term]


def join_products(graph: Graph) -> None:
    """Let every sum of products that nothing else reads, with the selections and the changes of
    sign before and behind them, be one operator."""
    found, inside = find_terms(graph)
    sums = {name: terms for name, terms in found.items() if len(terms) > 1 and name not in inside}
    made = Sums(graph)
    for name, node in graph.nodes.items():
        made.visit(node, sums.get(name))
    graph.nodes = made.nodes
    graph.prune()


def find_terms(graph: Graph) -> tuple[dict[str, Terms], set[str]]:
    """Return the terms of each node that is a sum of products, or one product, and the nodes whose
    terms are part of those of another one."""
    counts, found, inside = graph.consumers(), dict[str, Terms](), set[str]()
    for name, node in graph.nodes.items():
        parts = [found.get(source, []) if counts[source] == 1 else [] for source in node.inputs]
        terms = combined(graph.nodes, node, parts)
        if terms and None not in terms:
            found[name] = [term for term in terms if term is not None]
            inside.update(node.inputs)
        elif isinstance(node.op, Product):
            found[name] = [term_of(graph.nodes, node)]
    return found, inside


def term_of(nodes: Mapping[str, Node], node: Node) -> Term:
    """Return a product as a term: of a node and a table if one operand is a constant."""
    factor, whole = (nodes[name] for name in node.inputs)
    if isinstance(whole.op, Constant):
        factor, whole = whole, factor
    if isinstance(factor.op, Constant):
        return taken(nodes, whole, np.broadcast_to(factor.op.values, node.shape), node.shape[2])
    return taken(nodes, factor, whole.name, node.shape[2])


def taken(nodes: Mapping[str, Node], factor: Node, whole: str | np.ndarray, count: int) -> Term:
    """Return the term of a factor, one channel of which serves all ``count``, as one of the node
    that its channels are selected from."""
    found = origin(nodes, factor)
    every = np.arange(count) if factor.shape[2] == count else np.zeros(count, int)
    selected = found.of(every)
    term = Term(found.source.name, selected.channels, whole).signed(selected.factors)
    return term or Term(factor.name, every, whole)


def combined(
    nodes: Mapping[str, Node], node: Node, parts: Sequence[Terms]
) -> Sequence[Term | None]:
    """Return the terms of a node from those of its operands, none or ``None`` for one that is no
    such sum."""
    op = node.op
    if isinstance(op, Concat) and any(parts):
        return beside(nodes, node, parts)
    if isinstance(op, Product):
        for source, terms in zip(node.inputs[::-1], parts, strict=True):
            factor = nodes[source].op
            if isinstance(factor, Constant):
                return [term.times(np.broadcast_to(factor.values, node.shape)) for term in terms]
    if not all(parts):
        return []
    if isinstance(op, Add):
        return [*parts[0], *parts[1]]
    if isinstance(op, Affine) and changes_signs(op, node.shape[2]):
        return [term.signed(op.scale) for term in parts[0]]
    if isinstance(op, Select) and takes_channels(op):
        return [term.of(np.array(op.channels)) for term in parts[0]]
    return []


def beside(nodes: Mapping[str, Node], node: Node, parts: Sequence[Terms]) -> Terms:
    """Return the terms of a concatenation of sums of products of one node with tables; channels of
    the node itself, which are not rotated, are products with 1."""
    filled = list[Terms]()
    for name, part in zip(node.inputs, parts, strict=True):
        shape = nodes[name].shape
        filled.append([*part] or [taken(nodes, nodes[name], np.ones(shape), shape[2])])
    terms = [term for part in filled for term in part]
    if len({term.factor for term in terms}) > 1 or any(isinstance(t.whole, str) for t in terms):
        return []
    most = max(map(len, filled))
    for part in filled:
        nothing = replace(part[0], whole=np.zeros_like(part[0].whole))
        part += [nothing] * (most - len(part))
    return [
        Term(
            terms[0].factor,
            np.concatenate([term.channels for term in slot]),
            np.concatenate([np.asarray(term.whole) for term in slot], axis=2),
        )
        for slot in zip(*filled, strict=True)
    ]


class Sums:
    """The nodes of a graph in the making, in which sums of products are operators."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, dict[str, Node]()
        self.tables: dict[tuple[tuple[int, ...], bytes], str] = {}
        self.changed: dict[str, Node] = {}

    def visit(self, node: Node, terms: Terms | None) -> None:
        """Add a node, or what takes its place if it is a sum of products."""
        if terms is None:
            self.nodes[node.name] = self.changed.get(node.name, node)
            return
        order, name = self.reading_order(node), node.name
        moved = [] if order is None else [term.of(order) for term in terms]
        if order is not None and None not in moved:
            terms = [term for term in moved if term is not None]
            name = self.free(f"{name}.channels")
            self.move_readers(node, order, name)
        op = SumOfProducts(tuple(tuple(term.channels.tolist()) for term in terms))
        inputs = [part for term in terms for part in self.operands(term)]
        self.nodes[name] = Node(name, op, tuple(inputs), (*node.shape[:2], len(op.channels[0])))

    def reading_order(self, node: Node) -> np.ndarray | None:
        """Return the channels of a node as its readers read them, one reader after another, where
        all of them select channels, no two the same ones: in this order they are ranges."""
        readers = [other for other in self.graph.nodes.values() if node.name in other.inputs]
        if node.name in dict(self.graph.outputs) or not all(takes_channels(r.op) for r in readers):
            return None
        lists = dict.fromkeys(selected(reader) for reader in readers)
        order = [channel for channels in lists for channel in channels]
        return np.array(order) if len(set(order)) == len(order) else None

    def move_readers(self, node: Node, order: np.ndarray, name: str) -> None:
        """Let the readers of a node select the same channels of one that has them in an order."""
        place = {channel: index for index, channel in enumerate(order.tolist())}
        for reader in self.graph.nodes.values():
            if node.name in reader.inputs:
                op = Select.of(place[channel] for channel in selected(reader))
                self.changed[reader.name] = Node(reader.name, op, (name,), reader.shape)

    def operands(self, term: Term) -> tuple[str, str]:
        """Return the nodes that are a term's factor and whole, added where there are none."""
        factor, whole = term.factor, term.whole
        if isinstance(whole, np.ndarray):
            key = whole.shape, np.ascontiguousarray(whole).tobytes()
            if key not in self.tables:
                self.tables[key] = self.free("table")
                height, width, channels = whole.shape
                shape = height, width, channels
                self.nodes[self.tables[key]] = Node(self.tables[key], Constant(whole), (), shape)
            whole = self.tables[key]
        if term.negative:
            factor = self.negative(factor)
        return factor, whole

    def negative(self, factor: str) -> str:
        """Return a node that is minus another one, which is added."""
        shape = self.graph.nodes[factor].shape
        op = Affine(-np.ones(shape[2]), np.zeros(shape[2]))
        name = self.free(f"{factor}.negative")
        self.nodes[name] = Node(name, op, (factor,), shape)
        return name

    def free(self, base: str) -> str:
        """Return a name that no node has."""
        name, count = base, 1
        while name in self.graph.nodes or name in self.nodes:
            name, count = f"{base}_{count}", count + 1
        return name


def selected(reader: Node) -> tuple[int, ...]:
    """Return the channels that a selection selects."""
    assert isinstance(reader.op, Select)
    return reader.op.channels
