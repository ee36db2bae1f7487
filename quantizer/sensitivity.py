"""How much an error in each value of a tensor matters to the network's outputs.

A small error ``e`` in a value ``x`` moves the outputs ``o`` by ``e do/dx``; errors that are
independent of one another cost their squared sum ``sum_x e^2 |do/dx|^2``. The squared gradients
come from random signs ``v``, because ``E (d(v o)/dx)^2 = |do/dx|^2``: an estimate of the diagonal
of the Gauss-Newton matrix.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nupes.quantizer.forward import Maps, run_float
from nupes.quantizer.fuse import FusedNetwork

__all__ = ["Sensitivity", "measure_sensitivity"]

IMAGES = 128
"""Images of a sample, at most."""

PART = 32
"""Images that run at a time; on so many are sensitivities of pre-activations kept."""

VALUES = 1 << 27
"""Values that the tensors of a sample have at most together, however large the network."""

DRAWS = 8
"""Random signs for each image."""

LEAST = 1e-6
"""Least sensitivity of a channel, as a fraction of its tensor's largest."""


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

    def of_channels(self, name: str) -> np.ndarray:
        """Return the mean (c,) over a tensor's channels, all positive."""
        values = self.stored[name].double().mean((0, 2, 3)).numpy()
        most = values.max(initial=0.0)
        return np.maximum(values, LEAST * most) if most > 0 else np.ones_like(values)


def measure_sensitivity(network: FusedNetwork, inputs: Tensor) -> Sensitivity:
    """Return the sensitivities of the float network on a sample of inputs (n, c, h, w)."""
    size = inputs[0].numel() + sum(math.prod(stage.shape) for stage in network.stages)
    count = max(1, min(IMAGES, len(inputs), VALUES // size))
    spread = torch.linspace(0, len(inputs) - 1, count).long()
    parts = -(-count // PART)
    chunks = [spread[first::parts] for first in range(parts)]
    generator = torch.Generator().manual_seed(0)
    measured = [squared_gradients(network, inputs[chunk], generator) for chunk in chunks]
    stored = {name: torch.cat([part[0][name] for part in measured]) for name in measured[0][0]}
    return Sensitivity(torch.cat(chunks), stored, measured[0][1])


def squared_gradients(
    network: FusedNetwork, images: Tensor, generator: torch.Generator
) -> tuple[Maps, Maps]:
    """Return estimates of ``|do/dx|^2`` over the outputs' variance for the values of all tensors,
    and for all pre-activations."""
    before: Maps = {}
    with torch.enable_grad():
        start = network.scale_input(images).detach().requires_grad_()
        stored = run_float(network.stages, {network.input.name: start}, before)
        outputs = stored[network.stages[-1].name]
        values = [*stored.values(), *before.values()]
        power = float(outputs.detach().var(unbiased=False)) or 1.0
        total = [torch.zeros_like(value) for value in values]
        for _ in range(DRAWS):
            signs = torch.randint(0, 2, outputs.shape, generator=generator) * 2.0 - 1
            gradients = torch.autograd.grad(
                (outputs * signs).sum(), values, retain_graph=True, materialize_grads=True
            )
            for squares, gradient in zip(total, gradients, strict=True):
                squares += gradient.square() / (DRAWS * power * outputs[0].numel())
    count = len(stored)
    return (
        dict(zip(stored, total[:count], strict=True)),
        dict(zip(before, total[count:], strict=True)),
    )
