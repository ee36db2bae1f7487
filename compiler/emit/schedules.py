"""The schedule: every instruction of a network in program order, with counted dependencies.

It has all that timing needs; payloads are made later, so that sweeping array shapes builds no
images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.compiler.emit.emitter import Emitter, ResultTile
from nupes.compiler.emit.hoisting import prefetch
from nupes.compiler.emit.instructions import End, Instruction, Load
from nupes.compiler.emit.outside import bind
from nupes.compiler.emit.runs import join
from nupes.compiler.lowering import arrange, lower
from nupes.compiler.lowering.bands import in_bands
from nupes.compiler.lowering.batching import least_cycles, share
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.gathering import gather
from nupes.compiler.lowering.hidden import leave_out
from nupes.compiler.lowering.passes import Step, Work
from nupes.compiler.place.packing import InputLayout, patch_input, plain_input, zero_digits
from nupes.compiler.place.placement import Placement
from nupes.compiler.place.strips import Strips, strip_input
from nupes.model.layer import Layer
from nupes.model.network import Constant, IntegerNetwork
from nupes.model.tensor import Tensor

__all__ = ["Schedule", "schedule"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """All instructions of a network, what part of them each layer is, how the host packs the
    inputs, and in which order results come.

    ``tiles`` are those of each part, ``layers`` the position of its layer: of a batch the first
    layers have a part for each image, ``layers`` is 0, 1, ... else. ``images`` run together.
    Tensors that are ``spilled`` lie in the program's memory.
    """

    inputs: tuple[InputLayout, ...]
    act_words: int
    instructions: list[Instruction]
    tiles: tuple[int, ...]
    results: list[ResultTile]
    layers: tuple[int, ...]
    images: int
    spilled: frozenset[str] = frozenset()


def schedule(network: IntegerNetwork, config: ArrayConfig, images: int = 1) -> Schedule:
    """Return the schedule of a network on an array, for so many images together; raise
    ``NupesError`` by layer name."""
    placement = arrange(network, config, images)
    contexts = [Context(network, config, placement.image(index)) for index in range(images)]
    emitter, apart = Emitter(config), placement.batch.apart
    parts: list[tuple[int, int]] = []

    def emit(index: int, *works: tuple[Step, ...]) -> None:
        layer = network.layers[index]
        for item in network.constants if emitter.image == 0 else ():
            if first_reader(network, placement, item) is layer:
                emitter.constant(held_words(item, placement, config))
        parts.append((index, emitter.layer(layer.name, *works)))

    for image, context in enumerate(contexts):
        emitter.begin(image)
        bring_inputs(emitter, context, placement)
        lowered = [
            lower(layer, context.at(index)) for index, layer in enumerate(network.layers[:apart])
        ]
        works = gather(network.layers[:apart], lowered, config)
        for index, work in enumerate(leave_out(network, works, config)):
            name, spilling = network.layers[index].output.name, placement.spilling
            banded = index in spilling.bands
            emit(
                index,
                tuple(in_bands(index, work, context.at(index), spilling, name)) if banded else work,
            )
    emitter.begin(0)
    together = Context(network, config, placement, images)
    for index in range(apart, len(network.layers)):
        emit(index, *share_layer(network.layers[index], together, contexts))
    layers, tiles = zip(*parts, strict=True)
    return Schedule(
        tuple(packing(item.tensor, placement, config) for item in network.inputs),
        placement.act_words,
        bind(join(prefetch([*emitter.instructions, End()], config), config), config),
        tiles,
        emitter.results,
        layers,
        images,
        placement.spilling.tensors,
    )


def bring_inputs(emitter: Emitter, context: Context, placement: Placement) -> None:
    """Emit the LOADs of an image's inputs, but of what comes behind the tiles that read it."""
    for item in context.network.inputs:
        name = item.tensor.name
        packed, layout = placement.packing_of(name), context.placement.layouts[name]
        if packed is None:
            emitter.plain_input(layout, shared=placement.layouts[name].images > 1)
        elif not packed.chased:
            emitter.packed_lines(layout)


def share_layer(
    layer: Layer, together: Context, contexts: Sequence[Context]
) -> list[tuple[Work, ...]]:
    """Return the work of a layer on all images at once, if it has a walk over them and takes no
    more cycles so, or on each image."""
    config, images = together.config, together.images
    first = lower(layer, contexts[0])
    if images > 1:
        shared = [share(work, images, config) for work in lower(layer, together)]
        found = tuple(work for work in shared if work is not None)
        costs = [sum(least_cycles(work, config) for work in works) for works in (found, first)]
        if len(found) == len(shared) and costs[0] <= images * costs[1]:
            return [found]
    return [first, *(lower(layer, context) for context in contexts[1:])]


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
