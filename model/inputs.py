"""What the host gives a network: arrays of real numbers or of ids, which become codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nupes.model.errors import InputError
from nupes.model.host import as_maps, host_shapes
from nupes.model.positions import Positions
from nupes.model.stored import CodeMatrix, Float64Matrix
from nupes.model.tensor import Tensor

__all__ = ["Input", "InputEncoder", "check_codes", "check_count", "one_batch"]


@dataclass(frozen=True, eq=False)
class InputEncoder:
    """The host's encoder: ``thresholds`` (c, K - 1) float64, code = ``#{k : x >=
    thresholds[channel, k]}``."""

    thresholds: Float64Matrix

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return codes (b, h, w, c) uint8 for real images (b, c, h, w)."""
        columns = [
            np.searchsorted(row, images[:, channel].astype(np.float64), side="right")
            for channel, row in enumerate(self.thresholds)
        ]
        return np.stack(columns, axis=3).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Input:
    """A tensor that the host gives, and how it codes real values; of a sequence of tokens (t, 1, c)
    that are rows of a table, ``lookup`` (entries, c) uint8 holds their codes, of one pixel (1, 1,
    t) the code of each id (entries, 1). Rows are found by ids, or by their ``positions``. The
    host's array is that of the input ``source`` before this one, if there is one, else an array of
    its own."""

    tensor: Tensor
    encoder: InputEncoder
    lookup: CodeMatrix | None = None
    positions: Positions | None = None
    source: str | None = None

    @property
    def tokens(self) -> int:
        """How many ids are looked up."""
        height, _, channels = self.tensor.shape
        return channels if self.of_one_pixel else height

    @property
    def of_one_pixel(self) -> bool:
        """Whether the ids of a table are channels: each has one code."""
        one = self.tensor.shape[:2] == (1, 1)
        return self.lookup is not None and one and self.lookup.shape[1:] == (1,)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the codes (b, h, w, c) uint8 of real images (b, c, h, w), or as the host has them
        (``model.host``), or of ids (b, t) in the table; they are checked."""
        images = np.asarray(images)
        height, width, channels = self.tensor.shape
        if self.lookup is not None and images.ndim == 2:
            return self.look_up(images)
        if images.ndim < 2 or images.shape[1:] not in host_shapes(self.tensor.shape):
            raise InputError(
                f"images must have shape (batch, {channels}, {height}, {width}), not {images.shape}"
            )
        if images.dtype.kind not in ("fiub" if images.ndim == 2 else "fiu"):
            raise InputError(f"images must be real numbers, not {images.dtype}")
        if np.isnan(images).any():
            raise InputError(
                f"images must not contain NaN; image {np.argwhere(np.isnan(images))[0][0]} does"
            )
        return self.encoder(as_maps(images, self.tensor.shape))

    def look_up(self, ids: np.ndarray) -> np.ndarray:
        """Return the codes (b, t, 1, c), or (b, 1, 1, t), of ids (b, t)."""
        assert self.lookup is not None
        tokens, entries = self.tokens, len(self.lookup)
        if ids.shape[1] != tokens or ids.dtype.kind not in "iu":
            raise InputError(
                f"ids must be integers of shape (batch, {tokens}), not {ids.dtype} of {ids.shape}"
            )
        if self.positions is not None:
            return self.arrange(self.lookup[self.positions(ids)])
        if ids.size and (ids.min() < 0 or ids.max() >= entries):
            raise InputError(
                f"ids must lie in 0..{entries - 1}, the table of input {self.tensor.name!r}, not "
                f"{ids.min()}..{ids.max()}"
            )
        return self.arrange(self.lookup[ids])

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (b, t, c) of the table as codes (b, h, w, c)."""
        return rows.reshape(len(rows), *self.tensor.shape)

    def check_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return codes (b, h, w, c) as uint8, or refuse them."""
        return check_codes(self.tensor, codes, "codes")


def check_codes(tensor: Tensor, codes: np.ndarray, what: str) -> np.ndarray:
    """Return codes (b, h, w, c) of a tensor as uint8; refuse another shape, type or range."""
    codes = np.asarray(codes)
    if codes.ndim != 4 or codes.shape[1:] != tensor.shape:
        height, width, channels = tensor.shape
        raise InputError(
            f"{what} must have shape (batch, {height}, {width}, {channels}), not {codes.shape}"
        )
    if codes.dtype.kind not in "iu":
        raise InputError(f"{what} must be integers, not {codes.dtype}")
    last = len(tensor.codebook) - 1
    if codes.size and (codes.min() < 0 or codes.max() > last):
        raise InputError(
            f"{what} must lie in the codebook's 0..{last}, not {codes.min()}..{codes.max()}"
        )
    return codes.astype(np.uint8, copy=False)


def check_count(arrays: Sequence[Any], count: int) -> None:
    """Refuse another number of arrays than there are inputs."""
    if len(arrays) != count:
        raise InputError(f"network must get {count} inputs, not {len(arrays)}")


def one_batch(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return the codes of all inputs; refuse those of several batch sizes."""
    sizes = [len(part) for part in parts]
    if len(set(sizes)) > 1:
        raise InputError(f"inputs must have one batch size, not {sizes}")
    return tuple(parts)
