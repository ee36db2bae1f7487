"""Outliers: the few channels that are many times as large as the others get a tensor of their own.

A massive activation (Sun et al., arXiv 2402.17762) takes the whole range of a 4-bit code, or is
clipped, and with it what the network makes of all tokens. Its channels are stored a second time
with 8 bits, and what reads the tensor becomes two layers: the one multiplies these channels, and
gives 16 bits, to which the other one, of all other channels, is added.
"""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nupes.model.names import free_name
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import IDENTITY
from nupes.quantizer.options.bits import BitPlan
from nupes.quantizer.stages.operators import Convolution, Select
from nupes.quantizer.stages.run import CHUNK, run_float
from nupes.quantizer.stages.stage import FusedNetwork, Stage, weighted

__all__ = ["find_outliers", "split_outliers"]

MASSIVE = 12.0
"""How many root mean squares of its tensor a value is that is worth a tensor of its own."""

LARGE = 6.0
"""How many of them the other values are whose channels go with it."""

MOST = 16
"""Most channels that are taken out of a tensor: a row of the usual array multiplies as many in the
time of one."""

BITS = 8
"""Bits of what is taken out."""


@dataclass(frozen=True)
class Names:
    """What a split adds: the tensor that is stored again, and those of its channels that are read;
    one and the same where these can be computed alone."""

    whole: str
    taken: str


def find_outliers(network: FusedNetwork, inputs: Batch, plan: BitPlan) -> dict[str, np.ndarray]:
    """Return the channels, in order, of tensors of fewer than 8 bits that are massive for some of
    the inputs (n, c, h, w), where all readers are layers with weights; none of networks without
    norms and attention, whose array may have no wide tensors."""
    readers = network.readers()
    names = {
        stage.name
        for stage in network.stages
        if plan.tensors[stage.name] < BITS
        and stage.name not in network.emitted
        and may_split(stage, readers[stage.name])
    }
    if not names or not any(stage.op.tokens for stage in network.stages):
        return {}
    largest = {name: np.zeros(network.shapes[name][2]) for name in names}
    power = dict.fromkeys(names, 0.0)
    for chunk in inputs.split(CHUNK):
        maps = run_float(network.stages, network.start(chunk), keep=names)
        for name in names:
            most = maps[name].abs().amax((0, 2, 3)).double().numpy()
            largest[name] = np.maximum(largest[name], most)
            power[name] += float(maps[name].double().square().sum())
    found = {}
    for stage in network.stages:
        if stage.name not in names or power[stage.name] == 0:
            continue
        values = len(inputs) * math.prod(stage.shape)
        size = largest[stage.name] / math.sqrt(power[stage.name] / values)
        order = np.argsort(-size)[:MOST]
        if size[order[0]] > MASSIVE:
            found[stage.name] = np.sort(order[size[order] > LARGE])
    return found


def may_split(stage: Stage, readers: Sequence[Stage]) -> bool:
    """Return whether a stage's channels may be taken out: whether they can be computed alone, and
    all that reads them multiplies them."""
    return (
        stage.op.accumulates
        and stage.residual is None
        and not (isinstance(stage.op, Convolution) and stage.op.groups > 1)
        and len(readers) > 0
        and all(
            isinstance(reader.op, Convolution)
            and reader.op.groups == 1
            and reader.residual != stage.name
            for reader in readers
        )
    )


def split_outliers(
    network: FusedNetwork, inputs: Batch, plan: BitPlan
) -> tuple[FusedNetwork, BitPlan]:
    """Return the network with the outliers of its tensors in tensors of their own, and its bits;
    it computes the same."""
    outliers = find_outliers(network, inputs, plan)
    if not outliers:
        return network, plan
    taken, names = network.shapes, dict[str, Names]()
    for stage in network.stages:
        if stage.name in outliers:
            whole = free_name(f"{stage.name}.outliers", taken)
            part = free_name(f"{whole}.channels", taken)
            names[stage.name] = Names(whole, whole if isinstance(stage.op, Convolution) else part)
    stages, weights, tensors = list[Stage](), dict(plan.weights), dict(plan.tensors)
    for stage in network.stages:
        parts = [
            part
            for piece in by_results(stage, outliers, names)
            for part in by_operands(piece, outliers, names, taken)
        ]
        stages += parts
        for part in parts:
            tensors.setdefault(part.name, BITS)
            if isinstance(part.op, Convolution):
                weights.setdefault(part.name, BITS)
    network = replace(network, stages=tuple(stages))
    order = list(weighted(network.stages))
    return network, BitPlan({name: weights[name] for name in order}, tensors)


def by_results(
    stage: Stage, outliers: Mapping[str, np.ndarray], names: Mapping[str, Names]
) -> Iterator[Stage]:
    """Yield what takes the place of a stage: those that give its outliers, and it without them."""
    if stage.name not in names:
        yield stage
        return
    channels, own = outliers[stage.name], names[stage.name]
    kept = np.ones(len(stage.bias))
    kept[channels] = 0
    shape = (*stage.shape[:2], len(channels))
    if isinstance(stage.op, Convolution):
        alone = stage.op.take_output(channels)
        assert alone is not None
        gain, bias = stage.gain[channels], stage.bias[channels]
        yield replace(
            stage, name=own.whole, op=alone, shape=shape, gain=gain, bias=bias, mean=None, std=None
        )
        yield replace(stage, op=stage.op.scale_output(kept), bias=stage.bias * kept)
        return
    yield replace(stage, name=own.whole)
    ones, zeros = np.ones(len(channels)), np.zeros(len(channels))
    select = Select(tuple(channels.tolist()))
    yield Stage(own.taken, select, (own.whole,), shape, ones, zeros, low=stage.low)
    yield replace(stage, gain=stage.gain * kept, bias=stage.bias * kept)


def by_operands(
    stage: Stage,
    outliers: Mapping[str, np.ndarray],
    names: Mapping[str, Names],
    taken: Container[str],
) -> Iterator[Stage]:
    """Yield what takes the place of a stage: the one that multiplies outliers, where it reads some,
    and it with what that gives added."""
    source = stage.sources[0]
    if source not in names or not isinstance(stage.op, Convolution):
        yield stage
        return
    name = free_name(f"{stage.name}.of_outliers", taken)
    some, others = halves(stage.op, outliers[source])
    plain = replace(stage, function=IDENTITY, mean=None, std=None, low=-np.inf, wide=True)
    none = np.zeros(len(stage.bias))
    yield replace(plain, name=name, op=some, sources=(names[source].taken,), bias=none)
    yield replace(stage, op=others, residual=name)


def halves(op: Convolution, channels: np.ndarray) -> tuple[Convolution, Convolution]:
    """Return the convolution of some input channels, and that of all, those being multiplied by
    zero."""
    weight = op.weight.copy()
    some = weight[:, channels]
    weight[:, channels] = 0
    return replace(op, kernel=some, factors=None), replace(op, kernel=weight, factors=None)
