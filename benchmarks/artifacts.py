"""Integer networks that a benchmark has made before are read from their files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from torch import nn

import nupes
from nupes.inputs import parse_bits, parse_overrides
from nupes.quantizer.options.recipe import Recipe, make_recipe

__all__ = ["Bits", "Overrides", "Wishes", "Without", "quantize_once", "recipe_without"]

Bits = Annotated[str, typer.Option(help="KIND=BITS, as in nupes quantize.")]
Overrides = Annotated[list[str] | None, typer.Option(help="PATTERN=SCHEME, as in nupes quantize.")]
Without = Annotated[str, typer.Option(help="Comma-separated steps of the method left out.")]


@dataclass(frozen=True)
class Wishes:
    """What is asked for beside a scheme and a method: overrides, bits by kind, and steps of the
    method that are left out."""

    overrides: Mapping[str, str]
    bits: Mapping[str, int]
    without: tuple[str, ...] = ()

    @classmethod
    def parse(cls, override: list[str] | None, bits: str, without: str) -> "Wishes":
        """Return what options of a command say."""
        steps = tuple(without.split(",")) if without else ()
        return cls(parse_overrides(override or []), parse_bits(bits) if bits else {}, steps)

    @property
    def label(self) -> str:
        """The part of a file's name that says it."""
        asked = {**self.overrides, **self.bits}
        pairs = [re.sub(r"[^\w=]+", "", f"{key}={value}") for key, value in asked.items()]
        return "-".join([*pairs, *(f"no_{step}" for step in self.without)])


def recipe_without(method: str, parts: Sequence[str]) -> Recipe:
    """Return the recipe of a method of which steps, by their names, are left out."""
    recipe = make_recipe(method)
    for part in parts:
        if not isinstance(getattr(recipe, part, None), bool):
            raise nupes.InputError(f"--without must be steps of a Recipe, not {part!r}")
        recipe = replace(recipe, **{part: False})
    return recipe


def quantize_once(
    folder: Path,
    name: str,
    module: nn.Module,
    scheme: str,
    method: str,
    samples: np.ndarray | tuple[np.ndarray, ...],
    wishes: Wishes,
) -> nupes.IntegerNetwork:
    """Return a network from its file in ``folder``, or quantize it and write that."""
    count = len(samples[0] if isinstance(samples, tuple) else samples)
    parts = filter(None, (name, scheme, wishes.label, method, str(count)))
    path = folder / f"{'-'.join(parts)}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        recipe = recipe_without(method, wishes.without)
        network = nupes.quantize(
            module, scheme, samples, method=recipe, overrides=wishes.overrides, bits=wishes.bits
        )
        network.save(path)
    return nupes.load(path)
