"""Cross-layer equalization: channels of one tensor brought to the magnitudes that suit its readers.

A channel of a stored tensor may be divided by any ``s > 0`` if all that write it divide by ``s``
and all that read it multiply by ``s``: convolutions take both in their weights, and ReLU commutes
with it. Tensors that are added, pooled or selected from one another share their factors. The float
network stays the same; a codebook that serves all channels of a tensor then serves each of them
better. Source: Nagel et al., Data-Free Quantization, arXiv 1906.04721, section 4.1, carried over to
residual networks, with root mean squares instead of ranges.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.measure.sensitivity import measure_sensitivity
from nupes.quantizer.search.moments import FOLDS
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork

__all__ = ["balance", "channel_classes", "equalize", "measure_channels", "rescale"]

LARGEST = 8.0
"""Bound of the factors and of their inverses."""

LEAST = 1e-3
"""Least magnitude of a channel, as a fraction of its tensor's largest."""

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of the factors, from none to all of them."""

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

    pinned = [*network.given, *network.emitted]
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
        gain = stage.gain / out if op.gain_scales else stage.gain
        stages.append(replace(stage, op=op, gain=gain, bias=stage.bias / out, **described))
    return replace(network, stages=tuple(stages))


@dataclass(frozen=True, eq=False)
class Channels:
    """What the channels of a tensor are like on some inputs: mean squares ``power`` (c,) and
    sensitivities ``gain`` (c,); ``weight`` is what an error of the tensor counts."""

    power: np.ndarray
    gain: np.ndarray
    weight: float

    def cost(self, factor: np.ndarray) -> float:
        """Return what errors cost the readers if channels are divided by factors (c,), and one step
        serves the tensor: in a unit that all tensors share."""
        step = float((self.power / np.square(factor)).mean())
        return self.weight * step * float((self.gain * np.square(factor)).sum())

    def merged(self, other: "Channels", share: float) -> "Channels":
        """Return the mean over these inputs and others, whose share is given."""
        power = (1 - share) * self.power + share * other.power
        gain = (1 - share) * self.gain + share * other.gain
        return Channels(power, gain, self.weight)


def measure_channels(
    network: FusedNetwork, inputs: Batch, bits: dict[str, int]
) -> dict[str, Channels]:
    """Return what the tensors of fewer than 8 bits, and what norms give, are like on inputs (n, c,
    h, w)."""
    norms = {stage.name for stage in network.stages if stage.op.gain_scales}
    sensitivity = measure_sensitivity(network, inputs)
    sample = network.start(inputs[sensitivity.images])
    found = {}
    for name, values in run_float(network.stages, sample).items():
        if name not in bits or (bits[name] == 8 and name not in norms):
            continue
        power = values.square().mean((0, 2, 3)).double().numpy()
        power = np.maximum(power, LEAST**2 * power.max() or 1.0)
        weight = values[0, 0].numel() * 4.0 ** -bits[name]
        found[name] = Channels(power, sensitivity.of_channels(name), weight)
    return found


def balance(
    tensors: dict[str, Channels], classes: dict[str, np.ndarray], exponent: float
) -> dict[str, np.ndarray]:
    """Return by tensor the factors (c,), to the power of an exponent, that suit the readers: of a
    class, the geometric mean of what its channels ask for."""
    sums: dict[int, list[float]] = {}
    for name, channels in tensors.items():
        ratios = np.log(channels.power / channels.gain) / 4
        for index, ratio in zip(classes[name], ratios - ratios.mean(), strict=True):
            sums.setdefault(int(index), []).append(float(ratio))
    factor = {index: np.exp(exponent * np.mean(ratios)) for index, ratios in sums.items()}
    factor[0] = 1.0
    bound = (1 / LARGEST, LARGEST)
    return {
        name: np.clip([factor.get(int(index), 1.0) for index in indices], *bound)
        for name, indices in classes.items()
    }


def equalize(network: FusedNetwork, inputs: Batch, bits: dict[str, int]) -> FusedNetwork:
    """Return the network with each channel ``i`` divided by ``sqrt(r_i / g_i)``, relative to its
    tensor's mean: ``r`` its root mean square over the inputs, ``g`` the root of its sensitivity.

    With one step for a whole tensor, and so an error that grows with ``sum(r_i ** 2)``, these
    factors make what the errors cost the readers least (Cauchy and Schwarz). Only tensors of fewer
    than 8 ``bits`` are looked at. To which exponent factors of some images serve others best, the
    last of ``FOLDS`` parts of the images says; a single image is not enough.
    """
    count = len(inputs)
    if count == 1:
        return network
    parts = min(FOLDS, count)
    held = torch.arange(count) % parts == parts - 1
    classes = channel_classes(network)
    seen, others = (measure_channels(network, inputs[some], bits) for some in (~held, held))

    def cost(exponent: float) -> float:
        factors = balance(seen, classes, exponent)
        return sum(channels.cost(factors[name]) for name, channels in others.items())

    exponent = min(EXPONENTS, key=cost)
    share = int(held.sum()) / count
    merged = {name: channels.merged(others[name], share) for name, channels in seen.items()}
    return rescale(network, balance(merged, classes, exponent))
