"""Codes of stored tensors, chosen one after another as their values come to be known."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from nupes.quantizer.codes.decisions import Choices, TensorCode, round_values
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.measure.sensitivity import Sensitivity, measure_sensitivity
from nupes.quantizer.options.bits import BitPlan
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.matrices import choose_matrix, matrix_roots
from nupes.quantizer.search.repair import FloatRun
from nupes.quantizer.search.tensors import Cost, choose_activations
from nupes.quantizer.stages.joins import join_tensors
from nupes.quantizer.stages.run import Maps, evaluate, operate
from nupes.quantizer.stages.stage import FusedNetwork, Stage
from nupes.quantizer.stages.wide import wide_headrooms, wide_roots

__all__ = ["TensorSearch"]


ROOM = 1.3
"""How far beyond its largest value a tensor without codes reaches."""


class TensorSearch:
    """Codes of stored tensors, by what they cost the network's outputs if these count, else by the
    tensors' own error. Tensors that share a code are looked at together: those that come later are
    known from a float run ahead."""

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
        self.network, self.plan, self.recipe, self.choices = network, plan, recipe, choices
        self.joins = join_tensors(network)
        self.wide = wide_roots(network)
        self.headrooms = wide_headrooms(network, self.wide)
        self.matrices = matrix_roots(network)
        self.readers = network.readers()
        self.bounds = {stage.name: stage.low for stage in network.stages}
        self.bounds |= {name: float(x.min()) for name, x in network.start(inputs).items()}
        self.sensitivity = measure_sensitivity(network, inputs) if recipe.output_cost else None
        self.exponent = exponent
        self.images = slice(None) if self.sensitivity is None else self.sensitivity.images
        needed = self.needed_ahead()
        self.ahead: Maps = {}
        if needed:
            sample = network.start(inputs[self.images])
            found = evaluate(network.stages, sample, FloatRun(repair))
            self.ahead = {name: found[name] for name in needed}

    def needed_ahead(self) -> set[str]:
        """Return the tensors that a choice may need before they are stored."""
        shared = {name for names in self.joins.origins.values() if len(names) > 1 for name in names}
        several = [stage for stage in self.network.stages if len(set(stage.sources)) > 1]
        return shared | {name for stage in several for name in stage.sources} | set(self.wide)

    def decide(self, name: str, exact: Tensor, real: Tensor, signed: bool) -> None:
        """Choose the code of a tensor, or the scale of one without codes: its largest value, and
        those of others that share the scale, with some room to spare."""
        root, wide = self.wide.get(name), self.choices.wide
        if root is None:
            self.code(name, exact, real, signed)
        elif name not in wide:
            shared = [other for other, first in self.wide.items() if first == root]
            reach = max(float(self.ahead[other].abs().max()) for other in shared)
            scale = ROOM * max(reach, float(real.abs().max())) / self.headrooms[root]
            scale = max(scale, self.least_scale(shared))
            wide.update(dict.fromkeys(shared, scale if scale > 0 else 1.0))

    def least_scale(self, names: Sequence[str]) -> float:
        """Return the scale that tensors which share one have at least, whoever reads them."""
        read = [(name, stage) for name in names for stage in self.readers[name]]
        return max(
            (stage.op.least_scale for name, stage in read if name in stage.sources), default=0.0
        )

    def code(self, name: str, exact: Tensor, real: Tensor, signed: bool) -> TensorCode:
        """Return the code of a tensor from its float values and the ones to be rounded: the one it
        has, or that of a tensor with which it shares one, or a new one."""
        tensors, others = self.choices.tensors, self.joins.others(name)
        if name not in tensors:
            known = [tensors[other] for other in self.joins.members(name) if other in tensors]
            tensors[name] = known[0] if known else self.search(name, exact, real, signed)
        least = self.least_scale([name, *others])
        if tensors[name].scale < least:
            tensors[name] = replace(tensors[name], scale=least)
        return tensors[name]

    def search(self, name: str, exact: Tensor, real: Tensor, signed: bool) -> TensorCode:
        """Return the code of least cost for a tensor and the others that share it."""
        recipe, sensitivity, bits = self.recipe, self.sensitivity, self.plan.tensors[name]
        others = self.joins.others(name)
        signed = signed or any(self.bounds[other] < 0 for other in others)
        values = joined([exact[self.images], *(self.ahead[other] for other in others)])
        matrix = self.joins.root[name] in self.matrices
        if sensitivity is None:
            if matrix:
                return choose_matrix(values, bits, recipe)
            return choose_activations(values, bits, signed, recipe, exponent=self.exponent)
        importance = sensitivity.of_values(name, *others)
        if matrix:
            return choose_matrix(values, bits, recipe, importance)
        cost = None
        if bits < 8:
            count = len(sensitivity.first)
            samples = {other: self.ahead[other][:count] for other in others}
            cost = self.output_cost({name: real[sensitivity.first], **samples}, sensitivity)
        return choose_activations(values, bits, signed, recipe, cost, self.exponent, importance)

    def output_cost(self, samples: Maps, sensitivity: Sensitivity) -> Cost:
        """Return what the code of stored tensors costs: the squared error that it causes in each
        reader's pre-activation, the channels' means taken out, weighed by what the network's
        outputs make of it."""
        readers: list[tuple[str, Callable[[Tensor], Tensor], Tensor]] = []
        for name in samples:
            for stage in self.readers[name]:
                weight = sensitivity.before[stage.name]
                if name in stage.sources:
                    readers.append((name, self.reading(stage, name, len(weight)), weight))
                if stage.residual == name:
                    readers.append((name, lambda x: x, weight))
        expected = [apply(samples[name]) for name, apply, _ in readers]

        def cost(code: TensorCode) -> float:
            rounded = {name: round_values(sample, code) for name, sample in samples.items()}
            total = 0.0
            for (name, apply, weight), y in zip(readers, expected, strict=True):
                error = apply(rounded[name]) - y
                error -= error.mean((0, 2, 3), keepdim=True)
                total += float((error.square() * weight).sum())
            return total

        return cost

    def reading(self, stage: Stage, name: str, count: int) -> Callable[[Tensor], Tensor]:
        """Return what a stage makes of one of the tensors that it reads, the others in float."""

        def apply(x: Tensor) -> Tensor:
            maps = [x if source == name else self.ahead[source][:count] for source in stage.sources]
            return operate(stage, maps)

        return apply


def joined(maps: Sequence[Tensor]) -> np.ndarray:
    """Return the values of maps as one array; of a single map in its own shape."""
    arrays = [values.numpy() for values in maps]
    return arrays[0] if len(arrays) == 1 else np.concatenate([array.ravel() for array in arrays])
