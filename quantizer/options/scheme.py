"""Schemes: ``W4A4`` and its per-layer overrides."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nupes.model.errors import InputError

__all__ = ["Scheme", "match_overrides", "parse_scheme"]


@dataclass(frozen=True)
class Scheme:
    """Bits of a layer's weights and of the activations that it reads."""

    weights: int
    activations: int

    def __str__(self) -> str:
        return f"W{self.weights}A{self.activations}"


def parse_scheme(text: str) -> Scheme:
    """Return the scheme that ``WxAy`` names, x and y from 2 to 8."""
    match = re.fullmatch(r"W([2-8])A([2-8])", text) if isinstance(text, str) else None
    if match is None:
        raise InputError(
            f"scheme must be WxAy with x and y from 2 to 8, such as 'W4A4', not {text!r}"
        )
    return Scheme(int(match[1]), int(match[2]))


def match_overrides(names: Iterable[str], overrides: Mapping[str, str]) -> dict[str, Scheme]:
    """Return the override of each layer that a pattern names; a later pattern wins.

    A pattern that names no layer is an error: it is most likely misspelled.
    """
    names = list(names)
    found = {}
    for pattern, text in overrides.items():
        scheme = parse_scheme(text)
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            raise InputError(
                f"override pattern must match a layer, not {pattern!r}; layers: {', '.join(names)}"
            )
        found.update(dict.fromkeys(matches, scheme))
    return found
