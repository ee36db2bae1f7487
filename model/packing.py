"""Codes as dense strings of bits."""

from math import prod

import numpy as np

from nupes.model.errors import ArtifactError

__all__ = ["pack_codes", "unpack_codes"]


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return codes as a dense little-endian bit string, uint8 of ``ceil(codes.size * bits / 8)``
    bytes."""
    flat = np.asarray(codes, np.uint8).reshape(-1, 1)
    return np.packbits(
        np.unpackbits(flat, axis=1, count=bits, bitorder="little"), bitorder="little"
    )


def unpack_codes(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the uint8 codes of the given shape from ``pack_codes``'s bit string."""
    size = prod(shape)
    if len(packed) != -(-size * bits // 8):
        raise ArtifactError(
            f"{size} codes of {bits} bits must take {-(-size * bits // 8)} bytes, not {len(packed)}"
        )
    if size * bits % 8 and packed[-1] >> (size * bits % 8):
        raise ArtifactError("the last byte of packed codes must be filled up with zeros")
    unpacked = np.unpackbits(packed, count=size * bits, bitorder="little").reshape(size, bits)
    return np.packbits(unpacked, axis=1, bitorder="little").reshape(shape)
