"""The file around a graph and its arrays: its format, its order of bytes, its digest."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

__all__ = ["FORMAT", "canonical", "digest"]

FORMAT = "nupes-2"
"""Name and version of the format that is written."""


def canonical(data: bytes) -> bytes:
    """Return a safetensors file with its header in sorted order: equal networks, equal files.

    The library writes the metadata in another order every time.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # as the format asks: tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the graph and of every array's name, dtype, shape and bytes."""
    state = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {value.dtype} {value.shape}".encode())
        state.update(value.tobytes())
    return state.hexdigest()
