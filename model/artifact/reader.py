"""The bytes of an artifact to its integer network, or an error."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from nupes.model.artifact.container import FORMAT, digest
from nupes.model.codebook import Codebook
from nupes.model.errors import ArtifactError, NupesError
from nupes.model.layer import Encoder, Layer, Post, Requantize, Residual
from nupes.model.network import Input, InputEncoder, IntegerNetwork, Output, State
from nupes.model.operators import OPERATORS
from nupes.model.tensor import Coded, Port, Tensor, Wide

__all__ = ["load"]

Arrays = Mapping[str, np.ndarray]
"""What is stored beside the graph, by name."""


def load(path: str | os.PathLike[str]) -> IntegerNetwork:
    """Read a network; raise ``ArtifactError`` for a missing, damaged or foreign file."""
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"artifact {path} must be an existing file")
    try:
        with safe_open(path, framework="numpy") as handle:
            header = handle.metadata() or {}
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"artifact {path} must be a complete safetensors file: {error}"
        ) from error
    if header.get("format") != FORMAT:
        raise ArtifactError(
            f"artifact {path} must have format {FORMAT!r}, not {header.get('format')!r}; "
            "write it with qnet.save of this version"
        )
    text = header.get("graph", "")
    if header.get("digest") != digest(text, arrays):
        raise ArtifactError(f"artifact {path} is corrupted: its digest does not match its content")
    try:
        return build_network(json.loads(text), arrays)
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        NupesError,
    ) as error:
        raise ArtifactError(
            f"artifact {path} does not describe a valid network: {error}"
        ) from error


def build_network(graph: Mapping[str, Any], arrays: Arrays) -> IntegerNetwork:
    """Return the network of a graph and its arrays."""
    return IntegerNetwork(
        inputs=tuple(
            Input(
                build_tensor(data, f"inputs.{index}", arrays),
                InputEncoder(arrays[f"inputs.{index}.thresholds"]),
            )
            for index, data in enumerate(graph["inputs"])
        ),
        layers=tuple(
            build_layer(data, f"layers.{index}", arrays)
            for index, data in enumerate(graph["layers"])
        ),
        outputs=tuple(Output(data["tensor"], tuple(data["shape"])) for data in graph["outputs"]),
        state=tuple(
            State(
                build_tensor(data["tensor"], f"state.{index}", arrays),
                data["written"],
                arrays[f"state.{index}.initial"],
            )
            for index, data in enumerate(graph["state"])
        ),
        metadata=graph["metadata"],
    )


def build_tensor(data: Mapping[str, Any], key: str, arrays: Arrays) -> Tensor:
    """Return the tensor described under ``key``."""
    height, width, channels = data["shape"]
    if data["codebook"] is None:
        return Tensor(data["name"], (height, width, channels), Wide(data["scale"]))
    book = Codebook(arrays[f"{key}.levels"], **data["codebook"])
    return Tensor(data["name"], (height, width, channels), Coded(book, data["scale"]))


def build_layer(data: Mapping[str, Any], key: str, arrays: Arrays) -> Layer:
    """Return the layer described under ``key``."""
    op = {name: value for name, value in data["op"].items() if name != "kind"}
    own = {name.removeprefix(f"{key}."): a for name, a in arrays.items() if name.startswith(key)}
    return Layer(
        name=data["name"],
        op=OPERATORS[data["op"]["kind"]].build(op, own),
        inputs=tuple(Port(**port) for port in data["inputs"]),
        output=build_tensor(data["output"], f"{key}.output", arrays),
        post=build_post(data["residual"], own),
    )


def build_post(residual: Mapping[str, Any] | None, arrays: Arrays) -> Post | None:
    """Return what follows a layer's accumulator, from the layer's own arrays."""
    if "mult" not in arrays:
        return None
    encoder = None
    if "encoder.codes" in arrays:
        encoder = Encoder(arrays["encoder.thresholds"], arrays["encoder.codes"])
    added = None
    if residual is not None:
        added = Residual(Port(**residual["port"]), residual["mult"], residual["shift"])
    return Post(Requantize(arrays["mult"], arrays["bias"], arrays["shift"]), added, encoder)
