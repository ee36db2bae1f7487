"""Centring: what is constant in the channels of keys and values is taken out of them.

A constant in all keys moves all scores of a query alike, which softmax does not see. One in all
values moves every mean of them by itself, because the weights of a mean add up to one: it goes in
the bias behind the mean. Rotary embeddings turn the slowest pairs of channels by hardly anything,
so that keys may be nearly constant there, far from the zero around which their codes lie.

Tokens that take most of the attention and give nothing (Xiao et al., arXiv 2309.17453) have values
near zero, which a constant would move to where codes are coarse. So means are weighed by what the
outputs make of an error, and are taken out where that makes the error of the codes less.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import IDENTITY
from nupes.quantizer.measure.sensitivity import measure_sensitivity
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.matrices import choose_matrix
from nupes.quantizer.stages.operators import Matmul, Select, SubtractMax, WeightedMean
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["center", "movable", "take_out"]


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a tensor's channels come from: the channels (c,), by number, of another tensor."""

    name: str
    channels: np.ndarray


def origin(stages: Mapping[str, Stage], name: str) -> Origin:
    """Return where the values of a tensor were computed, before some channels and pixels of them
    were taken."""
    stage = stages.get(name)
    if stage is None or not stage.copies_codes or not isinstance(stage.op, Select):
        return Origin(name, np.arange(0 if stage is None else stage.shape[2]))
    if min(stage.op.channels) < 0 or max(stage.op.padding) > 0:
        return Origin(name, np.arange(stage.shape[2]))  # zeros among them do not move
    before = origin(stages, stage.sources[0])
    return Origin(before.name, before.channels[stage.op.numbers])


def takes_constants(stage: Stage, number: int, readers: Sequence[Stage]) -> bool:
    """Return whether a constant in each channel of one of a stage's sources, by number, does not
    change what reads the stage, once a mean's bias has made up for it."""
    if number != stage.op.matrix:
        return False
    if isinstance(stage.op, WeightedMean):
        return True
    scores = isinstance(stage.op, Matmul) and stage.op.transposed and stage.function is IDENTITY
    return scores and all(isinstance(reader.op, SubtractMax) for reader in readers)


def movable(network: FusedNetwork) -> set[str]:
    """Return the stages of which every channel may be moved by a constant: all that reads them, or
    selections of them, takes it."""
    stages = {stage.name: stage for stage in network.stages}
    origins = {name: origin(stages, name).name for name in stages}
    readers, fixed, free = network.readers(), {origins[n] for n in network.emitted}, set[str]()
    for stage in network.stages:
        copies = origins[stage.name] != stage.name
        for number, name in enumerate(stage.sources):
            if name in stages and not copies:
                told = stage.name in network.emitted and not isinstance(stage.op, WeightedMean)
                taken = not told and takes_constants(stage, number, readers[stage.name])
                (free if taken else fixed).add(origins[name])
        if stage.residual in stages:
            fixed.add(origins[stage.residual])
    return {name for name in free - fixed if moves_with_bias(stages[name])}


def moves_with_bias(stage: Stage) -> bool:
    """Return whether what a stage stores moves as its bias does."""
    return stage.op.accumulates and stage.function is IDENTITY


def center(
    network: FusedNetwork, inputs: Batch, bits: Mapping[str, int], recipe: Recipe
) -> FusedNetwork:
    """Return the network of whose keys and values the mean of each channel over inputs (n, c, h, w)
    is zero, where codes of their ``bits`` err less then; it computes the same."""
    names = movable(network)
    if not names:
        return network
    sensitivity = measure_sensitivity(network, inputs) if recipe.output_cost else None
    sample = inputs if sensitivity is None else inputs[sensitivity.images]
    found, means = run_float(network.stages, network.start(sample), keep=names), {}
    for name in names:
        values = found[name].numpy()
        weight = None if sensitivity is None else sensitivity.of_values(name)
        mean = np.average(values, (0, 2, 3), weight)
        before, after = (
            choose_matrix(some, bits[name], recipe, weight).error
            for some in (values, values - mean[:, None, None].astype(np.float32))
        )
        if after < before:
            means[name] = mean
    return take_out(network, means)


def take_out(network: FusedNetwork, constants: Mapping[str, np.ndarray]) -> FusedNetwork:
    """Return the network of whose movable stages some have constants (c,) less; it computes the
    same."""
    return replace(network, stages=tuple(without(network, constants)))


def without(network: FusedNetwork, constants: Mapping[str, np.ndarray]) -> Iterator[Stage]:
    """Yield the stages with constants (c,) taken out of some, and put in behind their means."""
    stages = {stage.name: stage for stage in network.stages}
    for stage in network.stages:
        bias = stage.bias
        if isinstance(stage.op, WeightedMean):
            values = origin(stages, stage.sources[1])
            if values.name in constants:
                bias = bias + stage.gain * constants[values.name][values.channels]
        if stage.name in constants:
            constant = constants[stage.name]
            mean = None if stage.mean is None else stage.mean - constant
            stage = replace(stage, mean=mean, low=-np.inf)
            bias = bias - constant
        yield replace(stage, bias=bias)
