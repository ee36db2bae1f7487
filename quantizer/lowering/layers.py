"""Lowering: fused stages and the choices made for them to the integers of the contract."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nupes.model.arithmetic import Y_RANGE
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer, Post, Requantize, Residual
from nupes.model.network import Constant, Input, InputEncoder, IntegerNetwork, Output
from nupes.model.tensor import Coded, Port, Tensor, Wide
from nupes.quantizer.codes.decisions import Choices, TensorCode
from nupes.quantizer.frontend.functions import build_encoder
from nupes.quantizer.lowering.fixed_point import lower_requantize, raise_scale, to_fixed_point
from nupes.quantizer.lowering.ports import (
    find_ranges,
    ports_of,
    residual_port,
    stages_of_layers,
)
from nupes.quantizer.stages.masks import (
    MASK_MULT,
    MASK_SHIFT,
    REACH,
    hiding,
    is_masked,
    masks_of,
)
from nupes.quantizer.stages.stage import Entry, FusedNetwork, Held, Stage

__all__ = ["HEADROOM", "lower", "y_scale_of"]

HEADROOM = 2.0
"""How far beyond the calibrated pre-activations ``y`` reaches before it saturates."""

GRID = 4097
"""Points at which the clipping range of a function is looked for."""


def lower(network: FusedNetwork, choices: Choices, metadata: dict[str, Any]) -> IntegerNetwork:
    """Return the integer network of a fused network with these choices."""
    tensors = {
        name: Tensor(name, network.shapes[name], Coded(code.codebook, code.scale))
        for name, code in choices.tensors.items()
    }
    for name, scale in choices.wide.items():
        tensors[name] = Tensor(name, network.shapes[name], Wide(scale))
    ranges = find_ranges(network)
    masks, second = masks_of(network), hiding(network)
    layers = [
        lower_stage(stage, choices, tensors, ranges, masks, stage.name in second)
        for stage in stages_of_layers(network)
    ]
    return IntegerNetwork(
        inputs=tuple(
            Input(tensors[entry.name], lower_input(entry, choices.tensors[entry.name]))
            for entry in network.inputs
        ),
        layers=tuple(layers),
        outputs=tuple(Output(name, shape) for name, shape in network.outputs),
        constants=tuple(
            Constant(tensors[item.name], lower_constant(item, choices.tensors[item.name]))
            for item in network.constants
        ),
        metadata=metadata,
    )


def lower_input(entry: Entry, code: TensorCode) -> InputEncoder:
    """Return the host's encoder of an input, its affine folded in its thresholds."""
    levels = code.codebook.levels.astype(np.float64)
    middle = (levels[:-1] + levels[1:]) / 2 * code.scale
    return InputEncoder((middle[None] - entry.shift[:, None]) / entry.scale[:, None])


def lower_constant(item: Held, code: TensorCode) -> np.ndarray:
    """Return the codes (h, w, c) uint8 of a tensor that the network holds."""
    return code.codebook.nearest(item.values / code.scale).astype(np.uint8)


def lower_stage(
    stage: Stage,
    choices: Choices,
    tensors: Mapping[str, Tensor],
    ranges: Mapping[str, Port],
    masks: Mapping[str, str],
    hides: bool = False,
) -> Layer:
    """Return one layer; ``tensors`` are those that are stored, ``ranges`` parts of them, ``masks``
    what scores are masked with, which is added to them. One that ``hides`` adds a mask itself."""
    weights = choices.weights.get(stage.name)
    scales = [choices.scale(name) for name in stage.sources]
    op, inputs = stage.op.at_scales(*scales).lower(weights), ports_of(stage, ranges)
    if not stage.op.accumulates:
        return Layer(stage.name, op, inputs, tensors[stage.name])
    factor = factor_of(stage, choices)
    bias = choices.bias[stage.name]
    skip = tensors[stage.residual] if stage.residual else None
    code = choices.tensors.get(stage.name)
    y_scale = y_scale_of(stage, choices)
    encoder = None
    if code is not None:
        where = f"layer {stage.name!r}"
        encoder = build_encoder(
            stage.function, y_scale, code.codebook, code.scale, where, masked=is_masked(stage)
        )
    requantize = lower_requantize(factor / y_scale, bias / y_scale)
    if hides:
        one = np.ones(stage.shape[2], np.int32)
        requantize = Requantize(MASK_MULT * one, 0 * one.astype(np.int64), MASK_SHIFT * one)
    residual = lower_residual(skip, ranges, y_scale)
    if stage.name in masks:
        read = [tensors[name].format.ends for name in stage.sources]
        residual = lower_mask(
            stage, residual_port(masks[stage.name], ranges), requantize, op.bound(*read)
        )
    return Layer(
        name=stage.name,
        op=op,
        inputs=inputs,
        output=tensors.get(stage.name, Tensor(stage.name, stage.shape, Wide(y_scale))),
        post=Post(
            requantize,
            residual,
            encoder,
        ),
    )


def factor_of(stage: Stage, choices: Choices) -> np.ndarray:
    """Return the real value (n,) of one accumulator unit of each channel."""
    scales = [choices.scale(name) for name in stage.sources]
    return stage.gain * stage.op.unit(choices.weights.get(stage.name), scales)


def y_scale_of(stage: Stage, choices: Choices) -> float:
    """Return the real value of one unit of a stage's ``y``: given where that is what is stored, or
    is the accumulator."""
    if stage.name in choices.wide:
        return choices.wide[stage.name]
    if stage.op.exact:
        return float(factor_of(stage, choices)[0])
    reach = clipping_range(stage, choices.tensors.get(stage.name), choices.reach[stage.name])
    skip = choices.scale(stage.residual) if stage.residual else None
    bias = choices.bias[stage.name]
    start, where = reach / Y_RANGE[1], f"layer {stage.name!r}"
    return raise_scale(start, factor_of(stage, choices), bias, skip, where)


def clipping_range(stage: Stage, code: TensorCode | None, largest: float) -> float:
    """Return the magnitude that ``y`` must reach: beyond it the code no longer changes, or no value
    is expected."""
    reach = HEADROOM * largest if largest > 0 else 1.0
    if code is None:
        return reach
    if stage.copies_codes:
        return float(np.abs(code.codebook.levels).max()) * code.scale
    grid = np.linspace(-reach, reach, GRID)
    codes = code.codebook.nearest(stage.function(grid) / code.scale).astype(np.int16)
    changes = np.flatnonzero(np.diff(codes))
    if len(changes) == 0:
        return reach
    step = grid[1] - grid[0]
    outermost = max(abs(grid[changes[0]]), abs(grid[changes[-1] + 1])) + step
    return min(reach, float(outermost))


def lower_mask(stage: Stage, port: Port, requantize: Requantize, bound: int) -> Residual:
    """Return the residual that makes minus infinity of scores that do not count; refuse scores that
    could be larger than it is low."""
    sums = np.array([[bound], [-bound]], np.int64) * requantize.mult + requantize.bias
    largest = int((sums >> requantize.shift).max())
    if stage.residual is not None or largest > REACH:
        raise UnsupportedError(
            f"layer {stage.name!r}: masked scores must be a product alone, of at most {REACH}, not "
            f"up to {largest}"
        )
    return Residual(port, MASK_MULT, MASK_SHIFT)


def lower_residual(
    skip: Tensor | None, ranges: Mapping[str, Port], y_scale: float
) -> Residual | None:
    """Return the residual of a stored tensor in units of ``y``."""
    if skip is None:
        return None
    mult, shift = to_fixed_point(np.array([skip.scale / y_scale]))
    return Residual(residual_port(skip.name, ranges), int(mult[0]), int(shift[0]))
