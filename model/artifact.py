"""The artifact: an integer network as one safetensors file, its graph as JSON metadata. Data only,
never code.

Codes are packed to the bits that their codebook promises. Every integer is stored; nothing is
recomputed from a scale. A digest over the graph and all tensors makes a damaged file an error
instead of a wrong answer.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from nupes.model.codebook import Codebook
from nupes.model.errors import ArtifactError, NupesError
from nupes.model.files import write_atomically
from nupes.model.network import (
    Encoder,
    InputEncoder,
    IntegerNetwork,
    Layer,
    Requantize,
    Residual,
    Tensor,
)
from nupes.model.operators import AveragePool, Conv, MaxPool, Operator, Select

__all__ = ["FORMAT", "load", "pack_codes", "save", "unpack_codes"]

FORMAT = "nupes-1"
"""Name and version of the format; another one is refused."""

SIMPLE_OPERATORS: dict[str, type] = {
    "average_pool": AveragePool,
    "select": Select,
    "max_pool": MaxPool,
}


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return codes as a dense little-endian bit string, uint8 of ``ceil(codes.size * bits / 8)``
    bytes."""
    flat = np.asarray(codes, np.uint8).reshape(-1, 1)
    return np.packbits(
        np.unpackbits(flat, axis=1, count=bits, bitorder="little"), bitorder="little"
    )


def unpack_codes(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the uint8 codes of the given shape from ``pack_codes``'s bit string."""
    size = int(np.prod(shape))
    if len(packed) != -(-size * bits // 8):
        raise ArtifactError(
            f"{size} codes of {bits} bits must take {-(-size * bits // 8)} bytes, not {len(packed)}"
        )
    unpacked = np.unpackbits(packed, count=size * bits, bitorder="little").reshape(size, bits)
    return np.packbits(unpacked, axis=1, bitorder="little").reshape(shape)


def save(network: IntegerNetwork, path: str | os.PathLike[str]) -> Path:
    """Write a network to one file, in one step; return its path."""
    tensors: dict[str, np.ndarray] = {"input.thresholds": network.encoder.thresholds}
    layers = [
        describe_layer(layer, f"layers.{i}", tensors) for i, layer in enumerate(network.layers)
    ]
    graph = {
        "input": describe_tensor(network.input, "input", tensors),
        "layers": layers,
        "scale": network.scale,
        "output_shape": list(network.output_shape),
        "metadata": network.metadata,
    }
    try:
        text = json.dumps(graph, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"network metadata must be JSON data: {error}") from error
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    header = {"format": FORMAT, "graph": text, "digest": digest(text, tensors)}
    return write_atomically(path, canonical(save_tensors(tensors, metadata=header)))


def canonical(data: bytes) -> bytes:
    """Return a safetensors file with its header in sorted order: equal networks, equal files.

    The library writes the metadata in another order every time.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # as the format asks: tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def load(path: str | os.PathLike[str]) -> IntegerNetwork:
    """Read a network; raise ``ArtifactError`` for a missing, damaged or foreign file."""
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"artifact {path} must be an existing file")
    try:
        with safe_open(path, framework="numpy") as handle:
            header = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}
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
    if header.get("digest") != digest(text, tensors):
        raise ArtifactError(f"artifact {path} is corrupted: its digest does not match its content")
    try:
        return build_network(json.loads(text), tensors)
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


def digest(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the graph and of every tensor's name, dtype, shape and bytes."""
    state = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        state.update(f"{name} {value.dtype} {value.shape}".encode())
        state.update(value.tobytes())
    return state.hexdigest()


def describe_codebook(book: Codebook, key: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Store a codebook's levels under ``key`` and return its parameters."""
    tensors[f"{key}.levels"] = book.levels
    return {
        "bits": book.bits,
        "family": book.family,
        "signed": book.signed,
        "lmax": book.lmax,
        "exponent": book.exponent,
    }


def build_codebook(
    data: Mapping[str, Any], key: str, tensors: Mapping[str, np.ndarray]
) -> Codebook:
    """Return the codebook stored under ``key``."""
    return Codebook(tensors[f"{key}.levels"], **data)


def describe_tensor(tensor: Tensor, key: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Store a tensor's codebook under ``key`` and return its description."""
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "scale": tensor.scale,
        "codebook": describe_codebook(tensor.codebook, key, tensors),
    }


def build_tensor(data: Mapping[str, Any], key: str, tensors: Mapping[str, np.ndarray]) -> Tensor:
    """Return the tensor described under ``key``."""
    height, width, channels = data["shape"]
    book = build_codebook(data["codebook"], key, tensors)
    return Tensor(data["name"], (height, width, channels), book, data["scale"])


def describe_operator(op: Operator, key: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Store an operator's arrays under ``key`` and return its description."""
    if not isinstance(op, Conv):
        kind = next(name for name, cls in SIMPLE_OPERATORS.items() if isinstance(op, cls))
        return {"kind": kind, **asdict(op)}
    tensors[f"{key}.weight.codes"] = pack_codes(op.codes, op.codebook.bits)
    tensors[f"{key}.weight.scale"] = np.asarray(op.scale, np.float64)
    return {
        "kind": "conv",
        "shape": list(op.codes.shape),
        "codebook": describe_codebook(op.codebook, f"{key}.weight", tensors),
        "stride": op.stride,
        "padding": op.padding,
        "dilation": op.dilation,
        "groups": op.groups,
    }


def build_operator(
    data: Mapping[str, Any], key: str, tensors: Mapping[str, np.ndarray]
) -> Operator:
    """Return the operator described under ``key``."""
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in data.items() if name != "kind"
    }
    if data["kind"] != "conv":
        return SIMPLE_OPERATORS[data["kind"]](**values)
    book = build_codebook(values.pop("codebook"), f"{key}.weight", tensors)
    shape = values.pop("shape")
    codes = unpack_codes(tensors[f"{key}.weight.codes"], book.bits, shape)
    return Conv(codes, book, tensors[f"{key}.weight.scale"], **values)


def describe_layer(layer: Layer, key: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Store a layer's arrays under ``key`` and return its description."""
    data: dict[str, Any] = {
        "name": layer.name,
        "input": layer.input,
        "op": describe_operator(layer.op, key, tensors),
        "output": describe_tensor(layer.output, f"{key}.output", tensors) if layer.output else None,
        "residual": asdict(layer.residual) if layer.residual else None,
    }
    if layer.requantize:
        tensors[f"{key}.mult"] = layer.requantize.mult.astype(np.int32)
        tensors[f"{key}.bias"] = layer.requantize.bias.astype(np.int64)
        tensors[f"{key}.shift"] = layer.requantize.shift.astype(np.int32)
    if layer.encoder:
        tensors[f"{key}.encoder.thresholds"] = layer.encoder.thresholds.astype(np.int16)
        tensors[f"{key}.encoder.codes"] = layer.encoder.codes.astype(np.uint8)
    return data


def build_layer(data: Mapping[str, Any], key: str, tensors: Mapping[str, np.ndarray]) -> Layer:
    """Return the layer described under ``key``."""
    requantize, encoder = None, None
    if f"{key}.mult" in tensors:
        requantize = Requantize(*(tensors[f"{key}.{name}"] for name in ("mult", "bias", "shift")))
    if f"{key}.encoder.codes" in tensors:
        encoder = Encoder(tensors[f"{key}.encoder.thresholds"], tensors[f"{key}.encoder.codes"])
    return Layer(
        name=data["name"],
        op=build_operator(data["op"], key, tensors),
        input=data["input"],
        output=build_tensor(data["output"], f"{key}.output", tensors) if data["output"] else None,
        requantize=requantize,
        residual=Residual(**data["residual"]) if data["residual"] else None,
        encoder=encoder,
    )


def build_network(graph: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> IntegerNetwork:
    """Return the network of a graph and its tensors."""
    layers = [build_layer(data, f"layers.{i}", tensors) for i, data in enumerate(graph["layers"])]
    return IntegerNetwork(
        input=build_tensor(graph["input"], "input", tensors),
        encoder=InputEncoder(tensors["input.thresholds"]),
        layers=tuple(layers),
        scale=graph["scale"],
        output_shape=tuple(graph["output_shape"]),
        metadata=graph["metadata"],
    )
