"""The schema of a class is its type hints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from nupes.model.artifact.records import check_all, schema_of
from nupes.model.artifact.schema import Arrays
from nupes.model.errors import ArtifactError
from nupes.model.operators import OPERATORS, Operator
from nupes.model.stored import Int16Vector


@dataclass(frozen=True)
class Small:
    """A part with an array."""

    kind: ClassVar[str] = "small"
    numbers: Int16Vector


@dataclass(frozen=True)
class Large:
    """Another part."""

    kind: ClassVar[str] = "large"
    size: int


@dataclass(frozen=True)
class Whole:
    """Every hint that there is."""

    part: Small | Large
    other: Small | None
    pair: tuple[float, float]
    names: tuple[str, ...]
    flag: bool
    choice: Literal["one", "two"]
    notes: Mapping[str, Any]


def test_there_and_back() -> None:
    schema, arrays = schema_of(Whole), Arrays()
    one, two = Small(np.array([1, 2], np.int64)), Small(np.array([3], np.int16))
    whole = Whole(one, two, (1, float(np.float32(0.5))), ("a",), True, "two", {"x": [None]})
    data = schema.describe(whole, "", arrays)
    assert data == {
        "part": {"kind": "small", "numbers": [2]}, "other": {"numbers": [1]}, "pair": [1.0, 0.5],
        "names": ["a"], "flag": True, "choice": "two", "notes": {"x": [None]},
    }  # fmt: skip
    assert [type(value) for value in data["pair"]] == [float, float]
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "part.numbers": "int16", "other.numbers": "int16",
    }  # fmt: skip
    check_all(schema, data, arrays)
    again = schema.build(data, "", arrays)
    assert (again.pair, again.names, again.choice) == ((1, 0.5), ("a",), "two")
    assert again.part.numbers.tolist() == [1, 2]


def test_an_array_that_nothing_names() -> None:
    with pytest.raises(ArtifactError, match="array numbers must be named by the graph"):
        check_all(schema_of(Large), {"size": 1}, {"numbers": np.zeros(1)})


def test_every_operator_has_a_form() -> None:
    for kind, of in OPERATORS.items():
        assert schema_of(of), kind
    assert schema_of(Operator)


@pytest.mark.parametrize("hint", [list[int], tuple[int, float], object, np.ndarray, dict[str, int]])
def test_hints_that_no_file_can_hold(hint: Any) -> None:
    with pytest.raises(TypeError, match="has no form in an artifact"):
        schema_of(hint)
