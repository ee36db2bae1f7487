"""Arrays as the host has them, and the maps that they are.

A map (h, w, c) is (c, h, w) there; one of height 1 also (c, w), as 1-d convolutions read it; one of
width 1, a sequence of tokens, also (h, c); and one of a single pixel (c,). One of a single channel
may be (h, w), of height 1 also (w,). What a network gives may have the channels of any map last.
"""

from typing import TypeVar

from nupes.model.tensor import Shape

__all__ = ["as_maps", "has_channels_last", "host_shapes"]

Array = TypeVar("Array")
"""A NumPy array or a tensor of PyTorch."""


def host_shapes(shape: Shape) -> tuple[tuple[int, ...], ...]:
    """Return the shapes in which the host has a map (h, w, c)."""
    height, width, channels = shape
    found: list[tuple[int, ...]] = [(channels, height, width)]
    found += [(channels, width)] * (height == 1) + [(height, channels)] * (width == 1)
    found += [(channels,)] * (height == width == 1)
    if channels == 1:
        found += [(height, width)] + [(width,)] * (height == 1)
    return tuple(dict.fromkeys(found))


def as_maps(arrays: Array, shape: Shape) -> Array:
    """Return the host's arrays (b, ...) of maps (h, w, c) as (b, c, h, w)."""
    height, width, channels = shape
    if arrays.ndim == 3 and width == 1:  # pyright: ignore[reportAttributeAccessIssue]
        arrays = arrays.swapaxes(1, 2)  # pyright: ignore[reportAttributeAccessIssue]
    return arrays.reshape(-1, channels, height, width)  # pyright: ignore[reportAttributeAccessIssue]


def has_channels_last(shape: tuple[int, ...], of: Shape) -> bool:
    """Whether the host has a map (h, w, c) as (h, w, c) or (h * w, c), its channels last. Sizes
    that could be either are those of (c, h, w), unless the map is a sequence of tokens."""
    height, width, channels = of
    last = shape in ((height, width, channels), (height * width, channels))
    first = shape in ((channels, height, width), (channels, height * width))
    return last and (not first or (len(shape) == 2 and width == 1))
