"""The front of the quantizer: a PyTorch module to an integer network in one call."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nupes.model.errors import InputError
from nupes.model.network import IntegerNetwork
from nupes.quantizer.checkpoint import Checkpoint, State, fingerprint
from nupes.quantizer.codes.decisions import Choices, TensorCode
from nupes.quantizer.data.calibration import (
    check_range,
    check_shape,
    gather_batches,
    synthesize_inputs,
)
from nupes.quantizer.data.distillation import distill
from nupes.quantizer.frontend.program import capture, export_module
from nupes.quantizer.learning.units import Augment, is_better, learn, output_losses, split_images
from nupes.quantizer.lowering.layers import lower
from nupes.quantizer.measure.statistics import describe
from nupes.quantizer.options.bits import BitPlan, plan_bits
from nupes.quantizer.options.recipe import Recipe, make_recipe
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.search.equalization import equalize
from nupes.quantizer.search.inputs import code_input
from nupes.quantizer.search.layers import choose
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import measure_reach
from nupes.quantizer.stages.stage import FusedNetwork

__all__ = ["quantize"]

EXPORT_BATCH = 2
"""Batch size of the captured program; 2, because some programs specialise on 1."""

BUDGET = 1 << 26
"""Largest number of values of one tensor over all calibration images that are used."""

CLEAR_OUTPUTS = 1.0
"""Standard errors that the gain of the network's outputs by all that was learned must exceed."""


def quantize(
    module: nn.Module | ExportedProgram,
    scheme: str = "W4A4",
    calibration: Any | Iterable[Any] | None = None,
    *,
    input_shape: tuple[int, int, int] | None = None,
    input_range: tuple[float, float] | None = None,
    ends: int | None = 8,
    input_bits: int | None = None,
    method: str | Recipe | None = None,
    codebook: Literal["power", "uniform"] | None = None,
    cell: str | None = None,
    overrides: Mapping[str, str] | None = None,
    residual_bits: int | None = 8,
    augment: Augment | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> IntegerNetwork:
    """Return the integer network of a trained module.

    Args:
        module: a module with one input (batch, c, h, w) and one output, or what ``torch.export``
            made of it. It is captured in evaluation mode; its training flags stay as they are.
        scheme: ``WxAy``, x bits for every weight and y bits for every tensor, each 2 to 8.
        calibration: images (n, c, h, w), or an iterable of such batches. Of more than fit in
            ``BUDGET`` values of the largest tensor, evenly spread ones are used; the network's
            metadata say how many. Of 50 and more, one in five is kept to judge what is learned.
            Without it, inputs are made up from ``input_shape`` and ``input_range``, drawn to what
            the batch norms remember, and every batch norm's statistics repair what they lead to.
        input_shape: (channels, height, width) of one input.
        input_range: (low, high) of the input's values, which an 8-bit input covers; ``None`` for
            those of the calibration images.
        ends: bits of the first and last layer's weights, of the network's input and of the last
            layer's input; ``None`` for those of the scheme.
        input_bits: bits of the network's input; ``None`` for those of the ends.
        method: ``nupes``, ``search``, ``powerquant``, ``rtn`` or a ``Recipe`` of your own; ``None``
            for ``nupes`` with calibration data and ``search`` without.
        codebook: ``power`` (an exponent for each layer's weights and each tensor) or ``uniform``;
            ``None`` for the method's own: power weights and, by ``nupes`` and ``search``, tensors
            with levels of any place. Eight bits are uniform, except those of an input of pixels
            that would take more than 256 levels side by side.
        cell: kind of cells (``mac`` of ``ArrayConfig``) that must hold the codebooks: ``decode``,
            ``uniform``, ``square`` or ``pair``; ``None`` for the method's own, ``decode``.
        overrides: schemes of the layers whose name matches a pattern (``fnmatch``), such as
            ``{"layer3.*": "W8A8"}``: their weights, and the tensor that they read.
        residual_bits: bits of tensors that are read only by an addition; ``None`` for those of the
            scheme.
        augment: a function ``(images (b, c, h, w), generator)`` to other plausible images of the
            same shape, such as mirrored or shifted ones, for each step of learning on the whole
            network. Labels are not used, so they need not stay what they were. Refused where the
            method has no such step.
        device: where to learn, such as ``cuda``; ``None`` for CUDA where there is one and the CPU
            elsewhere. The search runs on the CPU.
        checkpoint: a file that keeps what is done, layer by layer. An interrupted call that is made
            again goes on from it; at the end it is removed.
        progress: called as ``progress(layer, done, total)``.

    Raises:
        UnsupportedError: an operator cannot be quantized; it is named with its module.
        InputError: an argument breaks its rule.
    """
    parsed = parse_scheme(scheme)
    default = "nupes" if calibration is not None else "search"
    recipe = make_recipe(default if method is None else method, codebook, cell)
    place = find_device(device)
    check_module(module)
    check_bits({"ends": ends, "input_bits": input_bits, "residual_bits": residual_bits})
    check_augment(augment, recipe)
    if overrides is not None and not isinstance(overrides, Mapping):
        raise InputError(
            "overrides must be a mapping of patterns to schemes, such as {'layer3.*': 'W8A8'}, not "
            f"{type(overrides).__name__}"
        )
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise InputError(f"checkpoint must be a path, not {type(checkpoint).__name__}")
    if input_range is not None:
        check_range(input_range)
    if calibration is None:
        # Moments of made-up inputs are not worth the closest fit: it gains nothing on real ones.
        recipe = replace(recipe, finish=tuple(step for step in recipe.finish if step != "beam"))
    if calibration is None and recipe.phases:
        raise InputError(
            "method must be one that does not learn where there is no calibration, because to "
            "learn from inputs that are made up does harm; use 'search', the default there"
        )
    inputs = None if calibration is None else gather_batches(calibration)
    if inputs is None:
        if input_shape is None or input_range is None:
            raise InputError(
                "calibration must be given, or both input_shape and input_range, not neither"
            )
        inputs = synthesize_inputs(input_shape, input_range)
    elif input_shape is not None and (shape := check_shape(input_shape)) != inputs.shape[1:]:
        raise InputError(
            f"calibration images must have the shape {shape} of input_shape, not "
            f"{tuple(inputs.shape[1:])}"
        )
    if isinstance(module, ExportedProgram):
        program = module
    else:
        program = export_module(module, (EXPORT_BATCH, *inputs.shape[1:]))
    network = fuse(capture(program))
    height, width, channels = network.input.shape
    if tuple(inputs.shape[1:]) != (channels, height, width):
        raise InputError(
            f"calibration images must have shape {(channels, height, width)}, not "
            f"{tuple(inputs.shape[1:])}"
        )
    plan = plan_bits(network, parsed, ends, input_bits, residual_bits, overrides or {})
    repair = calibration is None
    inputs = limit_images(inputs, network)
    if input_range is not None and repair and recipe.distill:
        inputs = distill(network, inputs, input_range, progress)
    network, input_code = code_input(network, inputs, plan, recipe, input_range)
    if recipe.equalize:
        network = equalize(network, inputs, plan.tensors)
    name = getattr(augment, "__qualname__", augment)
    owner = fingerprint(
        version("nupes"), network, plan, recipe, repair, inputs.numpy(), input_range, name, place
    )
    kept = Checkpoint(None if checkpoint is None else Path(checkpoint), owner)
    choices = run(
        network,
        inputs,
        plan,
        recipe,
        kept,
        repair=repair,
        input_code=input_code,
        augment=augment,
        device=place,
        progress=progress,
    )
    metadata = {
        "scheme": str(parsed),
        "ends": ends,
        "input_bits": input_bits,
        "residual_bits": residual_bits,
        "calibration": "batch-norm statistics" if repair else "data",
        "images": len(inputs),
        "recipe": asdict(recipe),
        "layers": describe(network, inputs, choices),
    }
    integer = lower(network, choices, metadata)
    kept.remove()
    return integer


def run(
    network: FusedNetwork,
    inputs: Tensor,
    plan: BitPlan,
    recipe: Recipe,
    kept: Checkpoint,
    *,
    repair: bool,
    input_code: TensorCode | None,
    augment: Augment | None,
    device: torch.device,
    progress: Callable[[str, int, int], None] | None,
) -> Choices:
    """Return the choices of a recipe: search, then learning, phase after phase.

    Images that will judge learning are kept from the search as well: what had been fitted to them
    would look better on them than it is. What was learned, unit by unit, stays only if it makes the
    network's outputs clearly better; else the search has all images after all.
    """
    seen, judged = split_images(len(inputs))
    if not recipe.phases:
        seen = torch.arange(len(inputs))
    start = kept.load()
    last = len(recipe.phases) + 1
    found = start.found

    def keep(step: int, done: int, choices: Choices) -> None:
        kept.save(State(step, done, choices, found))

    def search(step: int, images: Tensor) -> Choices:
        return choose(
            network,
            images,
            plan,
            recipe,
            repair=repair,
            input_code=input_code,
            progress=progress,
            start=start.choices if step == start.step else None,
            keep=partial(keep, step),
        )

    choices = start.choices
    if start.step == 0:
        choices = found = search(0, inputs[seen])
    for step, phase in enumerate(recipe.phases, 1):
        if step >= start.step:
            choices = learn(
                network,
                inputs,
                choices,
                phase,
                recipe.seed,
                progress,
                first=start.done if step == start.step else 0,
                keep=partial(keep, step),
                augment=augment,
                device=device,
            )
    if choices.learned:
        before, after = (output_losses(network, inputs[judged], c) for c in (found, choices))
        if is_better(before, after, CLEAR_OUTPUTS):
            return measure_reach(network, inputs, choices)
    return search(last, inputs) if len(seen) < len(inputs) else found


def find_device(device: torch.device | str | None) -> torch.device:
    """Return a device by name; refuse one that is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"device must be one that PyTorch has here, not {device!r}: {reason}"
        ) from error


def check_module(module: Any) -> None:
    """Refuse what is no network."""
    if not isinstance(module, (nn.Module, ExportedProgram)):
        raise InputError(
            f"module must be a torch.nn.Module or an ExportedProgram, not {type(module).__name__}"
        )


def check_bits(bits: Mapping[str, Any]) -> None:
    """Refuse numbers of bits out of range."""
    for name, count in bits.items():
        if count is not None and (isinstance(count, bool) or count not in range(2, 9)):
            raise InputError(f"{name} must be 2 to 8 bits or None, not {count!r}")


def check_augment(augment: Any, recipe: Recipe) -> None:
    """Refuse what makes no images, or would never be called."""
    if augment is None:
        return
    if not callable(augment):
        raise InputError(f"augment must be a function, not {type(augment).__name__}")
    if not any(phase.unit == "network" for phase in recipe.phases):
        raise InputError(
            "augment must come with a method that learns the whole network at once, such as "
            "Recipe(phases=(END_TO_END,)); this one would never call it"
        )


def limit_images(inputs: Tensor, network: Any) -> Tensor:
    """Return as many images, evenly spread, as keep the largest tensor within the budget."""
    sizes = [stage.shape[0] * stage.shape[1] * stage.shape[2] for stage in network.stages]
    most = max(1, BUDGET // max(*sizes, inputs[0].numel()))
    if len(inputs) <= most:
        return inputs
    return inputs[torch.linspace(0, len(inputs) - 1, most).long()]
