"""What users name on the command line, loaded: models, data, arrays, shapes; errors say what is
there.
"""

import importlib.util
import logging
import math
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from numpy.lib.npyio import NpzFile

from nupes.arch.config import ArrayConfig
from nupes.model.errors import InputError

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

__all__ = [
    "has_labels",
    "load_array",
    "load_arrays",
    "load_labels",
    "load_model",
    "parse_array",
    "parse_bits",
    "parse_ends",
    "parse_overrides",
    "parse_range",
    "parse_shape",
    "quiet_torch",
    "run_model",
]

MODULE_PREFIX = "nupes_user_"
BATCH = 256
NOISY_LOGGERS = ("torch.export", "torch._subclasses.fake_tensor")


def parse_array(text: str) -> ArrayConfig:
    """Return the array of "16x16" or "16x16,act_depth=16384": rows x columns, then fields of
    ``ArrayConfig``."""
    size, *settings = text.split(",")
    match = re.fullmatch(r"\s*(\d+)\s*[xX]\s*(\d+)\s*", size)
    if match is None:
        raise InputError(f'array must be ROWSxCOLS, such as "16x16", not {text!r}')
    values: dict[str, Any] = {"rows": int(match[1]), "cols": int(match[2])}
    known = [item.name for item in fields(ArrayConfig) if item.name not in values]
    for setting in settings:
        name, _, value = (part.strip() for part in setting.partition("="))
        if name not in known:
            raise InputError(f"array setting must be one of {', '.join(known)}, not {setting!r}")
        values[name] = parse_setting(name, value)
    return ArrayConfig(**values)


def parse_setting(name: str, value: str) -> int | str | tuple[int, ...]:
    """Return the value of a field of ``ArrayConfig``: an integer, a word (mac), 0 or 1 (products,
    attention, spills), or 1:4:9."""
    if name == "mac":
        return value
    parts = value.split(":") if name.endswith("_magnitudes") else [value]
    flag = name in ("products", "attention", "spills")
    if not all(part.isdecimal() for part in parts) or (flag and value not in ("0", "1")):
        what = "integers such as 1:4:9" if name.endswith("_magnitudes") else "an integer"
        what = "0 or 1" if flag else what
        raise InputError(f"array setting {name} must be {what}, not {value!r}")
    if flag:
        return value == "1"
    return tuple(map(int, parts)) if name.endswith("_magnitudes") else int(parts[0])


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape of one input, such as "3,32,32" or "3x32x32": channels, height, width."""
    parts = re.split(r"[,xX]", text)
    if len(parts) > 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f'input shape must be one to three sizes, such as "3,32,32", not {text!r}')
    return tuple(map(int, parts))


def parse_range(text: str) -> tuple[float, float]:
    """Return the range of the input, "-2.2,2.7": least and greatest value."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f'input range must be LOW,HIGH, such as "-2.2,2.7", not {text!r}'
        ) from None
    return low, high


def parse_ends(text: str) -> int | None:
    """Return the bits of the first and last layer of "8"; of "scheme" None: the scheme's."""
    if text == "scheme":
        return None
    if not text.isdecimal():
        raise InputError(f"ends must be a number of bits or 'scheme', not {text!r}")
    return int(text)


def parse_bits(text: str) -> dict[str, int]:
    """Return kind -> bits of a text such as "keys=8,values=8"."""
    found = {}
    for part in text.split(","):
        kind, _, count = part.partition("=")
        if not kind or not count.isdecimal():
            raise InputError(f"bits must be KIND=BITS, such as keys=8,values=8, not {text!r}")
        found[kind] = int(count)
    return found


def parse_overrides(texts: list[str]) -> dict[str, str]:
    """Return pattern -> scheme of texts such as "block1.*=W8A8"."""
    overrides = {}
    for text in texts:
        pattern, mark, scheme = text.rpartition("=")
        if not mark or not pattern or not scheme:
            raise InputError(
                f'override must be PATTERN=SCHEME, such as "block1.*=W8A8", not {text!r}'
            )
        overrides[pattern] = scheme
    return overrides


@contextmanager
def open_archive(path: Path) -> Iterator[NpzFile]:
    """Yield an ``.npz`` file that holds no pickles; raise ``InputError`` for a damaged one."""
    if not path.is_file():
        raise InputError(f"data {path} must be an existing .npz file")
    try:
        archive = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise InputError(f"data {path} must be an .npz file (numpy.savez), not a single array")
        with archive:
            yield archive
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"data {path} must be a complete .npz file (numpy.savez): {error}"
        ) from error


def read_member(archive: NpzFile, path: Path, key: str) -> np.ndarray:
    """Return an array of an archive whose header and size agree: nothing is allocated before."""
    with zipfile.ZipFile(path) as file:
        name = key if key in file.namelist() else f"{key}.npy"
        size = file.getinfo(name).file_size
        member = file.open(name)
    with member:
        version = read_magic(member)
        read = read_array_header_1_0 if version == (1, 0) else read_array_header_2_0
        shape, _, dtype = read(member)
        claimed = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and claimed != size - member.tell():
            raise InputError(
                f"data {path}, key {key!r} must hold the {claimed} bytes of its shape {shape}, "
                f"not {size - member.tell()}"
            )
    try:
        return archive[key]
    except MemoryError as error:
        raise InputError(
            f"data {path}, key {key!r} must fit in memory, not have {size} bytes"
        ) from error


def split_spec(spec: str, default: str) -> tuple[Path, str]:
    """Return file and key of "file.npz" (its key ``default``) or "file.npz:key"."""
    path, mark, key = spec.rpartition(":")
    if not mark or "." in key or "/" in key:
        return Path(spec), default
    return Path(path), key


def load_array(spec: str, default: str = "x") -> np.ndarray:
    """Return the array that "file.npz" (its key ``default``) or "file.npz:key" names."""
    path, key = split_spec(spec, default)
    with open_archive(path) as archive:
        if key not in archive.files:
            raise InputError(
                f"data {path} must hold the key {key!r}; it holds "
                f"{', '.join(archive.files) or 'none'}"
            )
        values = read_member(archive, path, key)
    if values.dtype.kind not in "fiub":
        raise InputError(f"data {path}, key {key!r} must be real numbers, not {values.dtype}")
    if len(values.shape) == 0 or len(values) == 0:
        raise InputError(
            f"data {path}, key {key!r} must hold at least one image, not {values.shape}"
        )
    return values


def load_arrays(spec: str, default: str = "x") -> tuple[np.ndarray, ...]:
    """Return the array of each input: "file.npz" (its key ``default``), "file.npz:key", or
    "file.npz:key,key" for several inputs in their order; all have as many images."""
    path, keys = split_spec(spec, default)
    arrays = tuple(load_array(f"{path}:{key}") for key in keys.split(","))
    sizes = [len(array) for array in arrays]
    if len(set(sizes)) > 1:
        raise InputError(f"data {path}, keys {keys} must hold as many images each, not {sizes}")
    return arrays


def has_labels(spec: str, key: str) -> bool:
    """Whether the file of ``spec`` holds an array under a key."""
    with open_archive(split_spec(spec, "")[0]) as archive:
        return key in archive.files


def load_labels(spec: str, key: str, count: int) -> np.ndarray:
    """Return the integer class of each of ``count`` images, from the file of ``spec``."""
    labels = load_array(f"{split_spec(spec, '')[0]}:{key}")
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels {key!r} must be one integer for each of the {count} images, "
            f"not {labels.dtype} of shape {labels.shape}"
        )
    return labels


def load_model(spec: str) -> "nn.Module | ExportedProgram":
    """Return the model that "file.py:callable" or "file.pt2" names.

    Both run code: the Python file by nature, a ``.pt2`` file because ``torch.export.load`` may
    unpickle what it holds. Only open models that you trust.
    """
    if spec.endswith(".pt2"):
        return load_exported(Path(spec))
    path, mark, name = spec.rpartition(":")
    if not mark or not path.endswith(".py"):
        raise InputError(f"model must be FILE.py:CALLABLE or FILE.pt2, not {spec!r}")
    return call_factory(Path(path), name)


def load_exported(path: Path) -> "ExportedProgram":
    """Return the program of a ``torch.export`` file."""
    import torch

    if not path.is_file():
        raise InputError(f"model {path} must be an existing file")
    try:
        with quiet_torch():
            return torch.export.load(path)
    except Exception as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"model {path} must be a file from torch.export.save: {line}") from error


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Keep torch from logging tracebacks of errors that it raises as well."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def call_factory(path: Path, name: str) -> "nn.Module":
    """Return what the callable ``name`` of a Python file returns; the file may import its
    neighbours."""
    from torch import nn

    if not path.is_file():
        raise InputError(f"model {path} must be an existing file")
    module = import_file(path)
    factory = getattr(module, name, None)
    if factory is None:
        names = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise InputError(
            f"model {path} must define {name!r}; it defines {', '.join(names) or 'nothing to call'}"
        )
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise InputError(f"model {path}:{name} must be callable, not {type(factory).__name__}")
    try:
        model = factory()
    except (Exception, SystemExit) as error:
        raise InputError(f"model {path}:{name}() raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model {path}:{name}() must return a torch.nn.Module, not {type(model).__name__}"
        )
    return model


def import_file(path: Path) -> Any:
    """Import a Python file under a name of its own, with its directory on ``sys.path``."""
    spec = importlib.util.spec_from_file_location(MODULE_PREFIX + path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    directory = str(path.resolve().parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise InputError(f"model {path} raised {type(error).__name__}: {error}") from error
    return module


def run_model(model: "nn.Module | ExportedProgram", *images: np.ndarray) -> np.ndarray:
    """Return the float results (b, ...) of a model for images (b, c, h, w), an array for each of
    its inputs.

    Raise ``InputError`` if it does not take them or returns anything but one result for each.
    """
    import torch
    from torch.export import ExportedProgram

    batch, fixed = BATCH, False
    if isinstance(model, ExportedProgram):
        size = next(
            node.meta["val"].shape[0]
            for node in model.graph.nodes
            if node.name in model.graph_signature.user_inputs
        )
        fixed = isinstance(size, int)
        batch = size if fixed else BATCH
        module = model.module()
    else:
        module = model.eval()
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    parts = []
    for start in range(0, len(images[0]), batch):
        given = [
            torch.from_numpy(array[start : start + batch].astype(np.float64)).to(dtype)
            for array in images
        ]
        count = len(given[0])
        # A program that was exported for a fixed batch takes no other: repeat the last image.
        spare = batch - count if fixed else 0
        full = [torch.cat([part, part[-1:].expand(spare, *part.shape[1:])]) for part in given]
        try:
            with torch.no_grad():
                result = module(*full)
        except Exception as error:
            line = next(iter(str(error).splitlines()), type(error).__name__)
            shapes = " and ".join(str(tuple(part.shape)) for part in given)
            raise InputError(f"model does not take images {shapes}: {line}") from error
        if not isinstance(result, torch.Tensor) or result.shape[:1] != full[0].shape[:1]:
            found = (
                tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
            )
            raise InputError(
                f"model must return one result for each of {len(full[0])} images, not {found}"
            )
        parts.append(result[:count].double().numpy())
    return np.concatenate(parts)
