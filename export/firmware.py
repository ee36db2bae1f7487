"""C firmware: the packed weight codes as a hex image, every table in a C file, and a small runtime.

The runtime (``nupes.c``) is the same for every network. It reads the packed codes where they are;
nothing is unpacked, and no number is recomputed from a scale.
"""

import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from nupes.compiler.place.memory import Request, arrange
from nupes.model.errors import ArtifactError
from nupes.model.files import write_atomically
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Conv, MaxPool, Select
from nupes.model.packing import pack_codes

__all__ = ["build_firmware", "export_firmware", "intel_hex", "memory_map"]

RUNTIME = ("nupes.h", "nupes.c", "main.c")
"""Files that are the same for every network."""

KINDS = {
    Conv: "NUPES_CONV",
    AveragePool: "NUPES_AVERAGE",
    Select: "NUPES_SELECT",
    MaxPool: "NUPES_MAX",
}

WIDTH = 100
"""Columns of the generated files."""


@dataclass(frozen=True)
class MemoryMap:
    """Where everything lies, in bytes: ``bases`` of tensors by name in the activation memory, of
    ``activations`` bytes; ``weights`` of layers by name in the weight image."""

    bases: dict[str, int]
    activations: int
    weights: dict[str, int]
    image: bytes


def memory_map(network: IntegerNetwork) -> MemoryMap:
    """Return the memory map: tensors share bytes when they do not live at the same time."""
    last = {name: -1 for name in network.stored}
    born = {network.the_input.tensor.name: -1}
    weights, image = {}, b""
    for index, layer in enumerate(network.layers):
        for port in layer.reads:
            last[port.tensor] = index
        if not layer.wide:
            born[layer.output.name] = last[layer.output.name] = index
        if isinstance(layer.op, Conv):
            weights[layer.name] = len(image)
            image += pack_codes(layer.op.codes, layer.op.codebook.bits).tobytes()
    requests = [
        Request(name, int(np.prod(tensor.shape)), born[name], last[name])
        for name, tensor in network.stored.items()
    ]
    placed = arrange(requests)
    size = max(base + request.words for request, base in placed)
    return MemoryMap({request.name: base for request, base in placed}, size, weights, image)


def intel_hex(data: bytes) -> bytes:
    """Return an Intel HEX file: records of 16 bytes from address 0, with checksums."""

    def record(address: int, kind: int, payload: bytes) -> str:
        body = bytes([len(payload), *address.to_bytes(2, "big"), kind]) + payload
        return f":{body.hex()}{-sum(body) & 0xFF:02x}\n".upper()

    lines = []
    for start in range(0, len(data), 16):
        if start and start % 0x10000 == 0:
            lines.append(record(0, 4, (start >> 16).to_bytes(2, "big")))
        lines.append(record(start & 0xFFFF, 0, data[start : start + 16]))
    return "".join([*lines, record(0, 1, b"")]).encode()


def comment(name: str) -> str:
    """Return a name without characters that could end or open a comment."""
    return re.sub(r"[^A-Za-z0-9_.: -]", "_", name)


def array(kind: str, name: str, values: np.ndarray) -> str:
    """Return the definition of a constant C array."""
    lines, line = [], "   "
    for value in values.tolist():
        if len(line) + len(f" {value},") > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {value},"
    return "\n".join([f"static const {kind} {name}[] = {{", *lines, line, "};\n"])


def numbers(*values: int) -> str:
    """Return an initializer of numbers."""
    return "{" + ", ".join(map(str, values)) + "}"


def layer_arrays(layer: Layer, index: int) -> str:
    """Return the arrays of one layer, under a comment with its name."""
    parts = [f"/* layer {index}: {comment(layer.name)} */\n"]
    if isinstance(layer.op, Conv):
        parts.append(array("int8_t", f"levels_{index}", layer.op.codebook.levels))
    if layer.post is not None:
        parts.append(array("uint16_t", f"mult_{index}", layer.post.requantize.mult))
        parts.append(array("int64_t", f"bias_{index}", layer.post.requantize.bias))
        parts.append(array("uint8_t", f"shift_{index}", layer.post.requantize.shift))
    if layer.encoder is not None:
        if len(layer.encoder.thresholds):
            parts.append(array("int16_t", f"thresholds_{index}", layer.encoder.thresholds))
        parts.append(array("uint8_t", f"codes_{index}", layer.encoder.codes))
    return "".join(parts)


def layer_entry(network: IntegerNetwork, layer: Layer, index: int, places: MemoryMap) -> str:
    """Return the initializer of one layer's description."""
    order = {name: number for number, name in enumerate(network.stored)}
    op = layer.op
    conv = op if isinstance(op, Conv) else None
    encoded = layer.encoder is not None
    steps = len(layer.encoder.thresholds) if layer.encoder is not None else 0
    groups = op.groups if isinstance(op, Conv) else 1
    fields = {
        "kind": KINDS[type(op)],
        "input": order[layer.inputs[0].tensor],
        "output": order[layer.output.name] if not layer.wide else -1,
        "skip": order[layer.residual.port.tensor] if layer.residual else -1,
    }
    fields |= dict(zip(("height", "width", "channels"), layer.output.shape, strict=True))
    fields |= {
        "kernel": numbers(*op.kernel),
        "stride": numbers(*op.stride),
        "before": numbers(op.padding[0], op.padding[2]),
        "dilation": numbers(*op.dilation),
        "groups": groups,
        "offset": op.offset if isinstance(op, Select) else 0,
        "weights": places.weights.get(layer.name, 0),
        "bits": conv.codebook.bits if conv else 0,
        "levels": f"levels_{index}" if conv else 0,
        "mult": f"mult_{index}" if layer.post else 0,
        "bias": f"bias_{index}" if layer.post else 0,
        "shift": f"shift_{index}" if layer.post else 0,
        "skip_mult": layer.residual.mult if layer.residual else 0,
        "skip_shift": layer.residual.shift if layer.residual else 0,
        "steps": steps,
        "thresholds": f"thresholds_{index}" if steps else 0,
        "codes": f"codes_{index}" if encoded else 0,
    }
    body = ", ".join(f".{name} = {value}" for name, value in fields.items())
    return f"    /* {index}: {comment(layer.name)} */\n    {{{body}}},\n"


def header(network: IntegerNetwork, places: MemoryMap) -> str:
    """Return ``network.h``: sizes, and what lies where."""
    height, width, channels = network.the_input.tensor.shape
    rows = []
    for layer in network.layers:
        if isinstance(layer.op, Conv):
            codes, bits = layer.op.codes, layer.op.codebook.bits
            size = -(-codes.size * bits // 8)
            rows.append(
                f" *   0x{places.weights[layer.name]:06x}  {size:8d} bytes  {codes.size:8d} codes"
                f" of {bits} bits  {comment(layer.name)}  {codes.shape}"
            )
    weights = "\n".join(rows)
    maps = "\n".join(
        f" *   0x{places.bases[name]:06x}  {np.prod(tensor.shape):8d} bytes"
        f"  {comment(name)}  {tensor.shape}"
        for name, tensor in network.stored.items()
    )
    return f"""/* An integer network for the nupes runtime; written by nupes, not by hand.
 *
 *   cc -std=c99 -O2 main.c nupes.c network.c -o network
 *   ./network weights.hex < codes.bin
 *
 * Weight image (weights.hex, Intel HEX): the codes of each layer in the order (output channel,
 * input channel of the group, row, column), one string of bits, each code and each byte from its
 * least significant bit; a layer begins at a whole byte.
 *
{weights}
 *
 * Activation memory: maps (height, width, channels), one byte a code; maps that are never needed
 * at the same time share bytes.
 *
{maps}
 *
 * The real result is y * {network.layers[-1].output.scale!r}.
 */
#ifndef NETWORK_H
#define NETWORK_H

#include "nupes.h"

#define NETWORK_INPUT_BYTES {height * width * channels}
#define NETWORK_INPUT_BASE {places.bases[network.the_input.tensor.name]}
#define NETWORK_RESULTS {int(np.prod(network.the_output.shape))}
#define NETWORK_WEIGHT_BYTES {len(places.image)}
#define NETWORK_MEMORY_BYTES {places.activations}

extern const nupes_network network;

#endif
"""


def source(network: IntegerNetwork, places: MemoryMap) -> str:
    """Return ``network.c``: every table, tensor and layer."""
    parts = ['#include "network.h"\n\n']
    for index, (name, tensor) in enumerate(network.stored.items()):
        parts.append(f"/* tensor {index}: {comment(name)} */\n")
        parts.append(array("int16_t", f"tensor_{index}", tensor.codebook.levels))
    parts += [layer_arrays(layer, index) for index, layer in enumerate(network.layers)]
    parts.append("static const nupes_tensor tensors[] = {\n")
    for index, (name, tensor) in enumerate(network.stored.items()):
        sizes = ", ".join(map(str, tensor.shape))
        parts.append(f"    {{{sizes}, {places.bases[name]}, tensor_{index}}},\n")
    parts.append("};\nstatic const nupes_layer layers[] = {\n")
    parts += [
        layer_entry(network, layer, index, places) for index, layer in enumerate(network.layers)
    ]
    parts.append("};\n")
    parts.append(f"const nupes_network network = {{tensors, layers, {len(network.layers)}}};\n")
    return "".join(parts)


def build_firmware(network: IntegerNetwork) -> dict[str, bytes]:
    """Return the files of a network's firmware by name.

    ``weights.hex`` holds the packed codes and nothing else: ``ceil(codes * bits / 8)`` bytes for
    each layer. ``network.h`` says what lies where, ``network.c`` has the tables; ``nupes.h``,
    ``nupes.c`` and ``main.c`` are the runtime and a program for the host.
    """
    places = memory_map(network)
    folder = files("nupes.export")
    return {
        "weights.hex": intel_hex(places.image),
        "network.h": header(network, places).encode(),
        "network.c": source(network, places).encode(),
        **{name: folder.joinpath(name).read_bytes() for name in RUNTIME},
    }


def export_firmware(network: IntegerNetwork, folder: str | os.PathLike[str]) -> list[Path]:
    """Write a network's firmware into a folder, which is made if it is missing; return the paths.

    Each file is complete or not there.
    """
    contents, folder = build_firmware(network), Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"output folder {folder} must be writable: {error.strerror}") from error
    return [write_atomically(folder / name, data) for name, data in contents.items()]
