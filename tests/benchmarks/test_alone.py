"""Functions in processes of their own: what they give, and what keeps them from it."""

import time
from typing import Any

import pytest

from benchmarks.alone import run_alone, runs
from nupes.model.errors import InputError


def double(number: int) -> dict[str, Any]:
    return {"number": 2 * number}


def refuse(reason: str) -> dict[str, Any]:
    raise InputError(reason)


def break_down(reason: str) -> dict[str, Any]:
    raise ValueError(reason)


def sleep(seconds: float) -> dict[str, Any]:
    time.sleep(seconds)
    return {}


def fill(gib: int) -> dict[str, Any]:
    return {"bytes": len(bytearray(gib << 30))}


def test_what_a_function_gives() -> None:
    result = run_alone(double, 21, seconds=300, gib=8)
    assert runs(result)
    assert result["number"] == 42
    assert result["seconds"] < 300
    assert 0 < result["gib"] < 8


@pytest.mark.parametrize(
    ("function", "argument", "seconds", "reason"),
    [
        (refuse, "images must be given", 300, "images must be given"),
        (break_down, "no such file", 300, "ValueError: no such file"),
        (sleep, 600, 0.2, "it takes more than 0.2 seconds"),
        (fill, 9, 300, "it needs more than 8 GiB"),
    ],
)
def test_why_a_function_fails(function: Any, argument: Any, seconds: float, reason: str) -> None:
    result = run_alone(function, argument, seconds=seconds, gib=8)
    assert result["reason"] == reason
    assert not runs(result)


@pytest.mark.parametrize(
    ("result", "success"),
    [({}, True), ({"problems": []}, True), ({"problems": [["mul", "no"]]}, False),
     ({"reason": "no"}, False), ({"exact": False}, False)],
)  # fmt: skip
def test_success(result: dict[str, Any], success: bool) -> None:
    assert runs(result) == success
