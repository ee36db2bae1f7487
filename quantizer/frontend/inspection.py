"""What of a module will run and what will not, before any value is quantized: the capture itself,
its self-check, and the layers that it becomes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from nupes.model.errors import UnsupportedError
from nupes.model.operators import Operator
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.call import value_shape
from nupes.quantizer.frontend.functions import IDENTITY
from nupes.quantizer.frontend.graph import Shape
from nupes.quantizer.frontend.problems import Problem
from nupes.quantizer.frontend.program import Program, export_inputs
from nupes.quantizer.frontend.verify import verify_capture
from nupes.quantizer.frontend.walk import survey
from nupes.quantizer.lowering.ports import stages_of_layers
from nupes.quantizer.lowering.skeleton import bare_operator
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.stage import FusedNetwork, Stage, weighted

__all__ = ["FoundLayer", "Inspection", "inspect_module"]

EXPORT_BATCH = 2
"""Batch size of the captured program; 2, because some programs specialise on 1."""


@dataclass(frozen=True)
class FoundLayer:
    """One layer of the integer network to be: shapes are (h, w, c), ``macs`` those of one image,
    ``parameters`` weights and biases after folding."""

    name: str
    operator: str
    input_shape: Shape
    output_shape: Shape
    macs: int
    parameters: int


@dataclass(frozen=True)
class Inspection:
    """What of a module will run: its layers and the network, or the problems. ``judged`` says
    whether every operator was looked at; behind a refused one some cannot be."""

    layers: tuple[FoundLayer, ...]
    problems: tuple[Problem, ...]
    network: FusedNetwork | None
    judged: bool = True


def inspect_module(
    module: nn.Module | ExportedProgram, *input_shapes: tuple[int, ...]
) -> Inspection:
    """Return what of a module will run on inputs of ``input_shapes``, such as (channels, height,
    width); an exported program has its shapes already.

    Raises ``InputError`` if the module does not take such images.
    """
    try:
        if isinstance(module, ExportedProgram):
            program = module
        else:
            program = export_inputs(module, *((EXPORT_BATCH, *shape) for shape in input_shapes))
        captured = survey(program)
        if captured.problems:
            return Inspection((), tuple(captured.problems), None, captured.judged)
        network = fuse(captured.graph)
    except UnsupportedError as error:
        return Inspection((), (Problem("", "", str(error)),), None, False)
    assert captured.graph.program is not None
    generator = torch.Generator().manual_seed(0)
    given = captured.graph.program.given
    noise = Batch(tuple(made_up(node, captured.graph.program, generator) for node in given))
    verify_capture(module, captured.graph, network, noise)
    return Inspection(list_layers(network), (), network)


def made_up(source: fx.Node, program: Program, generator: torch.Generator) -> Tensor:
    """Return a sample of an input: noise, a mask that hides nothing, or ids of the first row."""
    shape = (1, *value_shape(source))
    if source in program.integers:
        return torch.full(shape, int(source in program.flags))
    return 2 * torch.rand(shape, generator=generator) - 1


def list_layers(network: FusedNetwork) -> tuple[FoundLayer, ...]:
    """Return the layers that a fused network becomes."""
    shapes, operators = network.shapes, weighted(network.stages)
    found = []
    for stage in stages_of_layers(network):
        weights = operators[stage.name].kernel.size if stage.name in operators else 0
        sources = [shapes[name] for name in stage.sources]
        op = bare_operator(stage, 8, 0)
        found.append(
            FoundLayer(
                stage.name,
                describe_stage(stage, op, sources),
                sources[0],
                stage.shape,
                op.macs(*sources),
                weights + (len(stage.bias) if weights else 0),
            )
        )
    return tuple(found)


def describe_stage(stage: Stage, op: Operator, sources: Sequence[Shape]) -> str:
    """Return a stage in words: operator, window, stride, what is added and the function."""
    words = [op.words(*sources)]
    if stage.residual is not None:
        words.append("add")
    if stage.function is not IDENTITY:
        words.append(stage.function.name)
    return " + ".join(words)
