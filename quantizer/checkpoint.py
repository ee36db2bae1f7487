"""Checkpoints: the choices of a long quantization so far, in one safetensors file.

A file belongs to one quantization, by the fingerprint of everything that decides its outcome. Going
on from it gives the network that an uninterrupted run gives.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from nupes.model.codebook import Codebook
from nupes.model.errors import InputError, NupesError
from nupes.model.files import write_atomically
from nupes.quantizer.codes.decisions import Choices, TensorCode, WeightCode

__all__ = ["Checkpoint", "State", "fingerprint"]

FORMAT = "nupes-checkpoint-1"
"""Name and version of the format."""

PARTS = ("choices", "found")
"""Choices of a state."""


@dataclass(frozen=True, eq=False)
class State:
    """Choices, the pass that they come from (0 is the search, then the phases, then the search on
    all images), how many of its stages or units are done, and the choices ``found`` by the whole
    search that learning began with."""

    step: int = 0
    done: int = 0
    choices: Choices = field(default_factory=Choices)
    found: Choices = field(default_factory=Choices)


@dataclass(frozen=True)
class Checkpoint:
    """A file for the progress of one quantization; without a path nothing is kept."""

    path: Path | None
    owner: str

    def load(self) -> State:
        """Return the progress in the file, or none where there is no file; raise ``InputError`` for
        a file that is damaged or belongs to another quantization."""
        if self.path is None or not self.path.exists():
            return State()
        try:
            with safe_open(self.path, framework="numpy") as handle:
                header = handle.metadata() or {}
                arrays = {name: handle.get_tensor(name) for name in handle.keys()}
            if header.get("format") != FORMAT:
                raise ValueError(f"its format is {header.get('format')!r}, not {FORMAT!r}")
            owner, data = header["owner"], json.loads(header["state"])
            parts = {name: build_choices(data[name], arrays, name) for name in PARTS}
            state = State(data["step"], data["done"], **parts)
        except (SafetensorError, OSError, LookupError, TypeError, ValueError, NupesError) as error:
            raise InputError(
                f"checkpoint {self.path} must be one that quantize wrote ({error}); delete it or "
                "name another file"
            ) from error
        if owner != self.owner:
            raise InputError(
                f"checkpoint {self.path} must belong to this quantization, but its model, "
                "calibration data or options were others; delete it or name another file"
            )
        return state

    def save(self, state: State) -> None:
        """Replace what the file holds."""
        if self.path is None:
            return
        arrays: dict[str, np.ndarray] = {}
        parts = {name: describe_choices(getattr(state, name), arrays, name) for name in PARTS}
        data = {"step": state.step, "done": state.done, **parts}
        header = {"format": FORMAT, "owner": self.owner, "state": json.dumps(data)}
        arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        write_atomically(self.path, save_tensors(arrays, metadata=header))

    def remove(self) -> None:
        """Remove the file: the quantization is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def fingerprint(*parts: Any) -> str:
    """Return a digest of values: arrays by dtype, shape and bytes, data classes by their fields,
    functions not at all (what holds one has its name), and others by their text."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif is_dataclass(part):
            add([type(part).__name__, *(getattr(part, item.name) for item in fields(part))])
        elif isinstance(part, list | tuple):
            digest.update(f"{len(part)} of".encode())
            for item in part:
                add(item)
        elif not callable(part):
            digest.update(f"{part!r};".encode())

    add(parts)
    return digest.hexdigest()


def describe_choices(choices: Choices, arrays: dict[str, np.ndarray], part: str) -> dict[str, Any]:
    """Store the arrays of choices, which are a part of a state, and return the rest of them."""
    for name, code in choices.weights.items():
        arrays[f"{part}/codes/{name}"] = code.codes
        arrays[f"{part}/scale/{name}"] = code.scale
    for name, bias in choices.bias.items():
        arrays[f"{part}/bias/{name}"] = bias
    tensors = {
        name: {
            "codebook": describe_codebook(code.codebook),
            "scale": float(code.scale),
            "exponent": code.exponent,
            "error": float(code.error),
        }
        for name, code in choices.tensors.items()
    }
    weights = {name: describe_codebook(code.codebook) for name, code in choices.weights.items()}
    return {
        "tensors": tensors,
        "weights": weights,
        "bias": list(choices.bias),
        "reach": choices.reach,
        "learned": choices.learned,
    }


def build_choices(data: dict[str, Any], arrays: dict[str, np.ndarray], part: str) -> Choices:
    """Return choices from ``describe_choices``."""
    return Choices(
        tensors={
            name: TensorCode(**{**code, "codebook": Codebook(**code["codebook"])})
            for name, code in data["tensors"].items()
        },
        weights={
            name: WeightCode(
                Codebook(**book), arrays[f"{part}/codes/{name}"], arrays[f"{part}/scale/{name}"]
            )
            for name, book in data["weights"].items()
        },
        bias={name: arrays[f"{part}/bias/{name}"] for name in data["bias"]},
        reach=data["reach"],
        learned=data["learned"],
    )


def describe_codebook(codebook: Codebook) -> dict[str, Any]:
    """Return the fields of a codebook as JSON data."""
    return {
        "levels": codebook.levels.tolist(),
        "bits": codebook.bits,
        "family": codebook.family,
        "signed": codebook.signed,
        "lmax": codebook.lmax,
        "exponent": None if codebook.exponent is None else float(codebook.exponent),
    }
