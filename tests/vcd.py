"""A reader of waveforms: what some signals were in every clock cycle of a run."""

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cycles", "signals"]


def signals(path: Path) -> dict[str, str]:
    """Return the identifier of every signal by its full name, scopes joined by dots."""
    scopes: list[str] = []
    found: dict[str, str] = {}
    for line in path.read_text().split("$enddefinitions")[0].splitlines():
        words = line.split()
        if words[:1] == ["$scope"]:
            scopes.append(words[2])
        elif words[:1] == ["$upscope"]:
            scopes.pop()
        elif words[:1] == ["$var"]:
            found[".".join([*scopes, words[4].removeprefix("\\")])] = words[3]
    return found


def cycles(path: Path, clock: str, names: list[str]) -> Iterator[tuple[int | None, ...]]:
    """Yield the values of signals in every cycle: what they were when the clock rose at its end.

    ``None`` stands for a value with an undefined bit.
    """
    table = signals(path)
    wanted = [table[name] for name in names]
    values: dict[str, str] = {}
    body = path.read_text().split("$enddefinitions $end")[1]
    for moment in re.split(r"^#\d+\n", body, flags=re.MULTILINE):
        changes = {}
        for line in moment.splitlines():
            if line.startswith(("0", "1", "x", "z")):
                changes[line[1:]] = line[0]
            elif line.startswith("b"):
                value, key = line[1:].split()
                changes[key] = value
        if changes.get(table[clock]) == "1" and values.get(table[clock]) == "0":
            found = [values.get(key, "x") for key in wanted]
            yield tuple(int(value, 2) if set(value) <= set("01") else None for value in found)
        values |= changes
