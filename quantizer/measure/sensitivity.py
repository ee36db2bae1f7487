"""How much an error in each value of a tensor matters to the network's outputs.

A small error ``e`` in a value ``x`` moves the outputs ``o`` by ``e do/dx``; errors that are
independent of one another cost their squared sum ``sum_x e^2 |do/dx|^2``. The squared gradients
come from random signs ``v``, because ``E (d(v o)/dx)^2 = |do/dx|^2``: an estimate of the diagonal
of the Gauss-Newton matrix.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.stages.run import Maps, Observed, evaluate
from nupes.quantizer.stages.stage import FusedNetwork, weighted

__all__ = ["Sensitivity", "measure_importance", "measure_sensitivity"]

IMAGES = 128
"""Images of a sample, at most."""

PART = 32
"""Images that run at a time; on so many are sensitivities of pre-activations kept."""

VALUES = 1 << 27
"""Values that the tensors of a sample have at most together, however large the network."""

AT_ONCE = 1 << 25
"""Values of tensors through which gradients run at a time, which bounds their memory."""

DRAWS = 8
"""Random signs for each image."""

FEW_DRAWS = 2
"""Random signs for each image where all images are looked at."""

LEAST = 1e-6
"""Least sensitivity of a channel, as a fraction of its tensor's largest."""


LEAST_VALUE = 1e-3
"""Least sensitivity of a value, as a fraction of its tensor's mean."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Squared gradients of the outputs, relative to the outputs' variance."""

    images: Tensor
    """Numbers (m,) of the images that they were measured on; every part is spread over all."""
    stored: Maps
    """By the values of each tensor (m, c, h, w), rounded by none."""
    before: Maps
    """By what each stage gives before its function (p, c, h, w), for the first p images."""

    @property
    def first(self) -> Tensor:
        """Numbers (p,) of the images of ``before``."""
        return self.images[: len(next(iter(self.before.values())))]

    def of_values(self, *names: str) -> np.ndarray:
        """Return those of the values of tensors, all positive: of one in its own shape, of several
        one after another."""
        maps = [self.stored[name].numpy() for name in names]
        values = maps[0] if len(maps) == 1 else np.concatenate([part.ravel() for part in maps])
        least = max(LEAST_VALUE * float(values.mean()), float(np.finfo(np.float32).tiny))
        return np.maximum(values, np.float32(least))

    def of_channels(self, name: str) -> np.ndarray:
        """Return the mean (c,) over a tensor's channels, all positive."""
        values = self.stored[name].double().mean((0, 2, 3)).numpy()
        most = values.max(initial=0.0)
        return np.maximum(values, LEAST * most) if most > 0 else np.ones_like(values)


def measure_sensitivity(network: FusedNetwork, inputs: Batch) -> Sensitivity:
    """Return the sensitivities of the float network on a sample of inputs (n, c, h, w)."""
    count = max(1, min(IMAGES, len(inputs), VALUES // values_of(network)))
    spread = torch.linspace(0, len(inputs) - 1, count).long()
    parts = -(-count // PART)
    chunks = [spread[first::parts] for first in range(parts)]
    generator = torch.Generator().manual_seed(0)
    measured = [squared_gradients(network, inputs[chunk], generator) for chunk in chunks]
    stored = {name: torch.cat([part[0][name] for part in measured]) for name in measured[0][0]}
    return Sensitivity(torch.cat(chunks), stored, measured[0][1])


def measure_importance(network: FusedNetwork, inputs: Batch) -> Maps:
    """Return how much what a convolution gives matters to the network's outputs, for each of the
    inputs (n, c, h, w): ``|do/dy|^2``, its mean over the channels of a group, (n, groups, oh, ow)
    by the names of stages. The unit is the outputs' own."""
    groups = {name: op.groups for name, op in weighted(network.stages).items()}
    if not groups:
        return {}
    parts: dict[str, list[Tensor]] = {name: [] for name in groups}
    generator = torch.Generator().manual_seed(0)
    for images in inputs.split(images_at_once(network)):
        hooks = Observed()
        with torch.enable_grad():
            stored = evaluate(network.stages, start_of(network, images), hooks)
            wanted = [hooks.before[name] for name in groups]
            squares = mean_squares(joint_output(network, stored), wanted, generator, FEW_DRAWS)
        for (name, count), values in zip(groups.items(), squares, strict=True):
            parts[name].append(values.unflatten(1, (count, -1)).mean(2))
    return {name: torch.cat(values) for name, values in parts.items()}


def squared_gradients(
    network: FusedNetwork, images: Batch, generator: torch.Generator
) -> tuple[Maps, Maps]:
    """Return estimates of ``|do/dx|^2`` over the outputs' variance for the values of all tensors,
    and for all pre-activations."""
    before_parts: list[Maps] = []
    stored_parts: list[Maps] = []
    output_parts: list[Tensor] = []
    for chunk in images.split(images_at_once(network)):
        hooks = Observed()
        with torch.enable_grad():
            stored = evaluate(network.stages, start_of(network, chunk), hooks)
            outputs = joint_output(network, stored)
            wanted = [*stored.values(), *hooks.before.values()]
            squares = mean_squares(outputs, wanted, generator, DRAWS)
        stored_parts.append(dict(zip(stored, squares[: len(stored)], strict=True)))
        before_parts.append(dict(zip(hooks.before, squares[len(stored) :], strict=True)))
        output_parts.append(outputs.detach())
    outputs = torch.cat(output_parts)
    power = (float(outputs.var(unbiased=False)) or 1.0) * outputs[0].numel()
    return join_parts(stored_parts, power), join_parts(before_parts, power)


def joint_output(network: FusedNetwork, stored: Maps) -> Tensor:
    """Return the network's output; several are side by side, (b, values), each with its standard
    deviation as the unit."""
    outputs = [stored[name] for name in network.emitted]
    if len(outputs) == 1:
        return outputs[0]
    units = [float(values.detach().std(correction=0)) or 1.0 for values in outputs]
    return torch.cat([(y / unit).flatten(1) for y, unit in zip(outputs, units, strict=True)], 1)


def join_parts(parts: Sequence[Maps], power: float) -> Maps:
    """Return maps of parts of the images as maps of all, over a power."""
    return {name: torch.cat([part[name] for part in parts]) / power for name in parts[0]}


def values_of(network: FusedNetwork) -> int:
    """Return how many values the tensors of one image have."""
    return sum(math.prod(shape) for shape in network.shapes.values())


def images_at_once(network: FusedNetwork) -> int:
    """Return through how many images gradients run at a time."""
    return max(1, min(PART, AT_ONCE // values_of(network)))


def start_of(network: FusedNetwork, images: Batch) -> Maps:
    """Return the network's inputs as the maps that gradients lead back to."""
    return {name: x.detach().requires_grad_() for name, x in network.start(images).items()}


def mean_squares(
    outputs: Tensor, values: Sequence[Tensor], generator: torch.Generator, draws: int
) -> list[Tensor]:
    """Return estimates of ``|do/dx|^2`` for the values ``x`` of tensors, from some draws of random
    signs; 0 for what comparisons give, through which no gradient leads."""
    total = [torch.zeros_like(value) for value in values]
    pairs = [pair for pair in zip(total, values, strict=True) if pair[1].requires_grad]
    if not pairs or not outputs.requires_grad:
        return total
    able = [value for _, value in pairs]
    for _ in range(draws):
        signs = torch.randint(0, 2, outputs.shape, generator=generator) * 2.0 - 1
        gradients = torch.autograd.grad(
            (outputs * signs).sum(), able, retain_graph=True, materialize_grads=True
        )
        for (squares, _), gradient in zip(pairs, gradients, strict=True):
            squares += gradient.square() / draws
    return total
