"""The front of the quantizer: a PyTorch module to an integer network in one call."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.export import ExportedProgram

from nupes.model.errors import InputError
from nupes.model.network import IntegerNetwork
from nupes.quantizer.data.calibration import check_ranges, check_shapes
from nupes.quantizer.data.inputs import make_inputs
from nupes.quantizer.frontend.program import count_inputs
from nupes.quantizer.learning.units import Augment
from nupes.quantizer.options.bits import KINDS, WIDE_KINDS
from nupes.quantizer.options.recipe import Recipe, make_recipe
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.pipeline import Options, quantize_module

__all__ = ["quantize"]


def quantize(
    module: nn.Module | ExportedProgram,
    scheme: str = "W4A4",
    calibration: Any | Iterable[Any] | None = None,
    *,
    input_shape: tuple[int, ...] | Sequence[tuple[int, ...]] | None = None,
    input_range: tuple[float, float] | Sequence[tuple[float, float] | None] | None = None,
    ends: int | None = 8,
    input_bits: int | None = None,
    method: str | Recipe | None = None,
    codebook: Literal["power", "uniform"] | None = None,
    cell: str | None = None,
    overrides: Mapping[str, str] | None = None,
    bits: Mapping[str, int] | None = None,
    residual_bits: int | None = 8,
    augment: Augment | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> IntegerNetwork:
    """Return the integer network of a trained module.

    Args:
        module: a module with one input (batch, c, h, w) or several, or what ``torch.export`` made
            of it. Its inputs are the arguments of ``forward`` that have no default, or as many of
            the first ones as there are shapes in ``input_shape``; those of an exported program are
            all of its own, in the order in which PyTorch flattens them. It is captured in
            evaluation mode; its training flags stay as they are. The tensors that it returns,
            alone or in tuples, lists and dictionaries, are the network's outputs in the order in
            which PyTorch flattens them.
        scheme: ``WxAy``, x bits for every weight and y bits for every tensor, each 2 to 8.
        calibration: for a module with one input: images (n, c, h, w), or an iterable of such
            batches; a batch that is a tuple or list has the images first, and what follows, such
            as labels, is not looked at. For a module with several: a tuple or list of arrays, one
            (n, ...) for each input in their order, or an iterable of batches, each of them a tuple
            or list that begins with such arrays. Of more than fit in
            ``BUDGET`` values of the largest tensor, evenly spread ones are used; the network's
            metadata say how many. A method that learns keeps one in five of 50 and more to judge
            what is learned.
            Without it, inputs are made up from ``input_shape`` and ``input_range``, drawn to what
            the batch norms remember, and every batch norm's statistics repair what they lead to.
        input_shape: shape of one input: (channels, height, width), (channels, length), (tokens,
            channels) or (features,); of several, a tuple of their shapes.
        input_range: (low, high) of the values of every input, which an 8-bit input covers, or a
            tuple of a range for each input; ``None`` for those of the calibration images.
        ends: bits of the first and last layer's weights, of the network's inputs and of the last
            layer's input; ``None`` for those of the scheme.
        input_bits: bits of the network's inputs; ``None`` for those of the ends.
        method: ``search``, ``nupes``, ``powerquant``, ``rtn`` or a ``Recipe`` of your own; ``None``
            for ``search``. ``nupes`` learns after the search, for two to five times the time; what
            it learned is kept only if the outputs are better, which in tests was seldom.
        codebook: ``power`` (an exponent for each layer's weights and each tensor) or ``uniform``;
            ``None`` for the method's own: power weights and, by ``nupes`` and ``search``, a table
            of levels for each tensor. Eight bits are uniform, except those of an input of pixels
            that would take more than 256 levels side by side.
        cell: kind of cells (``mac`` of ``ArrayConfig``) that must hold the codebooks: ``decode``,
            ``uniform``, ``square`` or ``pair``; ``None`` for the method's own, ``decode``.
        overrides: schemes of the layers whose name matches a pattern (``fnmatch``), such as
            ``{"layer3.*": "W8A8"}``: their weights, and the tensor that they read. Of a product of
            two tensors, W holds for the one that stands where weights do: ``"*.scores*": "W8A4"``
            are keys of 8 bits and queries of 4.
        bits: bits of tensors of attention by their kind, such as ``{"keys": 8, "values": 8}``:
            ``queries``, ``keys``, ``numerators`` (of softmax) and ``values``, where no override
            says otherwise; ``scores`` and the ``stream`` have 16 in any case.
        residual_bits: bits of tensors that are read only by an addition; ``None`` for those of the
            scheme.
        augment: a function ``(images (b, c, h, w), generator)`` to other plausible images of the
            same shape, such as mirrored or shifted ones, for each step of learning on the whole
            network; of several inputs it takes and returns a tuple. Labels are not used, so they
            need not stay what they were. Refused where the method has no such step.
        device: where to learn, such as ``cuda``; ``None`` for CUDA where there is one and the CPU
            elsewhere. The search runs on the CPU.
        checkpoint: a file that keeps what is done, layer by layer. An interrupted call that is made
            again goes on from it; at the end it is removed.
        progress: called as ``progress(layer, done, total)``.

    Raises:
        UnsupportedError: an operator cannot be quantized; it is named with its module.
        InputError: an argument breaks its rule.
    """
    recipe = make_recipe("search" if method is None else method, codebook, cell)
    if calibration is None:
        # Moments of made-up inputs are not worth the closest fit: it gains nothing on real ones.
        recipe = replace(recipe, finish=tuple(step for step in recipe.finish if step != "beam"))
    check_module(module)
    shapes = None if input_shape is None else check_shapes(input_shape)
    count = count_inputs(module) if shapes is None else len(shapes)
    options = Options(
        scheme=parse_scheme(scheme),
        recipe=recipe,
        ends=check_bits("ends", ends),
        input_bits=check_bits("input_bits", input_bits),
        residual_bits=check_bits("residual_bits", residual_bits),
        overrides=check_overrides(overrides),
        kinds=check_kinds(bits),
        input_ranges=check_ranges(input_range, count),
        made_up=calibration is None,
        augment=check_augment(augment, recipe),
        device=find_device(device),
        checkpoint=check_checkpoint(checkpoint),
        progress=check_function("progress", progress),
    )
    if options.made_up and recipe.phases:
        raise InputError(
            "method must be one that does not learn where there is no calibration, because to "
            "learn from inputs that are made up does harm; use 'search', the default there"
        )
    # Modes around the call are the caller's: gradients are needed here, and the full precision.
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
        inputs = make_inputs(calibration, count, shapes, options.input_ranges)
        return quantize_module(module, inputs, options)


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


def check_bits(name: str, count: Any) -> int | None:
    """Return a number of bits; refuse one out of range."""
    if count is not None and (isinstance(count, bool) or count not in range(2, 9)):
        raise InputError(f"{name} must be 2 to 8 bits or None, not {count!r}")
    return count


def check_overrides(overrides: Any) -> Mapping[str, str]:
    """Return overrides; refuse what is no mapping to schemes."""
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        raise InputError(
            "overrides must be a mapping of patterns to schemes, such as {'layer3.*': 'W8A8'}, not "
            f"{type(overrides).__name__}"
        )
    for text in overrides.values():
        parse_scheme(text)
    return overrides


def check_kinds(bits: Any) -> Mapping[str, int]:
    """Return the bits of tensors by their kind, those that can be chosen; refuse others."""
    if bits is not None and not isinstance(bits, Mapping):
        raise InputError(
            f"bits must be a mapping of kinds to numbers, such as {{'keys': 8}}, not "
            f"{type(bits).__name__}"
        )
    for kind, count in (bits or {}).items():
        if kind not in (*KINDS, *WIDE_KINDS):
            raise InputError(f"bits must be of {', '.join((*KINDS, *WIDE_KINDS))}, not of {kind!r}")
        if kind in WIDE_KINDS and count != 16:
            raise InputError(
                f"bits of {kind} must be 16, which the array has for them, not {count!r}"
            )
        if kind in KINDS and (isinstance(count, bool) or count not in range(2, 9)):
            raise InputError(f"bits of {kind} must be 2 to 8, not {count!r}")
    return {kind: count for kind, count in (bits or {}).items() if kind in KINDS}


def check_checkpoint(checkpoint: Any) -> Path | None:
    """Return the path of a checkpoint."""
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, str | os.PathLike):
        raise InputError(f"checkpoint must be a path, not {type(checkpoint).__name__}")
    return Path(checkpoint)


def check_function(name: str, function: Any) -> Any:
    """Return a function, or ``None``; refuse anything else."""
    if function is not None and not callable(function):
        raise InputError(f"{name} must be a function, not {type(function).__name__}")
    return function


def check_augment(augment: Any, recipe: Recipe) -> Augment | None:
    """Return a function that makes images; refuse one that would never be called."""
    check_function("augment", augment)
    if augment is not None and not any(phase.unit == "network" for phase in recipe.phases):
        raise InputError(
            "augment must come with a method that learns the whole network at once, such as "
            "Recipe(phases=(END_TO_END,)); this one would never call it"
        )
    return augment
