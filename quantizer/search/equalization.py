"""Cross-layer equalization: channels of one tensor brought to the magnitudes that suit its readers.

A channel of a stored tensor may be divided by any ``s > 0`` if all that write it divide by ``s``
and all that read it multiply by ``s``: convolutions take both in their weights, and ReLU commutes
with it. Tensors that are added, pooled or selected from one another share their factors. The float
network stays the same; a codebook that serves all channels of a tensor then serves each of them
better. Source: Nagel et al., Data-Free Quantization, arXiv 1906.04721, section 4.1, carried over to
residual networks, with root mean squares instead of ranges.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from nupes.model.operators import Select
from nupes.quantizer.frontend.graph import Convolution
from nupes.quantizer.measure.sensitivity import measure_sensitivity
from nupes.quantizer.stages.fuser import FusedNetwork, Stage
from nupes.quantizer.stages.run import run_float

__all__ = ["channel_classes", "equalize", "rescale"]

LARGEST = 8.0
"""Bound of the factors and of their inverses."""

LEAST = 1e-3
"""Least magnitude of a channel, as a fraction of its tensor's largest."""

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


def equalize(network: FusedNetwork, inputs: Tensor, bits: dict[str, int]) -> FusedNetwork:
    """Return the network with each channel ``i`` divided by ``sqrt(r_i / g_i)``, relative to its
    tensor's mean: ``r`` its root mean square over the inputs, ``g`` the root of its sensitivity.

    With one step for a whole tensor, and so an error that grows with ``sum(r_i ** 2)``, these
    factors make what the errors cost the readers least (Cauchy and Schwarz). Only tensors of fewer
    than 8 ``bits`` are looked at.
    """
    classes = channel_classes(network)
    sensitivity = measure_sensitivity(network, inputs)
    sample = network.scale_input(inputs[sensitivity.images])
    sums: dict[int, list[float]] = {}
    for name, values in run_float(network.stages, {network.input.name: sample}).items():
        if bits.get(name, 8) == 8:
            continue
        size = values.square().mean((0, 2, 3)).sqrt().double().numpy()
        size = np.maximum(size, LEAST * size.max() or 1.0)
        ratios = np.log(size) - np.log(sensitivity.of_channels(name)) / 2
        for index, ratio in zip(classes[name], ratios - ratios.mean(), strict=True):
            sums.setdefault(int(index), []).append(float(ratio))
    factor = {index: np.exp(np.mean(values) / 2) for index, values in sums.items()}
    factor[0] = 1.0
    bound = (1 / LARGEST, LARGEST)
    return rescale(
        network,
        {
            name: np.clip([factor.get(int(index), 1.0) for index in indices], *bound)
            for name, indices in classes.items()
        },
    )
