"""JSON data by type: what a value is, what a file may hold in its place, and the value again.

Three things are done with a schema: ``describe`` a value, ``check`` what a file holds, by type and
before anything is built, and ``build`` what has been checked. Every place has a path, such as
``layers.3.op.stride``, by which errors name it and arrays lie in the file.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps
from math import isfinite
from typing import Any

import numpy as np

from nupes.model.errors import ArtifactError

__all__ = ["Arrays", "Choice", "Free", "Items", "Nullable", "Scalar", "Schema", "require"]

Arrays = dict[str, np.ndarray]
"""What lies beside the JSON data, by path."""


class Schema(ABC):
    """How values of one type are JSON data."""

    @abstractmethod
    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return a value as JSON data; add its arrays."""

    @abstractmethod
    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse JSON data of another type; remove the arrays that it names."""

    @abstractmethod
    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return the value of JSON data that has been checked."""


@dataclass(frozen=True)
class Scalar(Schema):
    """A number, a truth value, text or null, by the JSON type alone."""

    kind: type

    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return the value as Python's own type, whatever NumPy made of it."""
        return self.kind(value)

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse another JSON type, and numbers that are not finite."""
        if self.kind is float:
            number = isinstance(data, int | float) and not isinstance(data, bool)
            require(number and is_float(data), path, "a number of float64", data)
        else:
            words = {int: "an integer", bool: "true or false", str: "text"}
            require(type(data) is self.kind, path, words[self.kind], data)
        if isinstance(data, str):
            require(is_unicode(data), path, "text of whole characters", ascii(data))

    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return the value."""
        return self.kind(data)


@dataclass(frozen=True)
class Choice(Schema):
    """One of some words."""

    words: tuple[str, ...]

    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return the word."""
        return value

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse any other word."""
        require(data in self.words, path, f"one of {', '.join(self.words)}", data)

    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return the word."""
        return data


@dataclass(frozen=True)
class Free(Schema):
    """An object that holds anything: data for people."""

    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return the object."""
        return dict(value)

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse what is no object."""
        require(isinstance(data, dict), path, "an object", data)

    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return the object."""
        return data


@dataclass(frozen=True)
class Nullable(Schema):
    """A value or null."""

    item: Schema

    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return null or the value."""
        return None if value is None else self.item.describe(value, path, arrays)

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse what is neither null nor of the type."""
        if data is not None:
            self.item.check(data, path, arrays)

    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return ``None`` or the value."""
        return None if data is None else self.item.build(data, path, arrays)


@dataclass(frozen=True)
class Items(Schema):
    """A list of values of one type, of any length or of a fixed one."""

    item: Schema
    length: int | None

    def describe(self, value: Any, path: str, arrays: Arrays) -> Any:
        """Return the items."""
        return [self.item.describe(v, f"{path}.{i}", arrays) for i, v in enumerate(value)]

    def check(self, data: Any, path: str, arrays: Arrays) -> None:
        """Refuse what is no list, or one of another length."""
        rule = "a list" if self.length is None else f"a list of {self.length}"
        fits = isinstance(data, list) and self.length in (None, len(data))
        require(fits, path, rule, data)
        for index, item in enumerate(data):
            self.item.check(item, f"{path}.{index}", arrays)

    def build(self, data: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
        """Return a tuple."""
        return tuple(self.item.build(d, f"{path}.{i}", arrays) for i, d in enumerate(data))


def require(holds: bool, path: str, rule: str, found: Any) -> None:
    """Refuse what does not hold at a path."""
    if not holds:
        text = found if isinstance(found, str) else dumps(found, default=str)
        raise ArtifactError(f"graph: {path} must be {rule}, not {text[:80]}")


def is_float(value: int | float) -> bool:
    """Return whether float64 holds a number as it is; it has no huge integers."""
    try:
        return isfinite(value) and float(value) == value
    except OverflowError:
        return False


def is_unicode(text: str) -> bool:
    """Return whether a text can be written; half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
