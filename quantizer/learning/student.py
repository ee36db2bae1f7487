"""The quantized network as a differentiable one: its codes and biases are parameters."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nupes.quantizer.codes.decisions import Choices
from nupes.quantizer.learning.soft import SoftActivation, SoftWeight
from nupes.quantizer.stages.joins import join_tensors
from nupes.quantizer.stages.operators import column
from nupes.quantizer.stages.run import Hooks, Maps, evaluate
from nupes.quantizer.stages.stage import FusedNetwork, Stage, weighted

__all__ = ["Student"]


class Student(nn.Module):
    """Some stages of a network, with everything about them that can be learned.

    A tensor is rounded where it is read. Parts are found by the positions of tensors, because torch
    takes few names; tensors that share a code share a part, and copies need none.
    """

    def __init__(
        self,
        network: FusedNetwork,
        stages: Sequence[Stage],
        choices: Choices,
        *,
        exponents: bool,
        kind: type[SoftWeight] = SoftWeight,
    ) -> None:
        super().__init__()
        self.stages = stages
        self.positions = {name: str(index) for index, name in enumerate(network.shapes)}
        self.joins = join_tensors(network)
        copies = {stage.name for stage in network.stages if stage.copies_codes}
        self.unrounded = copies | set(choices.wide)
        # Any, because a module dictionary forgets of which kind its modules are.
        self.weights: Any = nn.ModuleDict()
        self.tensors: Any = nn.ModuleDict()
        self.bias = nn.ParameterDict()
        for name, op in weighted(stages).items():
            self.weights[self.positions[name]] = kind(op.weight, choices.weights[name], exponents)
        for stage in stages:
            if stage.name in choices.bias:
                bias = nn.Parameter(column(choices.bias[stage.name]).flatten())
                self.bias[self.positions[stage.name]] = bias
            for name in stage.reads:
                if name not in self.unrounded and self.key(name) not in self.tensors:
                    self.tensors[self.key(name)] = SoftActivation(choices.tensors[name], exponents)

    def key(self, name: str) -> str:
        """Return where in ``tensors`` the code of a tensor is."""
        return self.positions[self.joins.root[name]]

    def forward(
        self,
        inputs: Maps,
        beta: float | None,
        drop: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Maps:
        """Return what each stage gives before it is rounded, from such tensors of stages before.

        A share ``drop`` of the values read stays unrounded (QDrop, Wei et al., arXiv 2203.05740).
        """
        return evaluate(self.stages, inputs, Soft(self, beta, drop, generator))

    def penalty(self, sharpness: float) -> Tensor:
        """Return the penalties of all weights."""
        return torch.stack([weight.penalty(sharpness) for weight in self.weights.values()]).sum()

    @torch.no_grad()
    def harden(self, choices: Choices) -> Choices:
        """Return the choices with what has been learned in place of theirs."""
        learned = choices.copy()
        learned.learned = True
        for stage in self.stages:
            position = self.positions[stage.name]
            if position in self.weights:
                learned.weights[stage.name] = self.weights[position].harden()
            if position in self.bias:
                learned.bias[stage.name] = self.bias[position].double().cpu().numpy()
        codes = {key: module.harden() for key, module in self.tensors.items()}
        for name in choices.tensors:
            learned.tensors[name] = codes.get(self.key(name), choices.tensors[name])
        return learned


class Soft(Hooks):
    """The quantized network with the parts of a student in place of its codes."""

    def __init__(
        self, student: Student, beta: float | None, drop: float, generator: torch.Generator | None
    ) -> None:
        self.student, self.beta = student, beta
        self.drop, self.generator = drop, generator

    def read(self, name: str, values: Tensor) -> Tensor:
        """Return values rounded to learned levels; copies are rounded already, and what has 16 bits
        hardly is."""
        if name in self.student.unrounded:
            return values
        rounded = self.student.tensors[self.student.key(name)](values)
        if self.drop > 0:
            dropped = torch.rand(values.shape, generator=self.generator).to(values.device)
            rounded = torch.where(dropped < self.drop, values, rounded)
        return rounded

    def weight(self, stage: Stage, maps: Sequence[Tensor]) -> Tensor | None:
        """Return soft weights."""
        position = self.student.positions[stage.name]
        weights = self.student.weights
        return weights[position](self.beta) if position in weights else None

    def shift(self, stage: Stage, y: Tensor) -> Tensor:
        """Add the learned bias."""
        position = self.student.positions[stage.name]
        return y + self.student.bias[position].reshape(1, -1, 1, 1)
