"""Dataclasses as JSON data and arrays: the schema of a class is its type hints.

A dataclass is an object whose keys are its fields; one of several dataclasses, and an operator, has
one key more, ``kind``. An array is its shape; the numbers lie beside, under the path of the field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from nupes.model.artifact.schema import (
    Arrays,
    Choice,
    Free,
    Items,
    Nullable,
    Scalar,
    Schema,
    require,
)
from nupes.model.errors import ArtifactError, NupesError
from nupes.model.operators import OPERATORS, Operator
from nupes.model.packing import pack_codes, unpack_codes
from nupes.model.stored import Stored

__all__ = ["check_all", "schema_of"]


@dataclass(frozen=True)
class Array(Schema):
    """An array of a fixed type and number of axes: its shape, and beside it the numbers."""

    stored: Stored

    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return the shape; add the array."""
        arrays[path] = np.ascontiguousarray(value, self.stored.dtype)
        return list(np.shape(value))

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse an array of another type or shape."""
        Items(Scalar(int), self.stored.axes).check(data, path, arrays)
        self.take(path, arrays, data)

    def take(self, path: str, arrays: Arrays, shape: Sequence[int] | None) -> None:
        """Remove an array; refuse one that is not there, of another type or another shape; without
        ``shape`` any vector will do."""
        if path not in arrays:
            raise ArtifactError(f"array {path} must be in the file")
        found = arrays.pop(path)
        fits = found.ndim == 1 if shape is None else list(found.shape) == list(shape)
        size = "one axis" if shape is None else f"shape {list(shape)}"
        require(
            found.dtype.name == self.stored.dtype and fits,
            f"array {path}",
            f"{self.stored.dtype} of {size}",
            f"{found.dtype.name} of shape {list(found.shape)}",
        )

    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return the array."""
        return arrays[path]


@dataclass(frozen=True)
class Record(Schema):
    """A dataclass: an object whose keys are its fields.

    Codes that are packed take the bits of the field ``codebook`` beside them.
    """

    of: type

    @property
    def items(self) -> dict[str, Schema]:
        """The schema of every field, by name."""
        return items_of(self.of)

    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return the fields."""
        found = {}
        for name, item in self.items.items():
            part, key = getattr(value, name), join(path, name)
            found[name] = item.describe(part, key, arrays)
            if is_packed(item):
                arrays[key] = pack_codes(part, value.codebook.bits)
        return found

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse other keys, and values of other types."""
        require(
            isinstance(data, dict) and data.keys() == self.items.keys(),
            path or "graph",
            f"an object with the keys {', '.join(self.items) or 'none'}",
            list(data) if isinstance(data, dict) else data,
        )
        for name, item in self.items.items():
            item.check(data[name], join(path, name), arrays)

    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return the dataclass; name the place of what it refuses."""
        values = {n: i.build(data[n], join(path, n), arrays) for n, i in self.items.items()}
        try:
            for name, item in self.items.items():
                if is_packed(item):
                    values[name] = unpack_codes(
                        values[name], values["codebook"].bits, tuple(data[name])
                    )
            return self.of(**values)
        except NupesError as error:
            raise ArtifactError(f"{path}: {error}" if path else str(error)) from error


@dataclass(frozen=True)
class PackedArray(Array):
    """Codes, which lie beside as a string of bits."""

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse a shape that is none, and bits that are no string of bytes."""
        Items(Scalar(int), self.stored.axes).check(data, path, arrays)
        require(min(data) > 0, path, "a shape of positive sizes", data)
        self.take(path, arrays, None)


@dataclass(frozen=True)
class Tagged(Schema):
    """One of several dataclasses, told apart by the key ``kind``."""

    kinds: tuple[tuple[str, Record], ...]

    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return kind and fields."""
        return {"kind": value.kind, **dict(self.kinds)[value.kind].describe(value, path, arrays)}

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse an unknown kind, then what its dataclass refuses."""
        kinds = dict(self.kinds)
        require(isinstance(data, dict) and "kind" in data, path, "an object with a kind", data)
        Choice(tuple(kinds)).check(data["kind"], join(path, "kind"), arrays)
        kinds[data["kind"]].check(fields_only(data), path, arrays)

    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return the dataclass of its kind."""
        return dict(self.kinds)[data["kind"]].build(fields_only(data), path, arrays)


@cache
def schema_of(hint: Any) -> Schema:
    """Return the schema of a type hint; raise ``TypeError`` for one that no file can hold."""
    if get_origin(hint) is Annotated:
        stored = get_args(hint)[1]
        return PackedArray(stored) if stored.packed else Array(stored)
    if hint is Operator:
        return Tagged(tuple((kind, Record(cls)) for kind, cls in OPERATORS.items()))
    if is_dataclass(hint) and isinstance(hint, type):
        return Record(hint)
    if hint in (int, float, bool, str):
        return Scalar(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        rest = [arg for arg in args if arg is not NoneType]
        several = len(rest) > 1
        inner = Tagged(tuple((a.kind, Record(a)) for a in rest)) if several else schema_of(rest[0])
        return Nullable(inner) if len(rest) < len(args) else inner
    if origin is Literal:
        return Choice(args)
    if origin is tuple and len({*args} - {Ellipsis}) == 1:
        return Items(schema_of(args[0]), None if args[-1] is Ellipsis else len(args))
    if origin is Mapping:
        return Free()
    raise TypeError(f"{hint} has no form in an artifact")


@cache
def items_of(of: type) -> dict[str, Schema]:
    """Return the schema of every field that makes a dataclass, by name."""
    hints = get_type_hints(of, include_extras=True)
    return {item.name: schema_of(hints[item.name]) for item in fields(of) if item.init}  # pyright: ignore[reportArgumentType]


def check_all(schema: Schema, data: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse JSON data and arrays that are not of a type, and arrays that the data do not name."""
    rest = dict(arrays)
    schema.check(data, "", rest)
    for name in sorted(rest):
        raise ArtifactError(f"array {name} must be named by the graph")


def join(path: str, name: str) -> str:
    """Return the path of a field."""
    return f"{path}.{name}" if path else name


def fields_only(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without its kind."""
    return {name: value for name, value in data.items() if name != "kind"}


def is_packed(item: Schema) -> bool:
    """Return whether a field's codes lie in the file as a string of bits."""
    return isinstance(item, PackedArray)
