"""An integer network to the bytes of its artifact."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.numpy import save as save_tensors

from nupes.model.artifact.container import FORMAT, canonical, digest, parse
from nupes.model.artifact.records import check_all, schema_of
from nupes.model.artifact.schema import Arrays
from nupes.model.errors import ArtifactError
from nupes.model.files import write_atomically

if TYPE_CHECKING:
    from nupes.model.network import IntegerNetwork

__all__ = ["network_bytes", "write_network"]


def write_network(network: "IntegerNetwork", path: str | os.PathLike[str]) -> Path:
    """Write a network to one file, in one step; return its path."""
    return write_atomically(path, network_bytes(network))


def network_bytes(network: "IntegerNetwork") -> bytes:
    """Return the file of a network; equal networks give equal files."""
    arrays: Arrays = {}
    schema = schema_of(type(network))
    try:
        text = json.dumps(schema.describe(network, "", arrays), allow_nan=False)
        graph = parse(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"network metadata must be JSON data: {error}") from error
    check_all(schema, graph, arrays)
    header = {"format": FORMAT, "graph": text, "digest": digest(text, arrays)}
    return canonical(save_tensors(arrays, metadata=header))
