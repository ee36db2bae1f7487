"""Tokens that are folded into the batch, ``x.view(-1, c)``, given their own dimension again.

GPT-2 multiplies rows (batch * tokens, c), attention by hand is a batched product of (batch * heads,
t, d), and windows of a map are (batch * windows, t, c). What an operator makes of each row, or of
each matrix, it makes of them behind the batch as well.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from nupes.quantizer.frontend.registry import arguments, base_name, copy_graph, is_pointwise

__all__ = ["unfold_batch"]

ROWS = {
    *("linear", "layer_norm", "rms_norm", "dropout", "scaled_dot_product_attention"),
    *("softmax", "_softmax", "addmm", "mm", "bmm", "matmul", "baddbmm", "unit_rows"),
}
"""Operators that make each row, or each matrix of the last two dimensions, of what they read; so
do the pointwise ones."""

MATRIX = {"linear", "addmm", "mm", "matmul"}
"""Those whose second operand may be a constant matrix, which has no batch."""

ATEN = torch.ops.aten


def unfold_batch(graph: fx.Graph, inputs: Iterable[fx.Node]) -> fx.Graph:
    """Return a graph in which such operators read tensors whose first dimension is the batch of the
    ``inputs``: itself, or a changed copy with reshapes around them."""
    inputs = list(inputs)
    batch = inputs[0].meta["val"].shape[0]
    if not isinstance(batch, int) or not any(folds_of(n, batch) for n in graph.nodes):
        return graph
    copies: dict[fx.Node, fx.Node] = {}
    copy = copy_graph(graph, copies)
    computed = {copies[node] for node in inputs}
    unfolded: dict[fx.Node, fx.Node] = {}
    for node in list(copy.nodes):
        operands = [value for value in node.all_input_nodes if value in computed]
        if not operands:
            continue
        computed.add(node)
        if not can_unfold(node, operands, batch):
            continue
        with copy.inserting_before(node):
            for value in [*operands, *folded_constants(node, operands)]:
                if value not in unfolded:
                    unfolded[value] = reshape(value, unfold(value.meta["val"], batch))
            made = call_unfolded(copy, node, unfolded)
            made.meta = {**node.meta, "val": unfold(node.meta["val"], batch)}
            back = reshape(made, node.meta["val"])
        node.replace_all_uses_with(back)
        copy.erase_node(node)
        unfolded[back] = made
        computed |= {made, back}
    return copy


def folds_of(node: fx.Node, batch: int) -> int:
    """Return how many rows of each sample an operator's first dimension holds, 0 where it is none
    that can be unfolded."""
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, Tensor) or value.ndim < 2:
        return 0
    flat = base_name(node) == "batch_norm" and value.ndim == 2
    if not (flat or base_name(node) in ROWS or is_pointwise(node)):
        return 0
    rows = value.shape[0]
    return rows // batch if isinstance(rows, int) and rows > batch and rows % batch == 0 else 0


def can_unfold(node: fx.Node, operands: list[fx.Node], batch: int) -> bool:
    """Whether all operands of an operator are folded as its value is, and constants as well or not
    at all."""
    if not folds_of(node, batch):
        return False
    value, matrix = node.meta["val"], base_name(node) in MATRIX
    if matrix and value.ndim == 2:
        given = arguments(node)
        # Rows of the first operand alone stay rows: any other product mixes them.
        if operands != [given["mat1"] if "mat1" in given else given["input"]]:
            return False
    for operand in node.all_input_nodes:
        given = operand.meta.get("val")
        if operand in operands:
            if not isinstance(given, Tensor) or given.ndim < 2 or given.shape[0] != value.shape[0]:
                return False
        elif isinstance(given, Tensor) and given.ndim >= value.ndim and given.shape[0] > 1:
            if not matrix and operand not in folded_constants(node, operands):
                return False
    return True


def folded_constants(node: fx.Node, operands: list[fx.Node]) -> list[fx.Node]:
    """Return the constants of an operator that are folded as its value is, such as a bias of scores
    (batch * heads, 1, keys)."""
    shape = node.meta["val"].shape
    if base_name(node) in MATRIX or len(shape) < 3:
        return []
    found = []
    for operand in node.all_input_nodes:
        given = operand.meta.get("val")
        if operand not in operands and isinstance(given, Tensor) and given.ndim == len(shape):
            found += [operand] * (given.shape[0] == shape[0])
    return found


def unfold(value: Tensor, batch: int) -> Tensor:
    """Return a tensor with the batch as its first dimension."""
    return value.reshape(batch, value.shape[0] // batch, *value.shape[1:])


def reshape(node: fx.Node, value: Tensor) -> fx.Node:
    """Return a node that is another one in the shape of ``value``."""
    made = node.graph.call_function(ATEN.reshape.default, (node, list(value.shape)))
    made.meta = {**node.meta, "val": value}
    return made


def call_unfolded(graph: fx.Graph, node: fx.Node, unfolded: dict[fx.Node, fx.Node]) -> fx.Node:
    """Return the call of an operator on unfolded operands."""
    given = {
        name: map_arg(value, lambda n: unfolded.get(n, n))
        for name, value in arguments(node).items()
    }
    kind = base_name(node)
    if kind in ("bmm", "mm"):
        return graph.call_function(ATEN.matmul.default, (given["input"], given["mat2"]))
    if kind in ("addmm", "baddbmm"):
        names = ("mat1", "mat2") if kind == "addmm" else ("batch1", "batch2")
        product = graph.call_function(ATEN.matmul.default, tuple(given[name] for name in names))
        product.meta = {
            **node.meta,
            "val": given[names[0]].meta["val"] @ given[names[1]].meta["val"],
        }
        product = scaled(graph, product, given["alpha"])
        return graph.call_function(
            ATEN.add.Tensor, (product, scaled(graph, given["input"], given["beta"]))
        )
    if kind == "batch_norm":
        # Of rows (batch * tokens, c), but of sequences channels are in dimension 1.
        source, *others = given.values()
        normed = graph.call_function(ATEN.batch_norm.default, (turned(graph, source), *others))
        normed.meta = {**node.meta, "val": source.meta["val"].transpose(1, 2)}
        return graph.call_function(ATEN.transpose.int, (normed, 1, 2))
    changed: Any = map_arg((node.args, node.kwargs), lambda n: unfolded.get(n, n))
    args, kwargs = changed
    if kind in ("softmax", "_softmax") and args[1] >= 0:
        args = (args[0], args[1] + 1, *args[2:])
    assert callable(node.target)
    return graph.call_function(node.target, args, kwargs)


def scaled(graph: fx.Graph, value: Any, factor: float) -> Any:
    """Return a node times a number."""
    if factor == 1:
        return value
    made = graph.call_function(ATEN.mul.Tensor, (value, factor))
    made.meta = {**value.meta, "val": value.meta["val"] * factor}
    return made


def turned(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Return a node (b, t, c) as (b, c, t)."""
    made = graph.call_function(ATEN.transpose.int, (node, 1, 2))
    made.meta = {**node.meta, "val": node.meta["val"].transpose(1, 2)}
    return made
