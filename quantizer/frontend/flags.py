"""Which tokens count, as an input (b, tokens) of ones and zeros says it, or as the ids do that a
module is given: an id such as that of padding hides its token.

What a module makes of either is found by trying inputs, whatever the steps in between. Of ids every
one of the vocabulary is tried: the ones and zeros that they stand for are a table of their own.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx

from nupes.quantizer.frontend.evaluation import evaluate, source_of

__all__ = ["FAR", "Flags", "Inputs", "add_sum", "hold"]

FAR = 1e9
"""How far a key that does not count lies below one that does."""

ATEN = torch.ops.aten


class Flags(NamedTuple):
    """An input (b, tokens) that says which tokens count: by ones and zeros, or by ids, of which
    those ``shown`` (entries,) count."""

    source: fx.Node
    shown: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Batch and tokens."""
        batch, tokens = self.source.meta["val"].shape
        return batch, tokens

    def values(self, hidden: Tensor) -> Tensor:
        """Return what hides such tokens, bool (b, tokens)."""
        dtype = self.source.meta["val"].dtype
        if self.shown is None:
            return (~hidden).to(dtype)
        generator = torch.Generator().manual_seed(0)
        some, others = (
            ids[torch.randint(0, len(ids), hidden.shape, generator=generator)]
            for ids in (self.shown.nonzero()[:, 0], (~self.shown).nonzero()[:, 0])
        )
        return torch.where(hidden, others, some).to(dtype)


@torch.library.custom_op("nupes::shown", mutates_args=())
def shown(ids: Tensor, table: Tensor) -> Tensor:
    """Return ones and zeros (b, tokens), of each id what a table (entries,) says."""
    return table[ids]


SHOWN = torch.ops.nupes.shown.default


class Inputs:
    """The inputs of a graph, those that are ids with how many there are, and what of them says
    which tokens count: ``flags`` are ones and zeros, ``tables`` what is looked up of ids."""

    def __init__(
        self,
        graph: fx.Graph,
        nodes: Iterable[fx.Node],
        words: Mapping[fx.Node, int],
        constants: dict[fx.Node, Tensor],
    ) -> None:
        self.graph, self.nodes, self.words, self.constants = graph, list(nodes), words, constants
        self.flags: set[fx.Node] = set()
        self.tables: dict[fx.Node, Flags] = {}

    def find(self, node: fx.Node, shows: Callable[[Tensor], Tensor]) -> Flags | None:
        """Return which input may say what a node hides, ``None`` if there is none; ``shows`` are
        the tokens (b, tokens) that values of the node show."""
        source = source_of(node, self.nodes)
        value = None if source is None else source.meta["val"]
        if source is None or value is None or value.ndim != 2:
            return None
        if not all(isinstance(size, int) for size in value.shape):
            return None
        if source not in self.words:
            return Flags(source)
        table = self.table(node, source, shows)
        return None if table is None else Flags(source, table)

    def table(
        self, node: fx.Node, source: fx.Node, shows: Callable[[Tensor], Tensor]
    ) -> Tensor | None:
        """Return which ids a node shows, bool (entries,); ``None`` if it shows all or none."""
        value, count = source.meta["val"], self.words[source]
        batches = -(-count // value.numel())
        ids = torch.arange(batches * value.numel()).remainder(count).to(value.dtype)
        found = []
        for part in ids.reshape(batches, *value.shape):
            try:
                some = shows(evaluate(node, source, part, self.constants))
                found.append(some.expand(value.shape).flatten())
            except (IndexError, RuntimeError):  # of other shapes
                return None
        table = torch.cat(found)[:count]
        return None if bool(table.all()) or not bool(table.any()) else table

    def enter(self, found: Flags) -> fx.Node:
        """Return the node of ones and zeros (b, tokens): the input itself, or what is looked up."""
        if found.shown is None:
            self.flags.add(found.source)
            return found.source
        for node, other in self.tables.items():
            if other.source is found.source and torch.equal(other.shown, found.shown):  # type: ignore[arg-type]
                return node
        table = hold(self.graph, found.shown, self.constants)
        first = next(node for node in self.graph.nodes if node.op != "placeholder")
        with self.graph.inserting_before(first):
            made = self.graph.call_function(SHOWN, (found.source, table))
        made.meta = dict(found.source.meta)
        self.tables[made] = found
        return made


def add_sum(graph: fx.Graph, source: fx.Node) -> fx.Node:
    """Add ``(source - 1) * FAR`` as (b, 1, 1, keys)."""
    value = source.meta["val"]
    made = source
    for target, number in ((ATEN.sub.Tensor, 1), (ATEN.mul.Tensor, FAR)):
        made = graph.call_function(target, (made, number))
        value = target(value, number)
        made.meta = {**source.meta, "val": value}
    shape = [value.shape[0], 1, 1, value.shape[1]]
    made = graph.call_function(ATEN.reshape.default, (made, shape))
    made.meta = {**source.meta, "val": value.reshape(shape)}
    return made


def hold(graph: fx.Graph, values: Tensor, constants: dict[fx.Node, Tensor]) -> fx.Node:
    """Return a new placeholder that holds a constant."""
    with graph.inserting_before(next(iter(graph.nodes))):
        node = graph.placeholder("bias")
    node.meta["val"] = constants[node] = values
    return node
