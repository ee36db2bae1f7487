"""Files of format ``nupes-1``: their graph and arrays as those of the format that is written now.

A network of that format has one input, one output, and layers that read one tensor as a whole. Only
what must be named differently is touched; whatever else stands there, the schema judges.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nupes.model.errors import ArtifactError

__all__ = ["FORMAT", "convert"]

FORMAT = "nupes-1"
"""Name and version of the older format."""

Arrays = Mapping[str, np.ndarray]
"""What lies beside a graph, by name."""

NAMES = {
    "weight.codes": "op.codes",
    "weight.levels": "op.codebook.levels",
    "weight.scale": "op.scale",
    "output.levels": "output.format.codebook.levels",
    "mult": "post.requantize.mult",
    "bias": "post.requantize.bias",
    "shift": "post.requantize.shift",
    "encoder.thresholds": "post.encoder.thresholds",
    "encoder.codes": "post.encoder.codes",
}
"""The arrays of a layer: their names in ``nupes-1``, and now."""


def convert(graph: Any, arrays: Arrays) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return graph and arrays of the format that is written now; raise ``ArtifactError`` for a
    graph that is none of ``nupes-1``."""
    try:
        check_signs(arrays)
        return convert_graph(graph, arrays), {rename(n): array for n, array in arrays.items()}
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ArtifactError(f"graph must be one of format {FORMAT!r}: {error}") from error


def check_signs(arrays: Arrays) -> None:
    """Refuse negative multipliers, which that format had none of."""
    for name, array in arrays.items():
        if name.endswith(".mult") and array.min(initial=0) < 0:
            raise ValueError(f"array {name} must have no negative numbers")


def rename(name: str) -> str:
    """Return the name that an array has now."""
    head, _, rest = name.partition(".")
    if head == "input":
        kind = {"thresholds": "encoder.thresholds", "levels": "tensor.format.codebook.levels"}
        return f"inputs.0.{kind.get(rest, rest)}"
    index, _, rest = rest.partition(".")
    return f"{head}.{index}.{NAMES.get(rest, rest)}"


def values(data: Mapping[str, Any], *keys: str) -> list[Any]:
    """Return the values of an object that has these keys and no others."""
    if set(data) != set(keys):
        raise ValueError(f"an object must have the keys {', '.join(keys)}, not {', '.join(data)}")
    return [data[key] for key in keys]


def sizes(arrays: Arrays, name: str) -> list[int]:
    """Return the shape of an array: what stands for it in a graph now."""
    if name not in arrays:
        raise ValueError(f"array {name} must be in the file")
    return list(arrays[name].shape)


def convert_graph(graph: Mapping[str, Any], arrays: Arrays) -> dict[str, Any]:
    """Return the graph."""
    source, old, scale, shape, metadata = values(
        graph, "input", "layers", "scale", "output_shape", "metadata"
    )
    first = convert_tensor(source, "input", arrays)
    tensors, layers = {first["name"]: first}, []
    for index, data in enumerate(old):
        layer = convert_layer(data, f"layers.{index}", tensors, arrays)
        if layer["output"] is None:
            name = data["name"]
            while name in tensors:
                name += "_"
            form = {"kind": "wide", "scale": scale}
            size = result_shape(data["op"], tensors[data["input"]]["shape"])
            layer["output"] = {"name": name, "shape": size, "format": form}
        tensors[layer["output"]["name"]] = layer["output"]
        layers.append(layer)
    return {
        "inputs": [
            {
                "tensor": first,
                "encoder": {"thresholds": sizes(arrays, "input.thresholds")},
                "lookup": None,
                "positions": None,
                "source": None,
            }
        ],
        "layers": layers,
        "outputs": [{"tensor": layers[-1]["output"]["name"], "shape": shape}],
        "state": [],
        "constants": [],
        "metadata": metadata,
    }


def convert_tensor(data: Mapping[str, Any], key: str, arrays: Arrays) -> dict[str, Any]:
    """Return a tensor of codes."""
    name, shape, scale, book = values(data, "name", "shape", "scale", "codebook")
    codebook = convert_codebook(book, f"{key}.levels", arrays)
    form = {"kind": "coded", "codebook": codebook, "scale": scale}
    return {"name": name, "shape": shape, "format": form}


def convert_codebook(data: Mapping[str, Any], key: str, arrays: Arrays) -> dict[str, Any]:
    """Return a codebook; ``signed`` of a table was a note, and may have been wrong."""
    bits, family, signed, lmax, exponent = values(
        data, "bits", "family", "signed", "lmax", "exponent"
    )
    shape = sizes(arrays, key)
    if family == "table" and isinstance(signed, bool):
        signed = bool(arrays[key].min() < 0)
    parameters = {"bits": bits, "family": family, "signed": signed}
    return {"levels": shape, **parameters, "lmax": lmax, "exponent": exponent}


def convert_layer(
    data: Mapping[str, Any], key: str, tensors: Mapping[str, Any], arrays: Arrays
) -> dict[str, Any]:
    """Return a layer; its output is ``None`` where the old one had none."""
    name, source, op, output, residual = values(data, "name", "input", "op", "output", "residual")
    if output is not None:
        output = convert_tensor(output, f"{key}.output", arrays)
        if op["kind"] == "max_pool":
            # It copies codes: the scale of its result was a note, and is that of its source now.
            output["format"]["scale"] = tensors[source]["format"]["scale"]
    return {
        "name": name,
        "op": convert_operator(op, key, tensors[source]["shape"][2], arrays),
        "inputs": [port(source)],
        "output": output,
        "post": convert_post(residual, key, arrays),
    }


def port(tensor: str) -> dict[str, Any]:
    """Return what reads a whole tensor."""
    return {"tensor": tensor, "first": 0, "channels": None, "first_row": 0, "rows": None}


def convert_operator(
    op: Mapping[str, Any], key: str, channels: int, arrays: Arrays
) -> dict[str, Any]:
    """Return an operator of an input of so many channels."""
    if op["kind"] == "select":
        kind, count, offset, stride = values(op, "kind", "channels", "offset", "stride")
        numbers = [n - offset if 0 <= n - offset < channels else -1 for n in range(count)]
        return {"kind": kind, "channels": numbers, "stride": stride, "padding": [0] * 4}
    if op["kind"] != "conv":
        return dict(op)
    rest = {name: value for name, value in op.items() if name not in ("shape", "codebook")}
    return rest | {
        "codes": op["shape"],
        "codebook": convert_codebook(op["codebook"], f"{key}.weight.levels", arrays),
        "scale": sizes(arrays, f"{key}.weight.scale"),
    }


def convert_post(residual: Any, key: str, arrays: Arrays) -> dict[str, Any] | None:
    """Return what follows an accumulator, ``None`` where codes are copied."""
    if f"{key}.mult" not in arrays:
        if residual is not None:
            raise ValueError(f"{key}.residual must be null without a requantization")
        return None
    encoder = None
    if f"{key}.encoder.codes" in arrays:
        names = ("thresholds", "codes")
        parts = {name: sizes(arrays, f"{key}.encoder.{name}") for name in names}
        encoder = {"kind": "table", **parts}
    if residual is not None:
        tensor, mult, shift = values(residual, "tensor", "mult", "shift")
        residual = {"port": port(tensor), "mult": mult, "shift": shift}
    return {
        "requantize": {name: sizes(arrays, f"{key}.{name}") for name in ("mult", "bias", "shift")},
        "residual": residual,
        "encoder": encoder,
    }


def result_shape(op: Mapping[str, Any], source: Sequence[int]) -> list[int]:
    """Return the (h, w, n) of an operator's result, which ``nupes-1`` leaves out for the last
    layer."""
    conv = op["kind"] == "conv"
    kernel = op["shape"][2:] if conv else op.get("kernel", [1, 1])
    padding, dilation = op.get("padding", [0] * 4), op.get("dilation", [1, 1])
    sides = []
    for axis in range(2):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        size = source[axis] + padding[2 * axis] + padding[2 * axis + 1]
        sides.append((size - extent) // op["stride"][axis] + 1)
    return [*sides, op["shape"][0] if conv else op.get("channels", source[2])]
