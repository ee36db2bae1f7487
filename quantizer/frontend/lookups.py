"""Embeddings: what the host looks up in a table before the network runs.

A module that is given ids of tokens begins with ``embedding(table, ids)``. The network's input is
what is found there, and the table goes with the network.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from nupes.model.errors import InputError
from nupes.quantizer.frontend.registry import is_call

__all__ = ["Lookup", "find_lookups"]

SAME = {
    "view",
    "reshape",
    "_unsafe_view",
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
    """What a row of ``table`` (entries, c) is found by: ids, the module's input ``source``."""

    source: fx.Node
    table: Tensor

    def __call__(self, ids: Tensor) -> Tensor:
        """Return the rows (b, t, c) of ids (b, t), float32; refuse ids that the table has not."""
        entries = len(self.table)
        if ids.is_floating_point() or ids.min() < 0 or ids.max() >= entries:
            found = "real numbers" if ids.is_floating_point() else f"{ids.min()}..{ids.max()}"
            raise InputError(
                f"ids of input {self.source.name!r} must be integers in 0..{entries - 1}, the rows "
                f"of its embedding, not {found}"
            )
        return self.table[ids.long()].float()


def find_lookups(
    graph: fx.Graph, inputs: Iterable[fx.Node], constants: dict[fx.Node, Tensor]
) -> dict[fx.Node, Lookup]:
    """Return the embeddings of inputs (b, t) in tables that the module holds, by their calls."""
    inputs, found = set(inputs), {}
    for node in graph.nodes:
        if is_call(node, {"embedding"}):
            table, ids = node.args[:2]
            assert isinstance(table, fx.Node)
            assert isinstance(ids, fx.Node)
            source = argument_of(ids)
            if table in constants and source in inputs and source.meta["val"].ndim == 2:
                found[node] = Lookup(source, constants[table].detach().cpu())
    return found


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
