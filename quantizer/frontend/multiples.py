"""Multiples: channels of a node that are those of an earlier one, some with the other sign."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nupes.model.operators import Select
from nupes.quantizer.frontend.graph import Affine, Concat, Node, Op

__all__ = ["Multiples", "changes_signs", "origin", "takes_channels"]


@dataclass(frozen=True, eq=False)
class Multiples:
    """Channels of a node, by number, times ``factors``, 1 or -1."""

    source: Node
    channels: np.ndarray
    factors: np.ndarray

    def of(self, order: np.ndarray) -> "Multiples":
        """Return some of them, by number."""
        return replace(self, channels=self.channels[order], factors=self.factors[order])


def changes_signs(op: Op, channels: int) -> bool:
    """Whether an operator changes signs of so many channels, and nothing else."""
    if not isinstance(op, Affine) or len(op.scale) != channels or op.mean is not None:
        return False
    return bool((np.abs(op.scale) == 1).all()) and not op.shift.any()


def takes_channels(op: Op) -> bool:
    """Whether an operator selects channels that exist, of all pixels."""
    return isinstance(op, Select) and op == Select(op.channels) and min(op.channels) >= 0


def origin(nodes: Mapping[str, Node], node: Node) -> Multiples:
    """Return the channels of a node as multiples of those of the first node before it of which they
    are nothing else."""
    op, count = node.op, node.shape[2]
    if isinstance(op, Affine) and changes_signs(op, count):
        found = origin(nodes, nodes[node.inputs[0]])
        if len(found.factors) == count:
            return replace(found, factors=found.factors * op.scale)
    if isinstance(op, Select) and takes_channels(op):
        return origin(nodes, nodes[node.inputs[0]]).of(np.array(op.channels))
    if isinstance(op, Concat):
        parts = [origin(nodes, nodes[name]) for name in node.inputs]
        if all(part.source is parts[0].source for part in parts):
            channels = np.concatenate([part.channels for part in parts])
            factors = np.concatenate([part.factors for part in parts])
            return Multiples(parts[0].source, channels, factors)
    return Multiples(node, np.arange(count), np.ones(count))
