"""An integer network to the bytes of its artifact."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save as save_tensors

from nupes.model.artifact.container import FORMAT, canonical, digest
from nupes.model.codebook import Codebook
from nupes.model.errors import ArtifactError
from nupes.model.files import write_atomically
from nupes.model.layer import Layer
from nupes.model.tensor import Tensor, Wide

if TYPE_CHECKING:
    from nupes.model.network import IntegerNetwork

__all__ = ["write_network"]

Arrays = dict[str, np.ndarray]
"""What is stored beside the graph, by name."""


def write_network(network: "IntegerNetwork", path: str | os.PathLike[str]) -> Path:
    """Write a network to one file, in one step; return its path."""
    arrays: Arrays = {}
    graph = describe_network(network, arrays)
    try:
        text = json.dumps(graph, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"network metadata must be JSON data: {error}") from error
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    header = {"format": FORMAT, "graph": text, "digest": digest(text, arrays)}
    return write_atomically(path, canonical(save_tensors(arrays, metadata=header)))


def describe_network(network: "IntegerNetwork", arrays: Arrays) -> dict[str, Any]:
    """Store a network's arrays and return its graph."""
    for index, item in enumerate(network.inputs):
        arrays[f"inputs.{index}.thresholds"] = item.encoder.thresholds
    for index, state in enumerate(network.state):
        arrays[f"state.{index}.initial"] = state.initial
    return {
        "inputs": [
            describe_tensor(item.tensor, f"inputs.{index}", arrays)
            for index, item in enumerate(network.inputs)
        ],
        "layers": [
            describe_layer(layer, f"layers.{index}", arrays)
            for index, layer in enumerate(network.layers)
        ],
        "outputs": [asdict(output) for output in network.outputs],
        "state": [
            {
                "tensor": describe_tensor(state.tensor, f"state.{index}", arrays),
                "written": state.written,
            }
            for index, state in enumerate(network.state)
        ],
        "metadata": network.metadata,
    }


def describe_codebook(book: Codebook, key: str, arrays: Arrays) -> dict[str, Any]:
    """Store a codebook's levels under ``key`` and return its parameters."""
    arrays[f"{key}.levels"] = book.levels
    return book.fields()


def describe_tensor(tensor: Tensor, key: str, arrays: Arrays) -> dict[str, Any]:
    """Store a tensor's codebook under ``key`` and return its description."""
    wide = isinstance(tensor.format, Wide)
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "scale": tensor.scale,
        "codebook": None if wide else describe_codebook(tensor.codebook, key, arrays),
    }


def describe_layer(layer: Layer, key: str, arrays: Arrays) -> dict[str, Any]:
    """Store a layer's arrays under ``key`` and return its description."""
    arrays |= {f"{key}.{name}": value for name, value in layer.op.arrays().items()}
    residual = None
    if layer.post is not None:
        tail, encoder = layer.post.requantize, layer.post.encoder
        arrays[f"{key}.mult"] = tail.mult.astype(np.int32)
        arrays[f"{key}.bias"] = tail.bias.astype(np.int64)
        arrays[f"{key}.shift"] = tail.shift.astype(np.int32)
        if encoder is not None:
            arrays[f"{key}.encoder.thresholds"] = encoder.thresholds.astype(np.int16)
            arrays[f"{key}.encoder.codes"] = encoder.codes.astype(np.uint8)
        residual = None if layer.post.residual is None else asdict(layer.post.residual)
    return {
        "name": layer.name,
        "op": {"kind": layer.op.kind, **layer.op.fields()},
        "inputs": [asdict(port) for port in layer.inputs],
        "output": describe_tensor(layer.output, f"{key}.output", arrays),
        "residual": residual,
    }
