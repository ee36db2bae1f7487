"""Cross-layer equalization: channels of one tensor brought to similar magnitudes.

A channel of a stored tensor may be divided by any ``s > 0`` if all that write it divide by ``s``
and all that read it multiply by ``s``: convolutions take both in their weights, and ReLU commutes
with it. Tensors that are added, pooled or selected from one another share their factors. The float
network stays the same; a codebook that serves all channels of a tensor then serves each of them
better. Source: Nagel et al., Data-Free Quantization, arXiv 1906.04721, section 4.1, carried over to
residual networks.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nupes.model.operators import MaxPool, Select
from nupes.quantizer.evaluate import apply_function, apply_operator, column
from nupes.quantizer.fuse import FusedNetwork, Stage
from nupes.quantizer.graph import Convolution

__all__ = ["channel_classes", "equalize", "rescale"]

LARGEST = 8.0
"""Bound of the factors and of their inverses."""

HOMOGENEOUS = ("identity", "relu")
"""Functions with f(s x) = s f(x) for s > 0."""


def channel_classes(network: FusedNetwork) -> dict[str, np.ndarray]:
    """Return for each tensor, the output included, the class (c,) of each channel: channels of one
    class share a factor, and class 0 has the factor 1."""
    first, total = {}, 1
    for name, channels in [
        (network.input.name, network.input.shape[2]),
        *((stage.name, stage.shape[2]) for stage in network.stages),
    ]:
        first[name], total = total, total + channels
    parent = np.arange(total)

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(a: int, b: int) -> None:
        a, b = sorted((find(a), find(b)))
        parent[b] = a

    last = network.stages[-1].name
    pinned = [(network.input.name, network.input.shape[2]), (last, network.stages[-1].shape[2])]
    for stage in network.stages:
        base, source = first[stage.name], first[stage.source]
        channels = stage.shape[2]
        if stage.function.name not in HOMOGENEOUS:
            pinned.append((stage.name, channels))
            # What is added before the function cannot be scaled either.
            if stage.residual is not None:
                pinned.append((stage.residual, channels))
        elif stage.residual is not None:
            for c in range(channels):
                join(base + c, first[stage.residual] + c)
        if not isinstance(stage.op, Convolution):
            offset = stage.op.offset if isinstance(stage.op, Select) else 0
            for c in range(source_channels(network, stage)):
                join(base + offset + c, source + c) if 0 <= offset + c < channels else None
    for name, channels in pinned:
        for c in range(channels):
            join(0, first[name] + c)
    return {
        name: np.array([find(start + c) for c in range(count)])
        for (name, start), count in zip(
            first.items(),
            [network.input.shape[2], *(stage.shape[2] for stage in network.stages)],
            strict=True,
        )
    }


def source_channels(network: FusedNetwork, stage: Stage) -> int:
    """Return the channels of the tensor that a stage reads."""
    if stage.source == network.input.name:
        return network.input.shape[2]
    return next(other.shape[2] for other in network.stages if other.name == stage.source)


def rescale(network: FusedNetwork, factors: dict[str, np.ndarray]) -> FusedNetwork:
    """Return the network whose tensors are divided by the factors (c,) of their channels; its
    output is the same."""
    stages = []
    for stage in network.stages:
        out, into = factors[stage.name], factors[stage.source]
        op = stage.op
        if isinstance(op, Convolution):
            n = len(op.weight)
            read = into.reshape(op.groups, 1, -1, 1, 1)
            weight = op.weight.reshape(op.groups, n // op.groups, -1, *op.weight.shape[2:]) * read
            weight = weight.reshape(op.weight.shape) / out.reshape(-1, 1, 1, 1)
            op = replace(op, weight=weight, bias=op.bias / out)
        described = {
            name: value / out
            for name, value in (("mean", stage.mean), ("std", stage.std))
            if value is not None
        }
        stages.append(replace(stage, op=op, bias=stage.bias / out, **described))
    return replace(network, stages=tuple(stages))


@torch.no_grad()
def equalize(network: FusedNetwork, inputs: Tensor, strength: float) -> FusedNetwork:
    """Return the network with its channels' root mean squares over the inputs brought together:
    each divided by its ratio to the tensor's mean, to the power ``strength`` in 0..1."""
    classes = channel_classes(network)
    sums: dict[int, list[float]] = {}
    live = {network.input.name: network.scale_input(inputs)}
    for stage in network.stages[:-1]:
        y = apply_operator(stage, live[stage.source]) + column(stage.bias)
        if stage.residual is not None:
            y = y + live[stage.residual]
        live[stage.name] = y if isinstance(stage.op, MaxPool) else apply_function(stage, y)
        size = live[stage.name].square().mean((0, 2, 3)).sqrt().double().numpy()
        size = np.maximum(size, 1e-3 * size.max() or 1.0)
        ratios = np.log(size) - np.log(size).mean()
        for index, ratio in zip(classes[stage.name], ratios, strict=True):
            sums.setdefault(int(index), []).append(float(ratio))
    factor = {index: np.exp(strength * np.mean(values)) for index, values in sums.items()}
    factor[0] = 1.0
    bound = (1 / LARGEST, LARGEST)
    return rescale(
        network,
        {
            name: np.clip([factor.get(int(index), 1.0) for index in indices], *bound)
            for name, indices in classes.items()
        },
    )
