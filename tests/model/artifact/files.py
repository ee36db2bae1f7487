"""Files with a digest that is right and a content that may not be, from the text of numerics.md."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from nupes.model.artifact.reader import load
from nupes.model.errors import ArtifactError

__all__ = ["contents", "flat", "forged", "places", "refused"]


def flat(value: Any) -> Any:
    """Return a network, or a part of one, as comparable data: every array with its dtype."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist()
    if isinstance(value, tuple | list):
        return [flat(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: flat(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"type": type(value).__name__, **fields}
    return value


def contents(data: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """Return the text of the graph and the arrays of a file."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return header["graph"], load_tensors(data)


def forged(graph: Any, arrays: Mapping[str, np.ndarray], form: str = "nupes-2") -> bytes:
    """Return a file of a graph, JSON data or text, and arrays, whose digest is right."""
    text = graph if isinstance(graph, str) else json.dumps(graph)
    state = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        value = arrays[name]
        state.update(f"{name} {value.dtype} {value.shape}".encode())
        state.update(value.tobytes())
    metadata = {"format": form, "graph": text, "digest": state.hexdigest()}
    return save_tensors(dict(arrays), metadata=metadata)


def refused(path: Path, data: bytes) -> str:
    """Return the error that loading these bytes gives, without the file's name."""
    path.unlink(missing_ok=True)  # a file that is written over may be flushed to the disk
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as error:
        load(path)
    assert str(error.value).startswith(f"artifact {path} ")
    return str(error.value).removeprefix(f"artifact {path} ")


def places(data: Any, route: tuple = ()) -> Iterator[tuple]:
    """Yield the places of all values in JSON data."""
    if route:
        yield route
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(value, (*route, key))
