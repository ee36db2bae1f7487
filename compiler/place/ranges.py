"""Ranges: tensors that lie inside others, so that what joins them moves nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nupes.arch.config import ArrayConfig
from nupes.model.network import IntegerNetwork

__all__ = ["Part", "Range", "Ranges", "choose_ranges", "root_of"]


@dataclass(frozen=True)
class Part:
    """A tensor that could be the channels of ``whole`` from ``first`` on, of its pixels in raster
    order those from ``pixel`` on."""

    tensor: str
    whole: str
    first: int
    pixel: int = 0


@dataclass(frozen=True)
class Range:
    """The channel groups of the tensor ``whole`` from ``group`` on, of its pixels those from
    ``pixel`` on."""

    whole: str
    group: int
    pixel: int = 0


Ranges = Mapping[str, Range]


def choose_ranges(
    network: IntegerNetwork, parts: Iterable[Part], config: ArrayConfig
) -> dict[str, Range]:
    """Return the range in which each tensor lies that can: of all parts those that begin with a
    word, are written by a layer and lie nowhere else yet."""
    written = {layer.output.name for layer in network.layers if not layer.wide}
    ranges: dict[str, Range] = {}
    for part in parts:
        group, lane = divmod(part.first, config.lanes)
        if lane == 0 and part.tensor in written and part.tensor not in ranges:
            ranges[part.tensor] = Range(part.whole, group, part.pixel)
    return ranges


def root_of(name: str, ranges: Ranges) -> Range:
    """Return the range of the tensor that holds another one and lies in none."""
    group = pixel = 0
    while name in ranges:
        group += ranges[name].group
        pixel += ranges[name].pixel
        name = ranges[name].whole
    return Range(name, group, pixel)
