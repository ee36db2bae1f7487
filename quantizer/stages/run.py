"""What stages give, in the float network and in the quantized one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nupes.model.operators import MaxPool
from nupes.quantizer.codes.decisions import Choices, round_values
from nupes.quantizer.stages.apply import apply_function, apply_operator, column
from nupes.quantizer.stages.fuser import FusedNetwork, Stage

__all__ = ["Maps", "in_chunks", "measure_reach", "run_float", "run_quantized"]

CHUNK = 128
"""Images that run at a time where no gradient is needed."""

Maps = dict[str, Tensor]
"""Tensors (b, c, h, w) by name."""


def run_float(stages: Sequence[Stage], inputs: Maps, before: Maps | None = None) -> Maps:
    """Return what stages of the float network give, from such tensors of stages before; keep in
    ``before`` what each gives before its function."""
    real = dict(inputs)
    for stage in stages:
        y = apply_operator(stage, real[stage.source])
        if not isinstance(stage.op, MaxPool):
            y = y + column(stage.bias, y.device)
            if stage.residual is not None:
                y = y + real[stage.residual]
        if before is not None:
            before[stage.name] = y
        real[stage.name] = y if isinstance(stage.op, MaxPool) else apply_function(stage, y)
    return real


@torch.no_grad()
def run_quantized(
    stages: Sequence[Stage], choices: Choices, inputs: Maps, reach: dict[str, float] | None = None
) -> Maps:
    """Return what stages of the quantized network give before it is rounded, from such tensors of
    stages before; keep the largest pre-activations in ``reach``."""
    real, rounded = dict(inputs), {}

    def read(name: str) -> Tensor:
        if name not in rounded:
            rounded[name] = round_values(real[name], choices.tensors[name])
        return rounded[name]

    for stage in stages:
        code = choices.weights.get(stage.name)
        y = apply_operator(stage, read(stage.source), code.real if code else None)
        if not isinstance(stage.op, MaxPool):
            y = y + column(choices.bias[stage.name], y.device)
            if stage.residual is not None:
                y = y + read(stage.residual)
            if reach is not None:
                reach[stage.name] = max(reach.get(stage.name, 0.0), float(y.abs().max()))
            y = apply_function(stage, y)
        real[stage.name] = y
    return real


def measure_reach(network: FusedNetwork, inputs: Tensor, choices: Choices) -> Choices:
    """Return the choices with the largest pre-activations of the quantized network on inputs, or
    the search's where these are larger."""
    measured = choices.copy()
    for chunk in network.scale_input(inputs).split(CHUNK):
        run_quantized(network.stages, choices, {network.input.name: chunk}, measured.reach)
    return measured


def in_chunks(run: Callable[[Maps], Maps], inputs: Maps, keep: Sequence[str]) -> Maps:
    """Return the named maps of a function of maps, computed for some images at a time."""
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, CHUNK):
        real = run({name: values[start : start + CHUNK] for name, values in inputs.items()})
        parts.append({name: real[name] for name in keep})
    return {name: torch.cat([part[name] for part in parts]) for name in keep}
