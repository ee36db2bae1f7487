"""The flow of a quantization, from a module to an integer network.

capture -> fuse -> prepare (bits, input code, equalization) -> search -> learn -> lower
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from nupes.model.errors import InputError
from nupes.model.network import Input, IntegerNetwork
from nupes.quantizer.checkpoint import Checkpoint, State, fingerprint
from nupes.quantizer.codes.decisions import Choices, TensorCode
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.data.calibration import Ranges
from nupes.quantizer.data.distillation import distill
from nupes.quantizer.data.inputs import limit_images
from nupes.quantizer.frontend.call import value_shape
from nupes.quantizer.frontend.program import Program, export_inputs
from nupes.quantizer.frontend.verify import verify_capture
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.learning.units import Augment, is_better, learn, output_losses, split_images
from nupes.quantizer.lowering.layers import lower
from nupes.quantizer.measure.float_run import check_float_run
from nupes.quantizer.measure.integer_check import check_integers
from nupes.quantizer.measure.statistics import describe
from nupes.quantizer.options.bits import BitPlan, plan_bits
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.options.scheme import Scheme
from nupes.quantizer.search.centring import center
from nupes.quantizer.search.equalization import equalize
from nupes.quantizer.search.inputs import check_masks, code_inputs
from nupes.quantizer.search.layers import choose
from nupes.quantizer.search.outliers import split_outliers
from nupes.quantizer.search.pairs import settle_pairs
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import measure_reach
from nupes.quantizer.stages.stage import FusedNetwork

__all__ = ["Options", "Task", "quantize_module"]

EXPORT_BATCH = 2
"""Batch size of the captured program; 2, because some programs specialise on 1."""

CLEAR_OUTPUTS = 1.0
"""Standard errors that the gain of the network's outputs by all that was learned must exceed."""


@dataclass(frozen=True, eq=False)
class Options:
    """What the user asks for, checked; ``made_up`` says that there are no calibration data."""

    scheme: Scheme
    recipe: Recipe
    ends: int | None
    input_bits: int | None
    residual_bits: int | None
    overrides: Mapping[str, str]
    kinds: Mapping[str, int]
    input_ranges: Ranges
    made_up: bool
    augment: Augment | None
    device: torch.device
    checkpoint: Path | None
    progress: Callable[[str, int, int], None] | None


@dataclass(frozen=True, eq=False)
class Task:
    """A network to be quantized, inputs (n, c, h, w) to do it for, its bits, the codes of those of
    its inputs that are known, and what the user asks for."""

    network: FusedNetwork
    inputs: Batch
    plan: BitPlan
    input_codes: Mapping[str, TensorCode]
    options: Options


def quantize_module(
    module: nn.Module | ExportedProgram, inputs: Batch, options: Options
) -> IntegerNetwork:
    """Return the integer network of a module, for inputs (n, ...) of its own shapes."""
    network, program, inputs = capture_network(module, inputs, options.made_up)
    ranges = tuple(options.input_ranges[number] for number in program.numbers())
    for node, bounds in zip(program.inputs, ranges, strict=True):
        if node in program.lookups and bounds is not None:
            raise InputError(
                f"input_range must be None for input {program.source(node).name!r}, whose ids are "
                f"looked up, not {bounds}"
            )
    task = prepare(network, network.maps(inputs), replace(options, input_ranges=ranges))
    kept = Checkpoint(options.checkpoint, owner_of(task))
    choices = decide(task, kept)
    integer = lower(task.network, choices, metadata_of(task, choices))
    check_integers(task.network, choices, integer, task.inputs)
    kept.remove()
    return with_tables(integer, program)


def capture_network(
    module: nn.Module | ExportedProgram, inputs: Batch, made_up: bool = False
) -> tuple[FusedNetwork, Program, Batch]:
    """Return the stages of a module for inputs of its shapes, the captured program, and what the
    network is given for what the module is, which is no ids if it is ``made_up``."""
    exported = module
    if not isinstance(exported, ExportedProgram):
        shapes = ((EXPORT_BATCH, *shape) for shape in inputs.shapes)
        integers = [not part.is_floating_point() for part in inputs]
        exported = export_inputs(exported, *shapes, integers=integers)
    graph = capture(exported)
    network, program = fuse(graph), graph.program
    assert program is not None
    for source, shape in zip(program.given, inputs.shapes, strict=True):
        if value_shape(source) != shape:
            raise InputError(
                f"calibration images must have shape {value_shape(source)}, not {shape}"
            )
    if made_up and program.integers:
        raise InputError("calibration must be given for a module of ids, which cannot be made up")
    entered = program.enter(inputs)
    if not made_up:
        check_masks(network, network.maps(entered))
    verify_capture(module, graph, network, inputs)
    return network, program, entered


def with_tables(network: IntegerNetwork, program: Program) -> IntegerNetwork:
    """Return a network whose inputs look up ids, and share arrays, as those of the program do."""
    inputs, owners = list(network.inputs), dict[int, str]()
    for index, (node, number) in enumerate(zip(program.inputs, program.numbers(), strict=True)):
        lookup, name = program.lookups.get(node), inputs[index].tensor.name
        if lookup is not None:
            codes = codes_of(inputs[index], lookup.table.double().numpy())
            inputs[index] = replace(inputs[index], lookup=codes, positions=lookup.positions)
        if owners.setdefault(number, name) != name:
            inputs[index] = replace(inputs[index], source=owners[number])
    return replace(network, inputs=tuple(inputs))


def codes_of(item: Input, table: np.ndarray) -> np.ndarray:
    """Return the codes (entries, c) of a table (entries, c), or (entries, 1) of numbers (entries,)
    that any channel may have: all channels of an input of one pixel have one encoder."""
    if table.ndim == 1:
        numbers, index = np.unique(table, return_inverse=True)
        every = np.broadcast_to(numbers[:, None], (len(numbers), item.tensor.shape[2]))
        return item.encoder(every[:, :, None, None])[index, 0, 0, :1]
    return item.encoder(table[:, :, None, None])[:, 0, 0]


def prepare(network: FusedNetwork, inputs: Batch, options: Options) -> Task:
    """Return the task of a network: its inputs are limited, pairs of products settled, its bits
    planned, its inputs drawn and coded, its keys and values centred, its outliers split off, and
    channels equalized."""
    recipe = options.recipe
    inputs = limit_images(inputs, network)
    network = settle_pairs(network, inputs)
    plan = plan_bits(
        network,
        options.scheme,
        options.ends,
        options.input_bits,
        options.residual_bits,
        options.overrides,
        options.kinds,
    )
    check_float_run(network, inputs, plan, recipe)
    if options.made_up and recipe.distill:
        ranges = [bounds for bounds in options.input_ranges if bounds is not None]
        inputs = distill(network, inputs, ranges, options.progress)
    network, input_codes = code_inputs(network, inputs, plan, recipe, options.input_ranges)
    if recipe.center:
        network = center(network, inputs, plan.tensors, recipe)
    if recipe.split:
        network, plan = split_outliers(network, inputs, plan)
    if recipe.equalize:
        network = equalize(network, inputs, plan.tensors)
    return Task(network, inputs, plan, input_codes, options)


def owner_of(task: Task) -> str:
    """Return the fingerprint of all that decides what a task ends with."""
    options = task.options
    augment = getattr(options.augment, "__qualname__", options.augment)
    return fingerprint(
        version("nupes"),
        task.network,
        task.plan,
        options.recipe,
        options.made_up,
        [part.numpy() for part in task.inputs],
        options.input_ranges,
        augment,
        options.device,
    )


def decide(task: Task, kept: Checkpoint) -> Choices:
    """Return the choices of a recipe: search, then learning, phase after phase.

    Images that will judge learning are kept from the search as well: what had been fitted to them
    would look better on them than it is. What was learned, unit by unit, stays only if it makes the
    network's outputs clearly better; else the search has all images after all.
    """
    network, inputs, options = task.network, task.inputs, task.options
    phases = options.recipe.phases
    seen, judged = split_images(len(inputs))
    if not phases:
        seen = torch.arange(len(inputs))
    start = kept.load()
    found = start.found

    def keep(step: int, done: int, choices: Choices) -> None:
        kept.save(State(step, done, choices, found))

    def search(step: int, images: Batch) -> Choices:
        return choose(
            network,
            images,
            task.plan,
            options.recipe,
            repair=options.made_up,
            input_codes=task.input_codes,
            progress=options.progress,
            start=start.choices if step == start.step else None,
            keep=partial(keep, step),
        )

    choices = start.choices
    if start.step == 0:
        choices = found = search(0, inputs[seen])
    for step, phase in enumerate(phases, 1):
        if step >= start.step:
            choices = learn(
                network,
                inputs,
                choices,
                phase,
                options.recipe.seed,
                options.progress,
                first=start.done if step == start.step else 0,
                keep=partial(keep, step),
                augment=options.augment,
                device=options.device,
            )
    if choices.learned:
        before, after = (output_losses(network, inputs[judged], c) for c in (found, choices))
        if is_better(before, after, CLEAR_OUTPUTS):
            return measure_reach(network, inputs, choices)
    return search(len(phases) + 1, inputs) if len(seen) < len(inputs) else found


def metadata_of(task: Task, choices: Choices) -> dict[str, Any]:
    """Return what a network's metadata say of how it was made."""
    options = task.options
    return {
        "scheme": str(options.scheme),
        "ends": options.ends,
        "input_bits": options.input_bits,
        "residual_bits": options.residual_bits,
        "calibration": "batch-norm statistics" if options.made_up else "data",
        "images": len(task.inputs),
        "recipe": asdict(options.recipe),
        "layers": describe(task.network, task.inputs, choices),
    }
