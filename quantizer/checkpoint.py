"""Checkpoints: the choices of a long quantization so far, in one safetensors file.

A file belongs to one quantization, by the fingerprint of everything that decides its outcome. Going
on from it gives the network that an uninterrupted run gives. A digest over all that it holds makes
a damaged file an error instead of another network.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from nupes.model.artifact.container import digest
from nupes.model.codebook import Codebook
from nupes.model.errors import InputError, NupesError
from nupes.model.files import write_atomically
from nupes.quantizer.codes.decisions import Choices, TensorCode, WeightCode

__all__ = ["Checkpoint", "State", "fingerprint"]

FORMAT = "nupes-checkpoint-2"
"""Name and version of the format."""

PARTS = ("choices", "found")
"""Choices of a state."""

CODEBOOK = {
    "levels": [int],
    "bits": int,
    "family": str,
    "signed": bool,
    "lmax": int | None,
    "exponent": float | None,
}
TENSOR = {"codebook": CODEBOOK, "scale": float, "exponent": float | None, "error": float}
CHOICES = {
    "tensors": {str: TENSOR},
    "weights": {str: CODEBOOK},
    "wide": {str: float},
    "bias": [str],
    "reach": {str: float},
    "learned": bool,
}
STATE = {"step": int, "done": int, **dict.fromkeys(PARTS, CHOICES)}
"""Types of the JSON data: of fields by name, of any names (``str``), of the items of a list."""


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
            owner, text = header["owner"], header["state"]
            if header["digest"] != digest(owner + text, arrays):
                raise ValueError("its digest does not match its content")
            data = json.loads(text)
            check_type(data, STATE, "state")
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
        text = json.dumps(data, allow_nan=False)
        arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        header = {
            "format": FORMAT,
            "owner": self.owner,
            "state": text,
            "digest": digest(self.owner + text, arrays),
        }
        write_atomically(self.path, save_tensors(arrays, metadata=header))

    def remove(self) -> None:
        """Remove the file: the quantization is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def check_type(value: Any, kind: Any, where: str) -> None:
    """Refuse JSON data that are not of a kind, as in ``STATE``; floats are finite."""
    if isinstance(kind, list) and isinstance(value, list):
        for index, item in enumerate(value):
            check_type(item, kind[0], f"{where}[{index}]")
    elif isinstance(kind, dict) and isinstance(value, dict):
        if str not in kind and value.keys() != kind.keys():
            raise ValueError(f"{where} must have the fields {', '.join(kind)}")
        for name, item in value.items():
            check_type(item, kind.get(str) or kind[name], f"{where}.{name}")
    elif isinstance(kind, list | dict) or type(value) not in (get_args(kind) or (kind,)):
        raise ValueError(f"{where} must not be {value!r}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, not {value}")


def check_codes(code: WeightCode, where: str) -> WeightCode:
    """Return codes and scales of weights; refuse others than the codebook's, and other types."""
    codes, scale = code.codes, code.scale
    if codes.dtype != np.uint8 or codes.max(initial=0) >= len(code.codebook):
        raise ValueError(f"{where} must have codes of its codebook")
    if scale.dtype != np.float64 or scale.shape != codes.shape[:1] or not np.isfinite(scale).all():
        raise ValueError(f"{where} must have one finite scale for each channel")
    return code


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
        "wide": {name: float(scale) for name, scale in choices.wide.items()},
        "bias": list(choices.bias),
        "reach": {name: float(value) for name, value in choices.reach.items()},
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
            name: check_codes(
                WeightCode(
                    Codebook(**book), arrays[f"{part}/codes/{name}"], arrays[f"{part}/scale/{name}"]
                ),
                f"weights of {name}",
            )
            for name, book in data["weights"].items()
        },
        wide=data["wide"],
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
        "lmax": None if codebook.lmax is None else int(codebook.lmax),
        "exponent": None if codebook.exponent is None else float(codebook.exponent),
    }
