"""The one evaluator of stages. What is particular about a run is in its hooks: without any it is
the float network; quantized weights, rounded tensors, a search or statistics are hooks."""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from nupes.quantizer.codes.decisions import Choices
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import IDENTITY
from nupes.quantizer.stages.operators import column
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = [
    "Hooks",
    "Maps",
    "Observed",
    "Quantized",
    "evaluate",
    "in_chunks",
    "measure_reach",
    "operate",
    "run_float",
    "run_quantized",
]

CHUNK = 128
"""Images that run at a time where no gradient is needed."""

Maps = dict[str, Tensor]
"""Tensors (b, c, h, w) by name."""


class Hooks:
    """What a run does at each step of a stage; these are the steps of the float network."""

    def read(self, name: str, values: Tensor) -> Tensor:
        """Return what is read of a tensor; asked for once, by its first reader."""
        return values

    def weight(self, stage: Stage, maps: Sequence[Tensor]) -> Tensor | None:
        """Return the weights of a stage, ``None`` for the operator's own; ``maps`` is what it
        reads."""
        return None

    def shift(self, stage: Stage, y: Tensor) -> Tensor:
        """Return what the operator gives with the bias added: the value before the residual."""
        return y + column(stage.bias, y)

    def observe(self, stage: Stage, y: Tensor) -> None:
        """See the pre-activation: what comes before the function, or is copied."""


def operate(stage: Stage, maps: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
    """Return ``gain * op(maps)``, without the bias."""
    y = stage.op.apply(*maps, weight=weight)
    return y if (stage.gain == 1).all() else y * column(stage.gain, y)


def evaluate(
    stages: Sequence[Stage], inputs: Maps, hooks: Hooks, keep: Collection[str] | None = None
) -> Maps:
    """Return what stages give, before it is read, from such tensors of stages before; the inputs
    included. With ``keep`` only these names are returned, and others are freed after their last
    reader."""
    given, read = dict(inputs), {}
    last = {name: stage for stage in stages for name in (stage.name, *stage.reads)}

    def look(name: str) -> Tensor:
        if name not in read:
            read[name] = hooks.read(name, given[name])
        return read[name]

    for stage in stages:
        maps = [look(name) for name in stage.sources]
        y = operate(stage, maps, hooks.weight(stage, maps))
        if stage.op.accumulates:
            y = hooks.shift(stage, y)
            if stage.residual is not None:
                y = y + look(stage.residual)
        hooks.observe(stage, y)
        if y.requires_grad and stage.function is not IDENTITY:
            y.register_hook(finite_slopes)
        given[stage.name] = stage.function.apply(y)
        for name in (stage.name, *stage.reads):
            if keep is not None and last[name] is stage:
                read.pop(name, None)
                if name not in keep:
                    del given[name]
    return given


def finite_slopes(gradient: Tensor) -> Tensor:
    """Return a gradient with 0 where a function has no finite slope, such as a root at 0."""
    return gradient.nan_to_num(0.0, 0.0, 0.0)


class Quantized(Hooks):
    """The quantized network: decided weights and biases; tensors are rounded where they are read.
    The largest pre-activations are kept in ``reach``."""

    def __init__(self, choices: Choices, reach: dict[str, float] | None = None) -> None:
        self.choices = choices
        self.reach = reach

    def read(self, name: str, values: Tensor) -> Tensor:
        """Return values rounded to the tensor's levels."""
        return self.choices.rounded(name, values)

    def weight(self, stage: Stage, maps: Sequence[Tensor]) -> Tensor | None:
        """Return the weights that the codes stand for."""
        code = self.choices.weights.get(stage.name)
        return None if code is None else code.tensor(maps[0])

    def shift(self, stage: Stage, y: Tensor) -> Tensor:
        """Add the decided bias."""
        return y + column(self.choices.bias[stage.name], y)

    def observe(self, stage: Stage, y: Tensor) -> None:
        """Keep the largest magnitude."""
        if self.reach is not None and stage.op.accumulates:
            largest = float(y.abs().max())
            self.reach[stage.name] = max(self.reach.get(stage.name, 0.0), largest)


class Observed(Hooks):
    """The float network, whose pre-activations are kept in ``before``."""

    def __init__(self) -> None:
        self.before: Maps = {}

    def observe(self, stage: Stage, y: Tensor) -> None:
        """Keep the pre-activation."""
        self.before[stage.name] = y


def run_float(stages: Sequence[Stage], inputs: Maps, keep: Collection[str] | None = None) -> Maps:
    """Return what stages of the float network give."""
    return evaluate(stages, inputs, Hooks(), keep)


@torch.no_grad()
def run_quantized(
    stages: Sequence[Stage], choices: Choices, inputs: Maps, keep: Collection[str] | None = None
) -> Maps:
    """Return what stages of the quantized network give before it is rounded."""
    return evaluate(stages, inputs, Quantized(choices), keep)


@torch.no_grad()
def measure_reach(network: FusedNetwork, inputs: Batch, choices: Choices) -> Choices:
    """Return the choices with the largest pre-activations of the quantized network on inputs, or
    the search's where these are larger."""
    measured = choices.copy()
    hooks = Quantized(choices, measured.reach)
    for chunk in inputs.split(CHUNK):
        evaluate(network.stages, network.start(chunk), hooks, keep=())
    return measured


def in_chunks(run: Callable[..., Maps], inputs: Maps, keep: Sequence[str]) -> Maps:
    """Return the named maps of a function ``run(maps, keep=names)`` of maps, computed for some
    images at a time."""
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, CHUNK):
        real = run(
            {name: values[start : start + CHUNK] for name, values in inputs.items()}, keep=keep
        )
        parts.append({name: real[name] for name in keep})
    return {name: torch.cat([part[name] for part in parts]) for name in keep}
