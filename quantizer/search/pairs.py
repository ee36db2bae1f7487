"""Sums of products whose operands can share codes: factors one, and wholes another one.

With 8 bits, what is rounded is off by a share of the largest value that has the code: a factor by
that of ``F``, the largest of all factors, a whole by that of ``W``. So the sum is off by that share
of ``sum(F * w + f * W)`` at most, and by no less than that of ``2 * sum(f * w)``, with a code for
each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from nupes.model.names import free_name
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import IDENTITY
from nupes.quantizer.stages.operators import Select, SumOfProducts
from nupes.quantizer.stages.run import CHUNK, run_float
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["excess", "settle_pairs"]

MOST = 4.0
"""How many times the least error a sum may have because its operands share codes."""

Reach = tuple[float, float]
"""The largest magnitudes of a factor and of its whole."""


def settle_pairs(network: FusedNetwork, inputs: Batch) -> FusedNetwork:
    """Return the network with factors and wholes of its sums of products exchanged such that those
    that share a code are as large as each other on inputs (n, c, h, w); sums whose operands still
    differ too much are products, each a stage, which are added up."""
    sums = [stage for stage in network.stages if isinstance(stage.op, SumOfProducts)]
    if not sums:
        return network
    names = {name for stage in sums for name in stage.sources}
    some = inputs[torch.linspace(0, len(inputs) - 1, min(len(inputs), CHUNK)).long()]
    maps = run_float(network.stages, network.start(some), keep=names)
    reach = {name: float(maps[name].abs().max()) for name in names}
    stages = [part for stage in network.stages for part in settled(stage, network, reach)]
    return replace(network, stages=tuple(stages))


def settled(stage: Stage, network: FusedNetwork, reach: Mapping[str, float]) -> Iterator[Stage]:
    """Yield what takes the place of a stage."""
    op = stage.op
    if not isinstance(op, SumOfProducts):
        yield stage
        return
    every = tuple(range(stage.shape[2]))
    sources, reaches = list[str](), list[Reach]()
    pairs = zip(stage.sources[::2], stage.sources[1::2], op.channels, strict=True)
    for factor, whole, channels in pairs:
        found, turned = (reach[factor], reach[whole]), (reach[whole], reach[factor])
        alike = channels == every and network.shapes[factor] == stage.shape
        if alike and excess([*reaches, turned]) < excess([*reaches, found]):
            factor, whole, found = whole, factor, turned
        sources += [factor, whole]
        reaches.append(found)
    stage = replace(stage, sources=tuple(sources))
    yield from [stage] if excess(reaches) <= MOST else split(stage, op, network)


def excess(reaches: Sequence[Reach]) -> float:
    """Return how many times the least error the largest error is."""
    factor, whole = (max(part) for part in zip(*reaches, strict=True))
    least = 2 * sum(f * w for f, w in reaches)
    return sum(factor * w + f * whole for f, w in reaches) / least if least > 0 else 1.0


def split(stage: Stage, op: SumOfProducts, network: FusedNetwork) -> Iterator[Stage]:
    """Yield stages of one product each, and those that add them up, the last one of the stage's
    name."""

    def part(name: str) -> Stage:
        name = free_name(f"{stage.name}.{name}", network.shapes)
        return replace(inner, name=name, bias=np.zeros(count), function=IDENTITY, low=-np.inf)

    count, products = stage.shape[2], list[Stage]()
    inner = replace(stage, mean=None, std=None)  # they describe the sum
    for index, channels in enumerate(op.channels):
        sources = stage.sources[2 * index : 2 * index + 2]
        product = part(f"product_{index}")
        products.append(replace(product, op=SumOfProducts((channels,)), sources=sources))
    yield from products
    total, last = products[0].name, len(products) - 1
    for index, product in enumerate(products[1:], 1):
        added = inner if index == last else part(f"sum_{index}")
        every, ones = Select(tuple(range(count))), np.ones(count)
        added = replace(added, op=every, sources=(total,), gain=ones, residual=product.name)
        total = added.name
        yield added
