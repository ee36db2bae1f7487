"""Recipes: which steps a quantization method takes, and with which constants."""

from dataclasses import dataclass, replace
from typing import Literal

from nupes.model.errors import InputError

__all__ = ["METHODS", "Recipe", "make_recipe"]


@dataclass(frozen=True)
class Recipe:
    """The steps of a method, in the order in which they run."""

    family: Literal["power", "uniform"] = "power"
    """Codebooks of fewer than 8 bits."""
    exponent: Literal["layer", "network"] = "layer"
    """One exponent for each layer and tensor, by output error, or one for the network, by the
    error of its weights alone (PowerQuant)."""
    equalize: float = 0.0
    """Strength of cross-layer equalization, 0 (none) to 1."""
    metric: Literal["output", "weight"] = "output"
    """What weight codes are compared by: the layer's output error, or the error of the weights."""
    steps: tuple[str, ...] = ("cd", "refit", "cd", "refit")
    """Steps of the weight solver after round-to-nearest: ``refit``, ``gptq``, ``cd``, ``learn``."""
    compensate: bool = True
    """Whether weights make up for the quantized inputs that they read."""
    correct_bias: bool = True
    """Whether mean output errors go in the biases."""
    output_cost: bool = True
    """Whether activation codes are chosen by output error; else by the error of the tensor."""
    unit: Literal["layer", "block", "network"] | None = None
    """What learning reconstructs at a time; ``None`` for no learning."""
    rounding: Literal["soft", "adaround"] = "soft"
    """Weights move in the whole code space (NUPES), or between floor and ceil (AdaRound)."""
    learn_exponents: bool = True
    """Whether learning moves the exponents of weights."""
    learn_activations: bool = True
    """Whether learning moves the ranges and exponents of tensors."""
    drop: float = 0.0
    """Share of activations that stay in float while learning (QDrop)."""
    steps_per_unit: int = 400
    """Steps of gradient descent for each unit."""
    batch: int = 32
    """Images of one step."""
    seed: int = 0
    """Seed of everything random."""


METHODS: dict[str, Recipe] = {
    "rtn": Recipe(
        family="uniform",
        metric="weight",
        steps=(),
        compensate=False,
        correct_bias=False,
        output_cost=False,
    ),
    "powerquant": Recipe(
        exponent="network",
        metric="weight",
        steps=(),
        compensate=False,
        correct_bias=False,
        output_cost=False,
    ),
    "search": Recipe(),
    "nupes": Recipe(unit="network"),
}
"""Methods by name."""


def make_recipe(method: str | Recipe, codebook: str | None = None) -> Recipe:
    """Return the recipe of a method, its codebooks replaced by another family's where one is
    named."""
    if isinstance(method, str):
        if method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        method = METHODS[method]
    if not isinstance(method, Recipe):
        raise InputError(f"method must be a name or a Recipe, not {type(method).__name__}")
    if codebook is None:
        return method
    if codebook not in ("power", "uniform"):
        raise InputError(f"codebook must be 'power' or 'uniform', not {codebook!r}")
    return replace(method, family=codebook)
