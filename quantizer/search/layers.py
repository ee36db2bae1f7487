"""Search: choices for one stage after another, each for the inputs that it will really read.

Float and quantized values of the calibration inputs run side by side, stage by stage.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from nupes.model.errors import InputError
from nupes.quantizer.codes.decisions import Choices, TensorCode, WeightCode, round_values
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.measure.sensitivity import measure_importance
from nupes.quantizer.options.bits import BitPlan
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.held_out import are_usual, compensate, dampen, held_mean
from nupes.quantizer.search.moments import input_moments, weigh_outputs
from nupes.quantizer.search.repair import FloatRun
from nupes.quantizer.search.stored import TensorSearch
from nupes.quantizer.search.weights import choose_weights, network_exponent
from nupes.quantizer.stages.operators import Convolution, Normalize, column
from nupes.quantizer.stages.run import Hooks, Maps, evaluate
from nupes.quantizer.stages.stage import FusedNetwork, Stage, weighted

__all__ = ["choose"]

Progress = Callable[[str, int, int], None]

NONE: Mapping[str, TensorCode] = MappingProxyType({})
"""No codes."""


@torch.no_grad()
def choose(
    network: FusedNetwork,
    inputs: Batch,
    plan: BitPlan,
    recipe: Recipe,
    *,
    repair: bool = False,
    input_codes: Mapping[str, TensorCode] = NONE,
    progress: Progress | None = None,
    start: Choices | None = None,
    keep: Callable[[int, Choices], None] | None = None,
) -> Choices:
    """Return choices for a fused network, from inputs (n, c, h, w).

    ``input_codes`` are those of inputs that need no search. What ``start`` holds has been chosen
    already. ``keep`` is called after each stage with the stages done and the choices.

    With ``repair`` each batch-normalised value is shifted and scaled to the statistics that its
    batch norm promises, so that made-up inputs give the ranges of real ones.
    """
    stages = network.stages
    choices = Choices() if start is None else start.copy()
    exponent = shared_exponent(weighted(stages), plan, recipe)
    tensors = TensorSearch(network, inputs, plan, recipe, choices, repair, exponent)
    layers = LayerSearch(network, inputs, plan, recipe, choices, repair, exponent)
    rounded: Maps = {}
    for name, values in network.start(inputs).items():
        if name in input_codes and not tensors.joins.others(name):
            choices.tensors.setdefault(name, input_codes[name])
        code = tensors.code(name, values, values, bool(values.min() < 0))
        layers.exact[name], rounded[name] = values, round_values(values, code)
    readers = network.readers()
    for index, stage in enumerate(stages):
        if progress is not None:
            progress(stage.name, index, len(stages))
        exact = evaluate([stage], pick(layers.exact, stage.reads), layers.float_run)[stage.name]
        real = evaluate([stage], pick(rounded, stage.reads), layers)[stage.name]
        if stage.name not in network.emitted:
            tensors.decide(stage.name, exact, real, stage.low < 0)
            layers.exact[stage.name] = exact
            rounded[stage.name] = choices.rounded(stage.name, real)
        if keep is not None:
            keep(index + 1, choices)
        done = stages[: index + 1]
        for name in stage.reads:
            if all(reader in done for reader in readers[name]):
                del layers.exact[name], rounded[name]
    if progress is not None:
        progress("", len(stages), len(stages))
    return choices


def pick(maps: Maps, names: Iterable[str]) -> Maps:
    """Return some of the maps."""
    return {name: maps[name] for name in names}


class LayerSearch(Hooks):
    """The quantized network, whose weights and biases are chosen as a stage asks for them; the same
    stage has run in float before, from the tensors in ``exact``.

    Outputs of layers that have no ``importance`` count equally.
    """

    def __init__(
        self,
        network: FusedNetwork,
        inputs: Batch,
        plan: BitPlan,
        recipe: Recipe,
        choices: Choices,
        repair: bool,
        exponent: float | None,
    ) -> None:
        self.plan, self.recipe, self.choices = plan, recipe, choices
        self.importance = measure_importance(network, inputs) if recipe.output_cost else {}
        self.operators = weighted(network.stages)
        self.normed = any(isinstance(stage.op, Normalize) for stage in network.stages)
        self.exponent = exponent
        self.float_run = FloatRun(repair)
        self.exact: Maps = {}

    def weight(self, stage: Stage, maps: Sequence[Tensor]) -> Tensor | None:
        """Return the weights of a stage, chosen for the inputs that it reads."""
        if stage.name not in self.operators:
            return None
        weights = self.choices.weights
        if stage.name not in weights:
            weights[stage.name] = self.choose_codes(stage, maps[0])
        return weights[stage.name].tensor(maps[0])

    def shift(self, stage: Stage, y: Tensor) -> Tensor:
        """Add the bias, with the mean output error over the calibration inputs taken out."""
        if stage.name not in self.choices.bias:
            bias = stage.bias.copy()
            if self.recipe.correct_bias and stage.name in self.operators:
                bias += self.mean_error(stage, self.float_run.product - y)
            self.choices.bias[stage.name] = bias
        return self.float_run.repaired(y + column(self.choices.bias[stage.name]))

    def mean_error(self, stage: Stage, error: Tensor) -> np.ndarray:
        """Return the mean error (n,) of each channel, outputs weighed by their importance."""
        weight = torch.ones(1, 1, 1, 1)
        if stage.name in self.importance:
            groups = self.operators[stage.name].groups
            weight = weigh_outputs(self.importance[stage.name])
            weight = weight.repeat_interleave(error.shape[1] // groups, 1)
        return held_mean(error, self.usual(error, weight.expand_as(error)))

    def usual(self, error: Tensor, weight: Tensor) -> Tensor:
        """Return the weights (b, c, h, w) of outputs, 0 where the network has norms and errors are
        far beyond the usual ones."""
        return weight * are_usual(error, weight) if self.normed else weight

    def observe(self, stage: Stage, y: Tensor) -> None:
        """Keep the largest magnitude of both runs."""
        if stage.op.accumulates:
            self.choices.reach[stage.name] = max(self.float_run.largest, float(y.abs().max()))

    def choose_codes(self, stage: Stage, rounded: Tensor) -> WeightCode:
        """Return the codes of a stage's weights."""
        op, exact = self.operators[stage.name], self.exact[stage.sources[0]]
        weight = op.weight
        if not np.isfinite(weight).all() or not np.isfinite(stage.bias).all():
            raise InputError(
                f"layer {stage.name!r}: folded weights must be finite, not NaN or infinite"
            )
        n = len(weight)
        grouped = weight.reshape(op.groups, n // op.groups, -1)
        bits = self.plan.weights[stage.name]
        target, gram = grouped, np.ones((grouped.shape[0], grouped.shape[2]))
        if self.recipe.compensate or self.recipe.metric == "output":
            importance = self.importance.get(stage.name)
            if importance is not None:
                importance = self.usual(op.apply(rounded - exact), importance)
            moments = input_moments(op, exact, rounded, importance)
            target = compensate(grouped, moments) if self.recipe.compensate else grouped
            gram = dampen(target, moments, bits) if self.recipe.metric == "output" else gram
        codebook, solution = choose_weights(target, gram, bits, self.recipe, self.exponent)
        alive = np.abs(weight).reshape(n, -1).any(1)
        return WeightCode(
            codebook,
            solution.codes.reshape(weight.shape),
            np.where(alive, solution.scale.reshape(n), 0.0),
        )


def shared_exponent(
    operators: dict[str, Convolution], plan: BitPlan, recipe: Recipe
) -> float | None:
    """Return the one exponent of the network's codebooks, where the recipe has one."""
    if recipe.family != "power" or recipe.exponent != "network":
        return None
    weights = {name: op.weight.reshape(len(op.kernel), -1) for name, op in operators.items()}
    small = [name for name in weights if plan.weights[name] < 8] or list(weights)
    return network_exponent([weights[name] for name in small], [plan.weights[n] for n in small])
