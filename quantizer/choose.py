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
from nupes.quantizer.activations import Cost, TensorCode, choose_activations, fixed_range
from nupes.quantizer.bits import BitPlan
from nupes.quantizer.choices import Choices, WeightCode, round_values
from nupes.quantizer.evaluate import apply_function, apply_operator, column
from nupes.quantizer.fuse import FusedNetwork, Stage
from nupes.quantizer.graph import Convolution
from nupes.quantizer.moments import compensate, input_moments
from nupes.quantizer.recipe import Recipe
from nupes.quantizer.sensitivity import channel_sensitivity, sample_maps
from nupes.quantizer.weights import choose_weights, network_exponent

__all__ = ["choose"]

COST_IMAGES = 32
"""Images on which activation codes are compared by what they cost the outputs."""

Progress = Callable[[str, int, int], None]


@dataclass(eq=False)
class Search:
    """The state of the search; ``exact`` and ``rounded`` are values of live tensors."""

    network: FusedNetwork
    plan: BitPlan
    recipe: Recipe
    repair: bool
    sensitivity: dict[str, np.ndarray]
    exponent: float | None = None
    choices: Choices = field(default_factory=Choices)
    exact: dict[str, Tensor] = field(default_factory=dict)
    rounded: dict[str, Tensor] = field(default_factory=dict)

    def importance(self, name: str) -> np.ndarray | None:
        """Return what weighs the channels of a tensor, if its output errors count."""
        return self.sensitivity[name] if self.recipe.output_cost else None

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
    progress: Progress | None = None,
    start: Choices | None = None,
    keep: Callable[[int, Choices], None] | None = None,
) -> Choices:
    """Return choices for a fused network, from inputs (n, c, h, w).

    What ``start`` holds has been chosen already. ``keep`` is called after each stage with the
    stages done and the choices.

    With ``repair`` each batch-normalised value is shifted and scaled to the statistics that its
    batch norm promises, so that made-up inputs give the ranges of real ones.
    """
    sensitivity = channel_sensitivity(network, sample_maps(network, inputs))
    search = Search(network, plan, recipe, repair, sensitivity)
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
    choose_input(search, inputs)
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


def choose_input(search: Search, inputs: Tensor) -> None:
    """Choose the code of the network's input, its affine applied."""
    network, name = search.network, search.network.input.name
    values = network.scale_input(inputs)
    bits = search.plan.tensors[name]
    if name in search.choices.tensors:
        code = search.choices.tensors[name]
    elif bits == 8 or search.recipe.family == "uniform":
        code = fixed_range(float(values.min()), float(values.max()), bits)
    else:
        cost = output_cost(network, name, values) if search.recipe.output_cost else None
        signed = bool(values.min() < 0)
        importance = search.importance(name)
        code = choose_activations(
            values.numpy(), bits, signed, search.recipe, cost, search.exponent, importance
        )
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
    moments = input_moments(op, exact, rounded)
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
    recipe, bits = search.recipe, search.plan.tensors[stage.name]
    cost = None
    if recipe.output_cost and bits < 8:
        cost = output_cost(search.network, stage.name, rounded)
    importance = search.importance(stage.name)
    return choose_activations(
        exact.numpy(), bits, stage.low < 0, recipe, cost, search.exponent, importance
    )


def output_cost(network: FusedNetwork, name: str, values: Tensor) -> Cost:
    """Return what the code of a stored tensor costs: the variance of the error that it causes in
    each reader's pre-activation, relative to that pre-activation's own variance, summed."""
    picks = torch.linspace(0, len(values) - 1, min(len(values), COST_IMAGES)).long()
    sample = values[picks]
    readers = []
    for stage in network.readers()[name]:
        if stage.source == name:
            readers.append((lambda x, stage=stage: apply_operator(stage, x)))
        if stage.residual == name:
            readers.append(lambda x: x)
    expected = [apply(sample) for apply in readers]
    power = [float(y.var((0, 2, 3)).mean()) or 1.0 for y in expected]

    def cost(code: TensorCode) -> float:
        rounded = round_values(sample, code)
        noise = [
            float((apply(rounded) - y).var((0, 2, 3)).mean())
            for apply, y in zip(readers, expected, strict=True)
        ]
        return sum(one / whole for one, whole in zip(noise, power, strict=True))

    return cost
