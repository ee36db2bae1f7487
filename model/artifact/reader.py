"""The bytes of an artifact to its integer network, or an error."""

import os
from pathlib import Path

from nupes.model.artifact import format_1
from nupes.model.artifact.container import FORMAT, digest, parse, read_file
from nupes.model.artifact.records import check_all, schema_of
from nupes.model.artifact.schema import Arrays
from nupes.model.errors import ArtifactError
from nupes.model.network import IntegerNetwork

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> IntegerNetwork:
    """Read a network; raise ``ArtifactError`` for a missing, damaged or foreign file."""
    path = Path(path)
    header, arrays = read_file(path)
    form, text = header.get("format"), header.get("graph", "")
    if form not in (FORMAT, format_1.FORMAT):
        raise ArtifactError(
            f"artifact {path} must have format {FORMAT!r} or {format_1.FORMAT!r}, not {form!r}; "
            "write it with qnet.save of this version"
        )
    if header.get("digest") != digest(text, arrays):
        raise ArtifactError(f"artifact {path} is corrupted: its digest does not match its content")
    try:
        return read_network(form, text, arrays)
    except (ArtifactError, ValueError, RecursionError, MemoryError) as error:
        raise ArtifactError(
            f"artifact {path} does not describe a valid network: {error or 'it is too large'}"
        ) from error


def read_network(form: str, text: str, arrays: Arrays) -> IntegerNetwork:
    """Return the network of a graph and its arrays, which are checked before anything is built."""
    graph, schema = parse(text), schema_of(IntegerNetwork)
    if form == format_1.FORMAT:
        graph, arrays = format_1.convert(graph, arrays)
    check_all(schema, graph, arrays)
    return schema.build(graph, "", arrays)
