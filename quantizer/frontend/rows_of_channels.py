"""Rows of channels: values whose rows along a dimension are channels of one pixel each, in groups
such as heads, wherever the pixels are."""

from dataclasses import dataclass

import numpy as np
from torch import fx

from nupes.model.operators import Select
from nupes.quantizer.frontend.call import Call
from nupes.quantizer.frontend.graph import Concat, Node
from nupes.quantizer.frontend.heads import show

__all__ = ["Rows", "find_rows"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Along dimension ``axis`` of a value, counted without the batch, each row is one of the
    ``groups`` (g, d) of channels of ``node``: row r of the others group ``group[r]`` of pixel
    ``pixel[r]``. Every group has every pixel once."""

    node: Node
    axis: int
    groups: np.ndarray
    group: np.ndarray
    pixel: np.ndarray
    sizes: tuple[int, ...]

    def take(self, call: Call) -> list[tuple[Node, str]]:
        """Return the node of each group, with a name for what is made of it."""
        shape = self.node.shape
        if len(self.groups) == 1 and np.array_equal(self.groups[0], np.arange(shape[2])):
            return [(self.node, "")]
        found = []
        for number, channels in enumerate(self.groups):
            size = *shape[:2], len(channels)
            name = call.add(Select.of(channels), (self.node.name,), size, "norm", f"head_{number}")
            found.append((call.values.graph.nodes[name], str(number)))
        return found

    def join(self, call: Call, made: list[str]) -> str:
        """Let the call's value be what was made of each group, in the shape of the operand; return
        the node's name."""
        height, width, _ = self.node.shape
        name, (count, size) = made[0], self.groups.shape
        if len(made) > 1:
            name = call.add(Concat(), tuple(made), (height, width, count * size), "norm")
        lanes = self.group[:, None] * size + np.arange(size)
        places = (lanes * height * width + self.pixel[:, None]).astype(np.int32)
        places = np.moveaxis(places.reshape(*self.sizes, size), -1, self.axis)
        show(call, call.node, places, call.values.graph.nodes[name])
        return name


def find_rows(call: Call, value: fx.Node, axis: int) -> Rows | None:
    """Return the rows of an operand along a dimension, ``None`` where they are no channels."""
    node, places = call.viewed(value), np.moveaxis(call.places(value), axis, -1)
    pixels, (*sizes, size) = node.shape[0] * node.shape[1], places.shape
    flat = places.reshape(-1, size)
    channels, pixel = flat // pixels, flat[:, 0] % pixels
    if (flat % pixels != pixel[:, None]).any():
        return None
    groups, group = np.unique(channels, axis=0, return_inverse=True)
    group = group.ravel()
    every = np.sort(group * pixels + pixel)
    if not np.array_equal(every, np.arange(len(groups) * pixels)):
        return None
    return Rows(node, axis, groups, group, pixel, tuple(sizes))
