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

from nupes.quantizer.measure.sensitivity import measure_sensitivity
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork

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
    numbers, total = {}, 1
    for name, (_, _, channels) in network.shapes.items():
        numbers[name], total = np.arange(total, total + channels), total + channels
    parent = np.arange(total)

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(some: np.ndarray, others: np.ndarray) -> None:
        for a, b in zip(some.tolist(), others.tolist(), strict=True):
            first, last = sorted((find(a), find(b)))
            parent[last] = first

    pinned = [network.input.name, *network.emitted]
    for stage in network.stages:
        out = numbers[stage.name]
        for tie in stage.op.ties(out, *(numbers[name] for name in stage.sources)):
            join(*tie)
        added = [] if stage.residual is None else [stage.residual]
        if stage.function.name not in HOMOGENEOUS:
            # What is added before the function cannot be scaled either.
            pinned += [stage.name, *added]
        for name in added:
            join(out, numbers[name])
    for name in pinned:
        join(numbers[name], np.zeros_like(numbers[name]))
    return {name: np.array([find(n) for n in some]) for name, some in numbers.items()}


def rescale(network: FusedNetwork, factors: dict[str, np.ndarray]) -> FusedNetwork:
    """Return the network whose tensors are divided by the factors (c,) of their channels; its
    output is the same."""
    stages = []
    for stage in network.stages:
        out = factors[stage.name]
        op = stage.op.rescale(out, *(factors[name] for name in stage.sources))
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
