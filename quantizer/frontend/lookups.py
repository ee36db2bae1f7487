"""Embeddings: what the host looks up in a table before the network runs.

A module that is given ids of tokens begins with ``embedding(table, ids)``. The network's input is
what is found there, and the table goes with the network. The rows of a second table may be
positions that are counted by which ids are no padding, as RoBERTa does: ``cumsum(ids != 1, 1) *
(ids != 1)``. In whatever steps they are counted, that it is so is found by trying ids.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from nupes.model.errors import InputError
from nupes.model.positions import Positions
from nupes.quantizer.frontend.evaluation import ancestors, evaluate, source_of
from nupes.quantizer.frontend.registry import arguments, is_call, rewrite

__all__ = ["Lookup", "find_lookups", "is_gather", "join_lookups", "leave_out_gathers", "words_of"]

TRIALS = 64
"""Batches of random ids that are tried, beside those of padding alone and of none."""

OTHERS = 1 << 12
"""Random ids are below this."""

RESHAPES = {"view", "reshape", "_unsafe_view"}

SAME = {
    *RESHAPES,
    "to",
    "_to_copy",
    "alias",
    "clone",
    "contiguous",
    "detach",
}
"""Operators that give ids as they are, if they keep their shape."""


@dataclass(frozen=True, eq=False)
class Lookup:
    """What a row of ``table`` (entries, c), or of numbers (entries,), is found by: ids, the
    module's input ``source``, or their ``positions``."""

    source: fx.Node
    table: Tensor
    positions: Positions | None = None

    def __call__(self, ids: Tensor) -> Tensor:
        """Return the rows (b, t, c) of ids (b, t), or numbers (b, t), float32; refuse ids that the
        table has not."""
        entries = len(self.table)
        if self.positions is not None:
            ids = torch.from_numpy(self.positions(ids.numpy()))
        if ids.is_floating_point() or ids.min() < 0 or ids.max() >= entries:
            found = "real numbers" if ids.is_floating_point() else f"{ids.min()}..{ids.max()}"
            raise InputError(
                f"ids of input {self.source.name!r} must be integers in 0..{entries - 1}, the rows "
                f"of its embedding, not {found}"
            )
        return self.table[ids.long()].float()


def words_of(
    graph: fx.Graph, inputs: Iterable[fx.Node], constants: dict[fx.Node, Tensor]
) -> dict[fx.Node, int]:
    """Return the inputs (b, t) that are ids of embeddings, and how many ids there are."""
    inputs, found = set(inputs), dict[fx.Node, int]()
    for node in graph.nodes:
        if is_call(node, {"embedding"}) and node.args[0] in constants:
            table, ids = node.args[:2]
            assert isinstance(table, fx.Node)
            assert isinstance(ids, fx.Node)
            source, entries = argument_of(ids), len(constants[table])
            if source in inputs and source.meta["val"].ndim == 2:
                found[source] = min(entries, found.get(source, entries))
    return found


def find_lookups(
    graph: fx.Graph,
    inputs: Iterable[fx.Node],
    constants: dict[fx.Node, Tensor],
    flags: Iterable[fx.Node] = (),
) -> dict[fx.Node, Lookup]:
    """Return the embeddings of inputs (b, t) in tables that the module holds, by their calls;
    ``flags`` are inputs of ones and zeros."""
    inputs, flags, found = set(inputs), set(flags), {}
    for node in graph.nodes:
        if is_call(node, {"embedding"}):
            table, ids = node.args[:2]
            assert isinstance(table, fx.Node)
            assert isinstance(ids, fx.Node)
            source, positions = argument_of(ids), None
            if table not in constants:
                continue
            if source not in inputs:
                positions = positions_of(ids, inputs, constants, flags)
                source = source_of(ids, list(inputs))
            if source in inputs and source.meta["val"].ndim == 2:
                if source is argument_of(ids) or positions is not None:
                    found[node] = Lookup(source, constants[table].detach().cpu(), positions)
    return found


def positions_of(
    index: fx.Node,
    inputs: Iterable[fx.Node],
    constants: dict[fx.Node, Tensor],
    flags: Iterable[fx.Node],
) -> Positions | None:
    """Return which positions of the ids of an input an index (b, t) is, ``None`` if it is none."""
    source, value = source_of(index, list(inputs)), index.meta["val"]
    if source is None or value.is_floating_point() or value.shape != source.meta["val"].shape:
        return None
    if source.meta["val"].ndim != 2 or source.meta["val"].is_floating_point():
        return None
    paddings = {0} if source in flags else compared(index)
    for padding in sorted(paddings):
        found = fitted(index, source, padding, constants, source in flags)
        if found is not None:
            return found
    return None


def compared(index: fx.Node) -> set[int]:
    """Return the integers with which something is compared on the way to an index."""
    calls = [node for node in ancestors(index) if is_call(node, {"ne", "eq"})]
    numbers = [arguments(node).get("other") for node in calls]
    return {number for number in numbers if type(number) is int}


def fitted(
    index: fx.Node, source: fx.Node, padding: int, constants: dict[fx.Node, Tensor], flags: bool
) -> Positions | None:
    """Return the positions that an index is for all trials, if there are such."""
    value = source.meta["val"]
    found: Positions | None = None
    for ids in trials(value.shape, padding, flags):
        try:
            given = evaluate(index, source, ids.to(value.dtype), constants).long()
        except (IndexError, RuntimeError):  # of ids that no table of the module has
            return None
        if found is None:
            found = Positions(padding, int(given[0, 0]), int(given[1, 0]))
        if not torch.equal(given, torch.from_numpy(found(ids.numpy()))):
            return None
    return found


def trials(shape: tuple[int, int], padding: int, flags: bool) -> Iterator[Tensor]:
    """Yield ids (b, t): first without padding and of padding alone, then with some, anywhere;
    ``flags`` are ones where ids would be any."""
    generator = torch.Generator().manual_seed(0)
    for number in range(TRIALS):
        ids = torch.randint(0, OTHERS, shape, generator=generator)
        ids = torch.ones_like(ids) if flags else ids + (ids == padding)
        share = torch.rand(shape[0], 1, generator=generator)
        hidden = torch.rand(shape, generator=generator) < share
        if number == 0:
            hidden[0], hidden[1:] = False, True
        yield torch.where(hidden, padding, ids)


def join_lookups(graph: fx.Graph) -> fx.Graph:
    """Return a graph in which rows that are selected by flat indices (b * t,), and then given the
    shape (b, t, c), are embeddings: itself, or a changed copy."""
    return rewrite(graph, selected_rows, insert_embedding)


def selected_rows(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """Return a table, and the indices (b, t) of the rows of it that a node is."""
    rows: Any = node.args[0] if is_call(node, RESHAPES) else None
    if not is_call(rows, {"index_select"}) or arguments(rows)["dim"] != 0:
        return None
    table, index = rows.args[0], rows.args[2]
    if is_call(index, RESHAPES):
        index = index.args[0]
    if not isinstance(table, fx.Node) or not isinstance(index, fx.Node):
        return None
    whole, rows_of = (item.meta["val"] for item in (table, index))
    shape = node.meta["val"].shape
    fits = whole.ndim == 2 and len(shape) == 3 and rows_of.shape == shape[:2]
    return (table, index) if fits else None


def insert_embedding(graph: fx.Graph, found: tuple[fx.Node, fx.Node]) -> fx.Node:
    """Insert an embedding."""
    return graph.call_function(torch.ops.aten.embedding.default, found)


def is_gather(node: fx.Node) -> bool:
    """Whether a node takes values of a tensor by an index."""
    return is_call(node, {"gather"})


def leave_out_gathers(
    graph: fx.Graph, inputs: Iterable[fx.Node], constants: dict[fx.Node, Tensor]
) -> None:
    """Replace what is gathered from a constant of one number by that number, wherever it is taken
    from; the ``graph`` is changed."""
    inputs = set(inputs)
    for node in list(filter(is_gather, graph.nodes)):
        given: Any = arguments(node)
        source = given["input"]
        if inputs & ancestors(source):
            continue
        values = evaluate(source, node, torch.zeros(()), constants)
        if not bool((values == values.flatten()[0]).all()):
            continue
        with graph.inserting_before(node):
            shape, dtype = list(node.meta["val"].shape), node.meta["val"].dtype
            made = graph.call_function(
                torch.ops.aten.full.default, (shape, values.flatten()[0].item()), {"dtype": dtype}
            )
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)
        graph.erase_node(node)


def argument_of(ids: fx.Node) -> fx.Node:
    """Return what ids are, before operators that give them as they are."""
    while is_call(ids, SAME):
        before = ids.args[0]
        if not isinstance(before, fx.Node) or not is_same(before, ids):
            break
        ids = before
    return ids


def is_same(before: fx.Node, after: fx.Node) -> bool:
    """Whether a call keeps the shape of integers."""
    values = before.meta["val"], after.meta["val"]
    integers = not any(value.is_floating_point() or value.dtype == torch.bool for value in values)
    return integers and values[0].shape == values[1].shape
