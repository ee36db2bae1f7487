"""The schedule: every instruction of a network in program order, with counted dependencies.

It has all that timing needs; payloads are made later, so that sweeping array shapes builds no
images.
"""

from dataclasses import dataclass

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.compiler.emit.arrival import Lines
from nupes.compiler.emit.emitter import Emitter, ResultTile
from nupes.compiler.emit.hoisting import prefetch
from nupes.compiler.emit.instructions import End, Instruction, Load
from nupes.compiler.emit.runs import join
from nupes.compiler.lowering import arrange, lower
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.gathering import gather
from nupes.compiler.lowering.hidden import leave_out
from nupes.compiler.place.packing import InputLayout, patch_input, plain_input, zero_digits
from nupes.compiler.place.placement import Placement
from nupes.compiler.place.strips import Strips, strip_input
from nupes.model.layer import Layer
from nupes.model.network import Constant, IntegerNetwork
from nupes.model.tensor import Tensor

__all__ = ["Schedule", "schedule"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """All instructions of a network, how many tiles each layer has, how the host packs the inputs,
    and in which order results come."""

    inputs: tuple[InputLayout, ...]
    act_words: int
    instructions: list[Instruction]
    tiles: tuple[int, ...]
    results: list[ResultTile]


def schedule(network: IntegerNetwork, config: ArrayConfig) -> Schedule:
    """Return the schedule of a network on an array; raise ``NupesError`` by layer name."""
    placement = arrange(network, config)
    context, emitter = Context(network, config, placement), Emitter(config)
    for item in network.inputs:
        packed, layout = placement.packing_of(item.tensor.name), placement.layouts[item.tensor.name]
        if packed is None:
            emitter.plain_input(layout)
        elif not packed.chased:
            emitter.lines = Lines(layout)
    works = gather(network.layers, [lower(layer, context) for layer in network.layers], config)
    works = leave_out(network, works, config)
    tiles = []
    for layer, work in zip(network.layers, works, strict=True):
        for item in network.constants:
            if first_reader(network, placement, item) is layer:
                emitter.constant(held_words(item, placement, config))
        tiles.append(emitter.layer(layer.name, work))
    return Schedule(
        tuple(packing(item.tensor, placement, config) for item in network.inputs),
        placement.act_words,
        join(prefetch([*emitter.instructions, End()], config), config),
        tuple(tiles),
        emitter.results,
    )


def first_reader(network: IntegerNetwork, placement: Placement, item: Constant) -> Layer | None:
    """Return the layer before which a constant is loaded: the first one that reads it, but the
    first one of all where tiles chase a packed input, which wait for the address of the last
    LOAD."""
    name = item.tensor.name
    readers = [layer for layer in network.layers if name in {port.tensor for port in layer.reads}]
    chased = placement.packing is not None and placement.packing.chased
    return next(iter(network.layers if readers and chased else readers), None)


def held_words(item: Constant, placement: Placement, config: ArrayConfig) -> Load:
    """Return the LOAD of a constant's words, which are made when they are asked for."""
    layout = placement.layouts[item.tensor.name]
    return Load(
        destination=Destination.ACTIVATION,
        address=layout.base,
        words=layout.words,
        payload=lambda: plain_input(item.tensor, layout, config).words(item.codes, config),
    )


def packing(source: Tensor, placement: Placement, config: ArrayConfig) -> InputLayout:
    """Return how the host packs an input."""
    packing = placement.packing_of(source.name)
    if packing is None:
        return plain_input(source, placement.layouts[source.name], config)
    planes = placement.planes[source.name]
    zero = zero_digits(planes, source.codebook.levels)
    digits = np.zeros(planes.count, np.uint8) if zero is None else zero[1]
    if isinstance(packing, Strips):
        return strip_input(packing, placement.layouts[source.name], planes, digits, config)
    return patch_input(source, packing.op, packing.patches, digits, config)
