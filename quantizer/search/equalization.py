"""Cross-layer equalization: channels of one tensor brought to the magnitudes that suit its readers.

A channel of a stored tensor may be divided by any ``s > 0`` if all that write it divide by ``s``
and all that read it multiply by ``s``: convolutions take both in their weights, and ReLU commutes
with it. Tensors that are added, pooled or selected from one another share their factors. The float
network stays the same; a codebook that serves all channels of a tensor then serves each of them
better. Source: Nagel et al., Data-Free Quantization, arXiv 1906.04721, section 4.1, carried over to
residual networks, with root mean squares instead of ranges.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.measure.sensitivity import measure_sensitivity
from nupes.quantizer.search.moments import FOLDS
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork

__all__ = ["balance", "channel_classes", "equalize", "measure_channels", "rescale", "share"]

LARGEST = 8.0
"""Bound of the factors and of their inverses."""

LEAST = 1e-3
"""Least magnitude of a channel, as a fraction of its tensor's largest."""

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of the factors, from none to all of them."""

HOMOGENEOUS = ("identity", "relu")
"""Functions with f(s x) = s f(x) for s > 0."""


class Classes:
    """Numbers of channels in classes: one of a class has the factor of its ``root``, or, with the
    ``sign`` -1, the inverse of it."""

    def __init__(self, total: int) -> None:
        self.root, self.sign = list(range(total)), [1] * total

    def find(self, number: int) -> tuple[int, int]:
        """Return the root of a number's class, and the sign."""
        path, sign = [], 1
        while self.root[number] != number:
            path.append(number)
            number = self.root[number]
        for other in reversed(path):
            sign *= self.sign[other]
            self.root[other], self.sign[other] = number, sign
        return number, sign

    def join(self, some: np.ndarray, others: np.ndarray, sign: int = 1) -> None:
        """Let some have the factors of others, or the inverse ones."""
        for a, b in zip(some.tolist(), others.tolist(), strict=True):
            (first, found), (last, there) = sorted((self.find(a), self.find(b)))
            opposite = found * there * sign
            if first != last:
                self.root[last], self.sign[last] = first, opposite
            elif opposite < 0:
                self.root[first] = 0  # only 1 is its own inverse

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the classes of numbers, those of inverse factors negative."""
        return np.array([root * sign for root, sign in map(self.find, numbers.tolist())])


def channel_classes(network: FusedNetwork) -> dict[str, np.ndarray]:
    """Return for each tensor, the output included, the class (c,) of each channel: channels of one
    class share a factor, those of class ``-k`` have the inverse of the factor of class ``k``, and
    class 0 has the factor 1."""
    numbers, total = {}, 1
    for name, (_, _, channels) in network.shapes.items():
        numbers[name], total = np.arange(total, total + channels), total + channels
    classes = Classes(total)
    pinned = [*network.given, *network.emitted]
    for stage in network.stages:
        out, sources = numbers[stage.name], [numbers[name] for name in stage.sources]
        for tie in stage.op.ties(out, *sources):
            classes.join(*tie)
        for tie in stage.op.opposites(*sources):
            classes.join(*tie, sign=-1)
        added = [] if stage.residual is None else [stage.residual]
        if stage.function.name not in HOMOGENEOUS:
            # What is added before the function cannot be scaled either.
            pinned += [stage.name, *added]
        for name in added:
            classes.join(out, numbers[name])
    for name in pinned:
        classes.join(numbers[name], np.zeros_like(numbers[name]))
    return {name: classes.of(some) for name, some in numbers.items()}


def share(factors: Mapping[int, float], classes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return by tensor the factors (c,) of its channels, from those of classes, or 1."""

    def factor(index: int) -> float:
        found = factors.get(abs(index), 1.0) if index else 1.0
        return 1 / found if index < 0 else found

    return {
        name: np.array([factor(index) for index in indices.tolist()])
        for name, indices in classes.items()
    }


def rescale(network: FusedNetwork, factors: dict[str, np.ndarray]) -> FusedNetwork:
    """Return the network whose tensors are divided by the factors (c,) of their channels; its
    output is the same."""
    stages = []
    for stage in network.stages:
        out = factors[stage.name]
        sources = [factors[name] for name in stage.sources]
        op = stage.op.rescale(out, *sources)
        described = {
            name: value / out
            for name, value in (("mean", stage.mean), ("std", stage.std))
            if value is not None
        }
        gain = stage.gain * op.kept_factors(*sources) / out if op.gain_scales else stage.gain
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
    """Return what the tensors of fewer than 8 bits, and those whose gains take any factors, are
    like on inputs (n, c, h, w)."""
    scaled = {stage.name for stage in network.stages if stage.op.gain_scales}
    sensitivity = measure_sensitivity(network, inputs)
    sample = network.start(inputs[sensitivity.images])
    found = {}
    for name, values in run_float(network.stages, sample).items():
        if name not in bits or (bits[name] == 8 and name not in scaled):
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
        for index, ratio in zip(classes[name].tolist(), ratios - ratios.mean(), strict=True):
            sums.setdefault(abs(index), []).append(float(-ratio if index < 0 else ratio))
    bound = (1 / LARGEST, LARGEST)
    factors = {i: float(np.clip(np.exp(exponent * np.mean(r)), *bound)) for i, r in sums.items()}
    return share(factors, classes)


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
