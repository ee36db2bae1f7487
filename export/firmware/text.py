"""C text: comments, arrays, initializers."""

import re
from collections.abc import Mapping

import numpy as np

__all__ = ["array", "comment", "initializer", "numbers"]

WIDTH = 100
"""Columns of the generated files."""


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


def initializer(fields: Mapping[str, object]) -> str:
    """Return an initializer of named members."""
    return "{" + ", ".join(f".{name} = {value}" for name, value in fields.items()) + "}"
