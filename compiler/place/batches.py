"""Batches: which layers of a network run once for all images of a batch."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Batch", "share_most"]


@dataclass(frozen=True, slots=True)
class Batch:
    """``images`` run together: the first ``apart`` layers image by image, from the first to the
    last one, then each other layer for all images.

    Tensors that the other layers read or write hold all images, those between the first ones have
    the place of one.
    """

    images: int
    apart: int


def share_most(images: int, least: int, layers: int, fits: Callable[[Batch], bool]) -> Batch:
    """Return the batch of which the fewest layers run image by image, ``least`` of them or more,
    that fits the memory: all of them always do.

    The later a layer is, the smaller its maps: so the search halves what is left.
    """
    while images > 1 and least < layers:
        middle = (least + layers) // 2
        if fits(Batch(images, middle)):
            layers = middle
        else:
            least = middle + 1
    return Batch(images, layers)
