"""Search: choices for one stage after another, each for the inputs that it will really read.

Float and quantized values of the calibration inputs run side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nupes.model.errors import InputError
from nupes.model.operators import MaxPool
from nupes.quantizer.codes.decisions import Choices, WeightCode, round_values
from nupes.quantizer.frontend.graph import Convolution
from nupes.quantizer.measure.sensitivity import (
    Sensitivity,
    measure_importance,
    measure_sensitivity,
)
from nupes.quantizer.options.bits import BitPlan
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.moments import compensate, input_moments
from nupes.quantizer.search.tensors import Cost, TensorCode, choose_activations
from nupes.quantizer.search.weights import choose_weights, network_exponent
from nupes.quantizer.stages.apply import apply_function, apply_operator, column
from nupes.quantizer.stages.fuser import FusedNetwork, Stage
from nupes.quantizer.stages.run import Maps

__all__ = ["choose"]

Progress = Callable[[str, int, int], None]


@dataclass(eq=False)
class Search:
    """The state of the search; ``exact`` and ``rounded`` are values of live tensors. Without
    ``sensitivity`` tensors are judged by their own error, and outputs of layers that have no
    ``importance`` count equally."""

    network: FusedNetwork
    plan: BitPlan
    recipe: Recipe
    repair: bool
    sensitivity: Sensitivity | None
    importance: Maps
    exponent: float | None = None
    choices: Choices = field(default_factory=Choices)
    exact: dict[str, Tensor] = field(default_factory=dict)
    rounded: dict[str, Tensor] = field(default_factory=dict)

    def store(self, name: str, code: TensorCode, exact: Tensor, real: Tensor) -> None:
        """Register a tensor with its float values, and the ones that ``real`` rounds to."""
        self.choices.tensors[name] = code
        self.exact[name] = exact
        self.rounded[name] = round_values(real, code)


@torch.no_grad()
def choose(
    network: FusedNetwork,
    inputs: Tensor,
    plan: BitPlan,
    recipe: Recipe,
    *,
    repair: bool = False,
    input_code: TensorCode | None = None,
    progress: Progress | None = None,
    start: Choices | None = None,
    keep: Callable[[int, Choices], None] | None = None,
) -> Choices:
    """Return choices for a fused network, from inputs (n, c, h, w).

    ``input_code`` is the input's where it needs no search. What ``start`` holds has been chosen
    already. ``keep`` is called after each stage with the stages done and the choices.

    With ``repair`` each batch-normalised value is shifted and scaled to the statistics that its
    batch norm promises, so that made-up inputs give the ranges of real ones.
    """
    sensitivity = measure_sensitivity(network, inputs) if recipe.output_cost else None
    importance = measure_importance(network, inputs) if recipe.output_cost else {}
    search = Search(network, plan, recipe, repair, sensitivity, importance)
    search.choices = Choices() if start is None else start.copy()
    if recipe.family == "power" and recipe.exponent == "network":
        weights = {
            stage.name: stage.op.weight.reshape(len(stage.op.weight), -1)
            for stage in network.stages
            if isinstance(stage.op, Convolution)
        }
        small = [name for name in weights if plan.weights[name] < 8] or list(weights)
        search.exponent = network_exponent(
            [weights[name] for name in small], [plan.weights[name] for name in small]
        )
    choose_input(search, inputs, input_code)
    readers = network.readers()
    for index, stage in enumerate(network.stages):
        if progress is not None:
            progress(stage.name, index, len(network.stages))
        choose_stage(search, stage, last=index == len(network.stages) - 1)
        if keep is not None:
            keep(index + 1, search.choices)
        done = network.stages[: index + 1]
        for name in {stage.source, stage.residual} - {None}:
            if all(reader in done for reader in readers[name]):
                del search.exact[name], search.rounded[name]
    if progress is not None:
        progress("", len(network.stages), len(network.stages))
    return search.choices


def choose_input(search: Search, inputs: Tensor, given: TensorCode | None) -> None:
    """Choose the code of the network's input, its affine applied."""
    network, name = search.network, search.network.input.name
    values = network.scale_input(inputs)
    code = search.choices.tensors.get(name, given)
    if code is None:
        bits = search.plan.tensors[name]
        code = choose_tensor(search, name, bits, bool(values.min() < 0), values, values)
    search.store(name, code, values, values)


def choose_stage(search: Search, stage: Stage, last: bool) -> None:
    """Choose a stage's weights, bias, and the code of the tensor that it stores."""
    choices = search.choices
    exact, rounded = search.exact[stage.source], search.rounded[stage.source]
    if isinstance(stage.op, MaxPool):
        code = choices.tensors[stage.source]
        pooled = (apply_operator(stage, values) for values in (exact, rounded))
        search.store(stage.name, code, *pooled)
        return
    weight = None
    if isinstance(stage.op, Convolution):
        if stage.name not in choices.weights:
            choices.weights[stage.name] = choose_codes(search, stage, stage.op, exact, rounded)
        weight = choices.weights[stage.name].real
    y_exact = apply_operator(stage, exact)
    y_rounded = apply_operator(stage, rounded, weight)
    if stage.name not in choices.bias:
        bias = stage.bias.copy()
        if search.recipe.correct_bias and isinstance(stage.op, Convolution):
            # The mean output error over the calibration inputs goes in the bias.
            bias += (y_exact - y_rounded).double().mean((0, 2, 3)).numpy()
        choices.bias[stage.name] = bias
    y_exact = y_exact + column(stage.bias)
    y_rounded = y_rounded + column(choices.bias[stage.name])
    if search.repair and stage.mean is not None:
        gain, shift = repair_statistics(y_exact, stage)
        y_exact, y_rounded = y_exact * gain + shift, y_rounded * gain + shift
    if stage.residual is not None:
        y_exact = y_exact + search.exact[stage.residual]
        y_rounded = y_rounded + search.rounded[stage.residual]
    choices.reach[stage.name] = max(float(y_exact.abs().max()), float(y_rounded.abs().max()))
    if not last:
        z_exact, z_rounded = apply_function(stage, y_exact), apply_function(stage, y_rounded)
        code = choose_output(search, stage, z_exact, z_rounded)
        search.store(stage.name, code, z_exact, z_rounded)


def choose_codes(
    search: Search, stage: Stage, op: Convolution, exact: Tensor, rounded: Tensor
) -> WeightCode:
    """Return the codes of a convolution's weights."""
    if not np.isfinite(op.weight).all() or not np.isfinite(op.bias).all():
        raise InputError(
            f"layer {stage.name!r}: folded weights must be finite, not NaN or infinite"
        )
    n = len(op.weight)
    grouped = op.weight.reshape(op.groups, n // op.groups, -1)
    bits = search.plan.weights[stage.name]
    moments = input_moments(op, exact, rounded, search.importance.get(stage.name))
    target = compensate(grouped, moments) if search.recipe.compensate else grouped
    codebook, solution = choose_weights(target, moments.gram, bits, search.recipe, search.exponent)
    alive = np.abs(op.weight).reshape(n, -1).any(1)
    return WeightCode(
        codebook,
        solution.codes.reshape(op.weight.shape),
        np.where(alive, solution.scale.reshape(n), 0.0),
    )


def repair_statistics(y: Tensor, stage: Stage) -> tuple[Tensor, Tensor]:
    """Return the gain and shift per channel that give ``y`` the stage's mean and deviation."""
    assert stage.mean is not None
    assert stage.std is not None
    std, mean = torch.std_mean(y, (0, 2, 3), keepdim=True, unbiased=False)
    gain = torch.where(std > 1e-6, column(stage.std) / std.clamp_min(1e-6), torch.ones_like(std))
    return gain, column(stage.mean) - mean * gain


def choose_output(search: Search, stage: Stage, exact: Tensor, rounded: Tensor) -> TensorCode:
    """Return the code of the tensor that a stage stores; copied codes keep their source's."""
    if stage.copies_codes:
        return search.choices.tensors[stage.source]
    if stage.name in search.choices.tensors:
        return search.choices.tensors[stage.name]
    bits = search.plan.tensors[stage.name]
    return choose_tensor(search, stage.name, bits, stage.low < 0, exact, rounded)


def choose_tensor(
    search: Search, name: str, bits: int, signed: bool, exact: Tensor, rounded: Tensor
) -> TensorCode:
    """Return the code of a stored tensor by what it costs the network's outputs, if they count."""
    recipe, sensitivity = search.recipe, search.sensitivity
    if sensitivity is None:
        return choose_activations(exact.numpy(), bits, signed, recipe, exponent=search.exponent)
    cost = output_cost(search.network, name, rounded, sensitivity) if bits < 8 else None
    values, importance = exact[sensitivity.images].numpy(), sensitivity.stored[name].numpy()
    return choose_activations(values, bits, signed, recipe, cost, search.exponent, importance)


def output_cost(network: FusedNetwork, name: str, values: Tensor, sensitivity: Sensitivity) -> Cost:
    """Return what the code of a stored tensor costs: the squared error that it causes in each
    reader's pre-activation, the channels' means taken out, weighed by what the network's outputs
    make of it."""
    readers: list[tuple[Callable[[Tensor], Tensor], Tensor]] = []
    for stage in network.readers()[name]:
        weight = sensitivity.before[stage.name]
        if stage.source == name:
            readers.append(((lambda x, stage=stage: apply_operator(stage, x)), weight))
        if stage.residual == name:
            readers.append((lambda x: x, weight))
    sample = values[sensitivity.first]
    expected = [apply(sample) for apply, _ in readers]

    def cost(code: TensorCode) -> float:
        rounded = round_values(sample, code)
        total = 0.0
        for (apply, weight), y in zip(readers, expected, strict=True):
            error = apply(rounded) - y
            error -= error.mean((0, 2, 3), keepdim=True)
            total += float((error.square() * weight).sum())
        return total

    return cost
