"""Integer networks that a benchmark has made before are read from their files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import nn

import nupes
from nupes.quantizer.options.recipe import Recipe, make_recipe

__all__ = ["quantize_once", "recipe_without"]

NONE: Mapping[str, Any] = MappingProxyType({})
"""Nothing asked for."""


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
    overrides: Mapping[str, str] = NONE,
    bits: Mapping[str, int] = NONE,
    without: Sequence[str] = (),
) -> nupes.IntegerNetwork:
    """Return a network from its file in ``folder``, or quantize it and write that."""
    count = len(samples[0] if isinstance(samples, tuple) else samples)
    asked = [*overrides.items(), *((kind, str(some)) for kind, some in bits.items())]
    part = "-".join(re.sub(r"[^\w=]+", "", "=".join(item)) for item in asked)
    left = "-".join(f"no_{step}" for step in without)
    path = folder / f"{'-'.join(filter(None, (name, scheme, part, method, left, str(count))))}"
    path = path.with_name(f"{path.name}.safetensors")
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        recipe = recipe_without(method, without) if without else method
        nupes.quantize(module, scheme, samples, method=recipe, overrides=overrides, bits=bits).save(
            path
        )
    return nupes.load(path)
