"""Recipes: which steps a quantization method takes, and with which constants."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nupes.arch.cells import codebook_rule
from nupes.model.errors import InputError

__all__ = ["END_TO_END", "METHODS", "Phase", "Recipe", "StepName", "make_recipe"]

StepName = Literal["refit", "gptq", "cd", "rescale", "beam"]
"""Steps of the weight solver after round-to-nearest; ``cd`` is coordinate descent, ``beam`` GPTQ
that keeps several partial solutions."""


def check_choices(part: Any) -> None:
    """Refuse values that are none of the words that a field of a data class may be."""
    hints = get_type_hints(type(part))
    for name in (field.name for field in fields(part)):
        value = getattr(part, name)
        if get_origin(hints[name]) is Literal and value not in get_args(hints[name]):
            words = ", ".join(get_args(hints[name]))
            raise InputError(
                f"{name} of a {type(part).__name__} must be one of {words}, not {value!r}"
            )


@dataclass(frozen=True)
class Phase:
    """One pass of learning over the network, unit after unit.

    A unit's target is what it gives in the float network; its loss the squared error relative to
    the target's variance, summed over the tensors that leave it. What was learned stays only if
    that loss, with hard codes and on images that were held out, has become clearly less; and after
    the last phase only if the error of the network's outputs has.
    """

    unit: Literal["layer", "block", "network"] = "block"
    """What is reconstructed at a time. A block lies between two points where a single tensor is
    alive, such as a residual block."""
    rounding: Literal["soft", "straight", "adaround"] = "soft"
    """Codes move in the whole code space, by differentiable soft quantization (``soft``) or
    straight-through (``straight``); or between floor and ceil (``adaround``)."""
    codes: float = 3e-2
    """Learning rate of positions, in codes of 4 bits; other bits in proportion to their codes."""
    scales: float = 1e-3
    """Learning rate of scales and ranges, relative; 0 holds them."""
    exponents: float = 1e-3
    """Learning rate of exponents; 0 holds them."""
    activations: bool = True
    """Whether ranges and exponents of tensors are learned too."""
    biases: float = 1e-3
    """Learning rate of biases; 0 holds them."""
    drop: float = 0.0
    """Share of activations that stay unrounded while learning (QDrop)."""
    steps: int = 200
    """Steps of gradient descent for each unit."""
    batch: int = 32
    """Images of one step."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("steps", "batch"):
            count = getattr(self, name)
            if not isinstance(count, int) or count < 1:
                raise InputError(f"{name} of a Phase must be at least 1, not {count!r}")
        rates = ("codes", "scales", "exponents", "biases", "drop")
        for name, most in zip(rates, (*[math.inf] * 4, 1.0), strict=True):
            rate = getattr(self, name)
            if not isinstance(rate, int | float) or not 0 <= rate <= most:
                raise InputError(f"{name} of a Phase must be 0 to {most:g}, not {rate!r}")


@dataclass(frozen=True)
class Recipe:
    """The steps of a method, in the order in which they run."""

    family: Literal["power", "uniform"] = "power"
    """Codebooks of fewer than 8 bits: of weights, and of tensors unless ``tables`` serve better."""
    cell: str = "decode"
    """Cells that must hold the codebooks: a ``mac`` of ``ArrayConfig``."""
    exponent: Literal["layer", "network"] = "layer"
    """One exponent for each layer and tensor, by output error, or one for the network, by the
    error of its weights alone (PowerQuant)."""
    tables: bool = True
    """Whether tensors may have a table of levels of their own instead of a power's, where cells
    hold it: that of least squared error (Lloyd)."""
    center: bool = True
    """Whether what is constant in the channels of keys and values is taken out of them."""
    split: bool = True
    """Whether channels that are many times as large as a tensor's others get one of their own."""
    equalize: bool = True
    """Whether the channels of a tensor are first brought to magnitudes that suit its readers."""
    metric: Literal["output", "weight"] = "output"
    """What weight codes are compared by: the layer's output error, or the error of the weights."""
    steps: tuple[StepName, ...] = ("gptq", "refit", "cd", "refit", "cd", "refit")
    """Steps of the weight solver after round-to-nearest, for every codebook that is tried."""
    finish: tuple[StepName, ...] = ("rescale", "beam")
    """Steps that follow for the codebook that is chosen."""
    compensate: bool = True
    """Whether weights make up for the quantized inputs that they read."""
    correct_bias: bool = True
    """Whether mean output errors go in the biases."""
    output_cost: bool = True
    """Whether errors are weighed by what the network's outputs make of them, in the choice of
    activation codes and of weights; else every value of a tensor counts equally."""
    distill: bool = True
    """Whether inputs that are made up are drawn to the statistics of the batch norms."""
    phases: tuple[Phase, ...] = ()
    """Learning by gradient after the search, phase after phase."""
    seed: int = 0
    """Seed of learning; the search draws its samples in the same way every time."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("steps", "finish"):
            steps = getattr(self, name)
            if not isinstance(steps, tuple) or not set(steps) <= set(get_args(StepName)):
                words = ", ".join(get_args(StepName))
                raise InputError(f"{name} of a Recipe must be a tuple of {words}, not {steps!r}")
        phases = self.phases if isinstance(self.phases, tuple) else (None,)
        if not all(isinstance(phase, Phase) for phase in phases):
            raise InputError(f"phases of a Recipe must be a tuple of Phase, not {self.phases!r}")


PLAIN = Recipe(
    family="uniform",
    tables=False,
    center=False,
    split=False,
    equalize=False,
    metric="weight",
    steps=(),
    finish=(),
    compensate=False,
    correct_bias=False,
    output_cost=False,
    distill=False,
)
"""Round to nearest, clipping points by the error of each tensor."""

ADAROUND = Phase("block", "adaround", codes=3e-2, exponents=0, biases=0)

END_TO_END = Phase("network", "straight", codes=8e-3, scales=5e-4, exponents=5e-4, steps=500)
"""Learning for recipes with images to spare, such as those that ``augment`` makes."""

METHODS: dict[str, Recipe] = {
    "rtn": PLAIN,
    "powerquant": replace(PLAIN, family="power", exponent="network"),
    "search": Recipe(),
    "nupes": Recipe(phases=(Phase("block", "soft"),)),
    "adaround": replace(PLAIN, phases=(replace(ADAROUND, unit="layer", activations=False),)),
    "brecq": replace(PLAIN, phases=(ADAROUND,)),
    "qdrop": replace(PLAIN, phases=(replace(ADAROUND, drop=0.5),)),
}
"""Methods by name."""


def make_recipe(
    method: str | Recipe, codebook: str | None = None, cell: str | None = None
) -> Recipe:
    """Return the recipe of a method, its codebooks replaced by another family's where one is
    named, and restricted to what a kind of cells holds."""
    if isinstance(method, str):
        if method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        method = METHODS[method]
    if not isinstance(method, Recipe):
        raise InputError(f"method must be a name or a Recipe, not {type(method).__name__}")
    if codebook not in (None, "power", "uniform"):
        raise InputError(f"codebook must be 'power' or 'uniform', not {codebook!r}")
    recipe = method if codebook is None else replace(method, family=codebook, tables=False)
    if codebook == "uniform" and method.exponent == "network":
        raise InputError(
            "codebook must be 'power' for a method with one exponent for the network, not "
            "'uniform'; method 'rtn' is the same with uniform codebooks"
        )
    return restrict(recipe if cell is None else replace(recipe, cell=cell), codebook == "power")


def restrict(recipe: Recipe, power: bool) -> Recipe:
    """Return the recipe with what its cells fix; refuse what they cannot hold.

    ``power`` says that power codebooks were asked for by name.
    """
    rule = codebook_rule(recipe.cell, 4, signed=True)
    if rule.shared:
        raise InputError(
            f"cell must not be {recipe.cell!r}: its cells have one codebook for the whole network, "
            "which no method finds; use cell 'pair', whose tables are loaded"
        )
    if rule.exponents is None or recipe.family == "uniform":
        return recipe
    if recipe.exponent == "network":
        raise InputError(
            f"exponent must be 'layer' on the cell {recipe.cell!r}, not 'network': it fixes them; "
            "use the method search, or the cell pair"
        )
    if rule.family == "uniform" and power:
        raise InputError(
            f"codebook must be 'uniform' on the cell {recipe.cell!r}, not 'power'; "
            "or use the cell square or pair"
        )
    family = "uniform" if rule.family == "uniform" else recipe.family
    held = tuple(replace(phase, exponents=0) for phase in recipe.phases)
    return replace(recipe, family=family, phases=held)
