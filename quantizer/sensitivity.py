"""How much a rounding error in one channel of a tensor matters to those who read it."""

import math

import numpy as np
import torch
from torch import Tensor

from nupes.model.operators import Select
from nupes.quantizer.forward import Maps, run_float
from nupes.quantizer.fuse import FusedNetwork, Stage
from nupes.quantizer.graph import Convolution

__all__ = ["channel_sensitivity", "sample_maps"]

IMAGES = 256
"""Images of which a sample has at most so many."""

VALUES = 1 << 28
"""Values that the tensors of a sample have at most together, however large the network."""

LEAST = 1e-6
"""Least sensitivity of a channel, as a fraction of its tensor's largest."""


def sample_maps(network: FusedNetwork, inputs: Tensor) -> Maps:
    """Return every tensor of the float network, for images evenly spread over the inputs."""
    size = inputs[0].numel() + sum(math.prod(stage.shape) for stage in network.stages)
    count = max(1, min(IMAGES, len(inputs), VALUES // size))
    picks = torch.linspace(0, len(inputs) - 1, count).long()
    return run_float(network.stages, {network.input.name: network.scale_input(inputs[picks])})


def channel_sensitivity(network: FusedNetwork, maps: Maps) -> dict[str, np.ndarray]:
    """Return for each tensor the sensitivity (c,) of its channels: an error of variance 1 there
    adds so much variance to the stages that read it, relative to that of what they give in
    ``maps``, summed over stages. Pools hand on what their own readers say.
    """
    found = {name: np.zeros(values.shape[1]) for name, values in maps.items()}
    for stage in reversed(network.stages):
        power = float(maps[stage.name].var()) or 1.0
        found[stage.source] += reading(stage, found, power)
        if stage.residual is not None:
            found[stage.residual] += 1 / power
    for name, values in found.items():
        most = values.max(initial=0.0)
        found[name] = np.maximum(values, LEAST * most) if most > 0 else np.ones_like(values)
    return found


def reading(stage: Stage, found: dict[str, np.ndarray], power: float) -> np.ndarray:
    """Return what a stage adds to the sensitivities (c,) of the tensor that it reads."""
    op = stage.op
    if isinstance(op, Convolution):
        weight = op.weight.reshape(op.groups, -1, op.weight.shape[1], *op.weight.shape[2:])
        return np.square(weight).sum((1, 3, 4)).reshape(-1) / power
    if not isinstance(op, Select):
        return found[stage.name]
    channels = len(found[stage.source])
    first, last = max(0, -op.offset), min(channels, len(found[stage.name]) - op.offset)
    read = np.zeros(channels)
    read[first:last] = found[stage.name][first + op.offset : last + op.offset]
    return read
