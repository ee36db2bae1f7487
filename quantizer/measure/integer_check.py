"""The integer network against its quantized stages: no lowering can lie.

Each stage is evaluated in float64 from what the integer network itself has stored, so that no
difference is carried on. Its ``y`` may differ by the roundings of the contract alone: of the shift
and of the residual half a unit each, and 2**-16 of each term, because multipliers have 16 bits.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nupes.model.arithmetic import Y_RANGE
from nupes.model.errors import NupesError
from nupes.model.network import IntegerNetwork
from nupes.model.tensor import Port
from nupes.quantizer.codes.decisions import Choices, TensorCode
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import SHOWN
from nupes.quantizer.lowering.layers import factor_of, y_scale_of
from nupes.quantizer.lowering.ports import find_ranges
from nupes.quantizer.stages.masks import hiding, is_masked, masks_of
from nupes.quantizer.stages.operators import column
from nupes.quantizer.stages.run import Maps, operate
from nupes.quantizer.stages.stage import Entry, FusedNetwork, Stage

__all__ = ["check_integers"]

IMAGES = 2
"""Images that are compared."""

ROUNDINGS = 1.25
"""Units of ``y`` by which the shift, the bias and a multiplier of few bits may move a result."""

RESIDUAL = 0.5
"""The same of the rounding of a residual term."""

MULTIPLIER = 2.0**-16
"""Relative error of a multiplier."""

TOKEN = 2.0**-15
"""The same of the factor of a token; the token stage moves its result by half a unit, too."""

NEAR = 1e-9
"""Relative error of the host's thresholds."""


def check_integers(
    network: FusedNetwork, choices: Choices, integer: IntegerNetwork, inputs: Batch
) -> None:
    """Compare an integer network with the stages and the choices that it was lowered from, on some
    of the inputs (n, c, h, w); raise ``NupesError`` for the first layer that differs."""
    images = [part[:IMAGES].numpy() for part in inputs]
    codes = integer.encode_all(*images)
    real: Maps = {}
    for entry, part, found in zip(network.inputs, images, codes, strict=True):
        code = choices.tensors[entry.name]
        refuse(entry.name, count_far(entry, code, part, found))
        real[entry.name] = values_of(code, found)
    stored = dict(zip(network.entered, codes, strict=True))
    for item, constant in zip(network.constants, integer.constants, strict=True):
        code = choices.tensors[item.name]
        nearest = code.codebook.nearest(item.values / code.scale)
        refuse(item.name, int((constant.codes != nearest).sum()))
        stored[item.name] = np.broadcast_to(nearest, (len(codes[0]), *item.shape))
        real[item.name] = values_of(code, stored[item.name])
    stored |= {layer.output.name: result for layer, result in integer.trace(*codes)}
    ranges, masks = find_ranges(network), masks_of(network) | hiding(network)
    for stage in network.stages:
        port = ranges.get(stage.name, Port(stage.name))
        result = port.select(stored[port.tensor])
        wrong = count_wrong(stage, choices, real, result, masks)
        refuse(stage.name, wrong)
        if stage.name in choices.wide:
            values = result.transpose(0, 3, 1, 2) * choices.wide[stage.name]
            real[stage.name] = torch.from_numpy(values)
        if stage.name in choices.tensors:
            real[stage.name] = values_of(choices.tensors[stage.name], result)


def count_far(entry: Entry, code: TensorCode, images: np.ndarray, codes: np.ndarray) -> int:
    """Return how many codes (b, h, w, c) of an input are not the nearest ones of images (b, c, h,
    w)."""
    images = images.astype(np.float64).transpose(0, 2, 3, 1)
    scaled = images * entry.scale + entry.shift
    terms = np.abs(images * entry.scale) + np.abs(entry.shift) + code.scale
    error, least = (
        np.abs(code.codebook.levels[some] * code.scale - scaled)
        for some in (codes, code.codebook.nearest(scaled / code.scale))
    )
    return int((error > least + NEAR * terms).sum())


def values_of(code: TensorCode, codes: np.ndarray) -> Tensor:
    """Return the real values (b, c, h, w) float64 of codes (b, h, w, c)."""
    values = code.codebook.levels[codes] * code.scale
    return torch.from_numpy(values.transpose(0, 3, 1, 2).copy())


def refuse(name: str, wrong: int) -> None:
    """Raise an error if results of a layer are wrong."""
    if wrong:
        raise NupesError(
            f"layer {name!r}: the integers must be those of the quantized network, but {wrong} "
            "values are not; this is a defect of nupes, please report it"
        )


@torch.no_grad()
def count_wrong(
    stage: Stage, choices: Choices, real: Maps, result: np.ndarray, masks: Mapping[str, str]
) -> int:
    """Return how many results (b, h, w, c) of a layer, codes or ``y``, are none that the stage
    gives for the real values of what it reads; scores that are masked are minus infinity."""
    weight = choices.weights.get(stage.name)
    maps = [real[name] for name in stage.sources]
    scales = [choices.scale(name) for name in stage.sources]
    stage = replace(stage, op=stage.op.at_scales(*scales))
    product = operate(stage, maps, None if weight is None else weight.tensor(maps[0]))
    code = choices.tensors.get(stage.name)
    if not stage.op.accumulates:
        assert code is not None
        expected = code.codebook.nearest(product.numpy() / code.scale)
        return int((expected.transpose(0, 2, 3, 1) != result).sum())
    bias = column(choices.bias[stage.name], product)
    added = torch.zeros(()) if stage.residual is None else real[stage.residual]
    scale = y_scale_of(stage, choices)
    y = ((product + bias + added) / scale).numpy().transpose(0, 2, 3, 1)
    terms = ((product.abs() + added.abs()) / scale).numpy().transpose(0, 2, 3, 1)
    slack = ROUNDINGS + (RESIDUAL if stage.residual else 0.0) + MULTIPLIER * terms
    if stage.op.tokens:
        slack = slack + TOKEN * terms + np.abs(factor_of(stage, choices)) / (2 * scale)
    first, last = (np.clip(end, *Y_RANGE) for end in (np.ceil(y - slack), np.floor(y + slack)))
    if stage.name in masks:
        below = (real[masks[stage.name]] < SHOWN).numpy().transpose(0, 2, 3, 1)
        first, last = (np.where(below, Y_RANGE[0], end) for end in (first, last))
    if code is None:
        return int(((result < first) | (result > last)).sum())
    found = np.zeros(result.shape, bool)
    for step in range(int((last - first).max()) + 1):
        possible = np.minimum(first + step, last)
        values = stage.function(possible * scale)
        if is_masked(stage):
            values[possible == Y_RANGE[0]] = 0.0
        found |= code.codebook.nearest(values / code.scale) == result
    return int((~found).sum())
