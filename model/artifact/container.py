"""The file around a graph and its arrays: its format, its order of bytes, its digest."""

import hashlib
import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from nupes.model.errors import ArtifactError

__all__ = ["FORMAT", "canonical", "digest", "parse", "read_file"]

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


def read_file(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return the metadata and the arrays of a safetensors file.

    The library compares the sizes that the header claims with that of the file before it allocates
    anything.
    """
    if not path.is_file():
        raise ArtifactError(f"artifact {path} must be an existing file")
    try:
        with safe_open(path, framework="numpy") as handle:
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}
            return handle.metadata() or {}, arrays
    except (
        SafetensorError,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        MemoryError,
    ) as error:
        raise ArtifactError(
            f"artifact {path} must be a complete safetensors file: {error}"
        ) from error


def parse(text: str) -> Any:
    """Return JSON data; raise ``ValueError`` for what two readers could take for two things: a key
    that stands twice, or a number that float64 does not hold."""
    return json.loads(
        text, object_pairs_hook=unique, parse_float=finite, parse_constant=no_constant
    )


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; refuse a key that stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} must stand once")
    return found


def finite(text: str) -> float:
    """Return a number; refuse one beyond float64."""
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"number {text[:20]} must be finite")
    return value


def no_constant(text: str) -> float:
    """Refuse NaN and infinities, which are no JSON."""
    raise ValueError(f"{text} is no JSON")
