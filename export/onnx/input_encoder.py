"""The host's encoder of real images, in float64, and its table of ids."""

import numpy as np

from nupes.export.graph import Graph
from nupes.model.positions import Positions

__all__ = ["add_positions", "encode_input", "look_up"]


def encode_input(graph: Graph, thresholds: np.ndarray, images: str, name: str) -> str:
    """Append a binary search over each channel's float64 thresholds (c, K - 1); return the codes.

    Missing thresholds are infinite; only an infinite pixel passes them, and the last step takes
    that back.
    """
    channels, count = thresholds.shape
    depth = max(1, count.bit_length())
    table = np.full((channels, 2**depth - 1), np.inf)
    table[:, :count] = thresholds
    flat = graph.constant(table.reshape(-1), np.float64, f"{name}/thresholds")
    pixels = graph.cast(images, np.float64, f"{name}/pixels")
    rows = np.arange(channels).reshape(-1, 1, 1) * (2**depth - 1)
    found = ""
    for step in (1 << i for i in reversed(range(depth))):
        at = graph.constant(rows + step - 1, np.int32, f"{name}/rows_{step}")
        if found:
            at = graph.add("Add", [found, at], f"{name}/index_{step}")
        threshold = graph.add("Gather", [flat, at], f"{name}/threshold_{step}")
        reached = graph.add("GreaterOrEqual", [pixels, threshold], f"{name}/reached_{step}")
        bit = graph.cast(reached, np.int32, f"{name}/bit_{step}")
        size = graph.constant(step, np.int32, f"{name}/step_{step}")
        gain = graph.add("Mul", [bit, size], f"{name}/gain_{step}")
        found = graph.add("Add", [found, gain], f"{name}/found_{step}") if found else gain
    top = graph.constant(count, np.int32, f"{name}/last_code")
    return graph.cast(graph.add("Min", [found, top], f"{name}/clipped"), np.uint8, f"{name}/codes")


def look_up(graph: Graph, lookup: np.ndarray, ids: str, name: str, of_one_pixel: bool) -> str:
    """Append the table (entries, c) of codes; return those of ids (b, t), as (b, c, t, 1), or, of
    one pixel, as (b, t, 1, 1)."""
    table = graph.constant(lookup, np.uint8, f"{name}/table")
    turned = graph.add("Gather", [table, ids], f"{name}/rows")
    if not of_one_pixel:
        turned = graph.add("Transpose", [turned], f"{name}/turned", perm=[0, 2, 1])
    last = graph.constant([3], np.int64, f"{name}/last_axis")
    return graph.add("Unsqueeze", [turned, last], f"{name}/codes")


def add_positions(graph: Graph, positions: Positions, ids: str, name: str) -> str:
    """Append the positions (b, t) int64 of ids (b, t) int64."""
    padding, filler, before, axis = (
        graph.constant(number, np.int64, f"{name}/{part}")
        for part, number in (
            ("padding", positions.padding),
            ("filler", positions.filler),
            ("before", positions.first - 1),
            ("axis", 1),
        )
    )
    hidden = graph.add("Equal", [ids, padding], f"{name}/hidden")
    shown = graph.cast(graph.add("Not", [hidden], f"{name}/shown"), np.int64, f"{name}/ones")
    count = graph.add("CumSum", [shown, axis], f"{name}/count")
    places = graph.add("Add", [count, before], f"{name}/places")
    return graph.add("Where", [hidden, filler, places], f"{name}/positions")
