"""The program: memory image, where the host puts the input, how it reads the results, and the exact
cycles.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nupes.arch.config import INSTRUCTION_BITS, ArrayConfig
from nupes.compiler.emit.instructions import Instruction, Load, Tile
from nupes.compiler.emit.schedules import Schedule, schedule
from nupes.compiler.lowering import adapt
from nupes.compiler.lowering.passes import Payload
from nupes.compiler.place.packing import InputLayout
from nupes.compiler.report.accesses import Accesses, accesses_of, total
from nupes.compiler.report.losses import LayerReport, layer_parts, report
from nupes.compiler.timing.timeline import Timeline, predict
from nupes.model.errors import CapacityError, InputError
from nupes.model.network import IntegerNetwork
from nupes.model.summary import html_table

__all__ = ["Program", "check_batch", "check_latency", "compile"]

MOST_BATCH = 256
"""Most images of a run."""


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network; ``cycles`` is exact for a memory of ``latency`` cycles without stalls. A
    run takes a ``batch`` of images.

    Its layers are those of the network that was given, and copies that the array needs.
    """

    network: IntegerNetwork
    array: ArrayConfig
    latency: int
    schedule: Schedule = field(repr=False)
    timeline: Timeline = field(repr=False)
    layers: tuple[LayerReport, ...]
    batch: int = 1

    def __repr__(self) -> str:
        images = f" of {self.batch} images" if self.batch > 1 else ""
        return (
            f"Program({self.array} array, {self.cycles:,} cycles{images}, "
            f"{self.utilization:.1%} utilization, {len(self.layers)} layers)"
        )

    def _repr_html_(self) -> str:
        """Return the costs of every layer as a notebook shows them."""
        titles = ("layer", "cycles", "tiles", "MACs", "utilization")
        rows = [
            (layer.name, layer.cycles, layer.tiles, layer.macs, f"{layer.utilization:.1%}")
            for layer in self.layers
        ]
        return html_table(repr(self), titles, rows)

    @property
    def cycles(self) -> int:
        """Cycles of one image, or of a batch, from start to done."""
        return self.timeline.cycles

    def cycles_with_port(self, times: int) -> int:
        """Return the cycles of the same program if the port had ``times`` the bits, and the array
        took ``times`` rows of weights in a cycle: exact for such an array, which does not exist."""
        return predict(self.schedule.instructions, self.array, self.latency, times).cycles

    @property
    def cycles_per_image(self) -> float:
        """Cycles of a run over the images of its batch."""
        return self.cycles / self.batch

    @property
    def utilization(self) -> float:
        """Real MACs per processing element and cycle."""
        return sum(layer.macs for layer in self.layers) / (
            self.array.rows * self.array.cols * self.cycles
        )

    @cached_property
    def accesses(self) -> tuple[Accesses, ...]:
        """How often each layer, in the order of ``layers``, reads and writes every memory, and the
        words that cross the port for it: of a batch for all its images."""
        nothing = accesses_of((), self.array)
        found = [nothing] * len(self.layers)
        for index, part in zip(self.schedule.layers, layer_parts(self.schedule), strict=True):
            found[index] += accesses_of(part, self.array)
        return tuple(found)

    @property
    def total_accesses(self) -> Accesses:
        """What all layers access."""
        return total(self.accesses)

    def describe_layers(self) -> list[dict]:
        """Return the costs and the accesses of every layer as JSON data."""
        pairs = zip(self.layers, self.accesses, strict=True)
        return [layer.as_dict() | accesses.as_dict() for layer, accesses in pairs]

    @cached_property
    def image(self) -> np.ndarray:
        """External memory, uint64 (words, ceil(port_bits / 64)); input holes are 0."""
        parts = []
        for item in self.schedule.instructions:
            if not item.follows:
                parts.append(instruction_words(item, self.array))
            payload = payload_words(item)
            if payload is not None:
                parts.append(payload)
            elif item.words:
                parts.append(np.zeros((item.words, parts[0].shape[1]), np.uint64))
        return np.concatenate(parts)

    @cached_property
    def holes(self) -> np.ndarray:
        """Addresses in the image of the input words, in the order of ``input_patches``; int64."""
        position, runs, images = 0, [], []
        for item in self.schedule.instructions:
            position += 0 if item.follows else self.array.instruction_words
            if isinstance(item, Load) and item.hole:
                runs.append(np.arange(position, position + item.words))
                images.append(np.full(item.words, item.image))
            position += item.words
        inputs = sorted(self.inputs, key=lambda item: item.base)
        places, image = self.places, np.concatenate(images)
        # Images of a batch lie in turn within an input, or all in the same place.
        owner = np.searchsorted([item.base for item in inputs], places, "right") - 1
        # Blocks of a packed input may share addresses, and come in the program's order.
        in_order = np.array([item.in_order for item in inputs])[owner]
        within = np.where(in_order, np.arange(len(places)), places)
        return np.concatenate(runs)[np.lexsort((within, owner, image))]

    @property
    def places(self) -> np.ndarray:
        """Addresses in the activation memory of the input words, in the order of the program."""
        loads = (item for item in self.schedule.instructions if isinstance(item, Load))
        holes = (load for load in loads if load.hole)
        return np.concatenate([np.arange(load.words) + load.address for load in holes])

    @property
    def marked(self) -> tuple[int, ...]:
        """The positions of the layers that have instructions, and so a mark, in their order: of a
        batch those that run image by image for each image."""
        parts = zip(self.schedule.layers, self.schedule.tiles, strict=True)
        return tuple(index for index, count in parts if count)

    @property
    def inputs(self) -> tuple[InputLayout, ...]:
        """How the host packs each input."""
        return self.schedule.inputs

    def input_patches(self, *codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return image addresses (int64) and words (uint64, one row each) for the codes of each
        input, (h, w, c) or of a batch (batch, h, w, c), image by image in the order in which they
        lie in the activation memory, or come there."""
        parts = sorted(zip(self.inputs, codes, strict=True), key=lambda part: part[0].base)
        words = [
            layout.words(c.reshape(self.batch, *c.shape[-3:])[number], self.array)
            for number in range(self.batch)
            for layout, c in parts
        ]
        return self.holes, np.concatenate(words)

    def outputs(self, raw: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return each output's ``y``, int16 (batch, *output shape), from the result words of a run,
        int16 (words, cols)."""
        tensors = {layer.name: layer.output for layer in self.network.layers if layer.wide}
        found = {
            tensor.name: np.zeros((self.batch, *tensor.shape), np.int16)
            for tensor in tensors.values()
        }
        position = 0
        for tile in self.schedule.results:
            tensor = tensors[tile.layer]
            height, width, channels = tensor.shape
            before = tile.image * height * width
            lanes = min(self.array.cols, channels - tile.channel)
            numbers = range(tile.first, tile.first + tile.count)
            places = [before + tile.region.offset(number, width) for number in numbers]
            rows = raw[position : position + tile.count, :lanes]
            pixels = found[tensor.name].reshape(-1, channels)
            pixels[places, tile.channel : tile.channel + lanes] = rows
            position += tile.count
        return tuple(output.arrange(found[output.tensor]) for output in self.network.outputs)


def payload_words(item: Instruction) -> np.ndarray | None:
    """Return an instruction's payload, uint64 (words, ceil(port_bits / 64)); ``None`` where it has
    none, or is a hole."""
    if isinstance(item, Load):
        return None if item.payload is None else item.payload()
    payload = item.payload if isinstance(item, Tile) else None
    return payload.words() if isinstance(payload, Payload) and item.words else None


def instruction_words(item: Instruction, config: ArrayConfig) -> np.ndarray:
    """Return an instruction as port words, uint64 (instruction_words, ceil(port_bits / 64))."""
    packed, width = item.pack(), config.port_bits
    words = -(-width // 64)
    rows = [
        [
            (packed >> (width * i) & ((1 << width) - 1)) >> (64 * j) & (2**64 - 1)
            for j in range(words)
        ]
        for i in range(-(-INSTRUCTION_BITS // width))
    ]
    return np.array(rows, np.uint64)


def compile(
    network: IntegerNetwork, array: ArrayConfig, latency: int = 20, batch: int = 1
) -> Program:
    """Compile a network for an array; raise ``CapacityError`` or ``UnsupportedError`` with the
    layer if it cannot run.

    ``latency`` is that of the external memory in cycles, 1 to 2**24 - 1, for the prediction; values
    never depend on it. A run takes ``batch`` images: layers whose maps are small go through their
    weights once for all of them, as many layers as the activation memory has room for.
    """
    check_latency(latency)
    check_batch(batch)
    with uncollected():
        network = adapt(network, array)
        plan = schedule(network, array, batch)
        timeline = predict(plan.instructions, array, latency)
        check_watchdog(timeline, array, latency)
        layers = report(network, plan, timeline, array)
    return Program(network, array, latency, plan, timeline, layers, batch)


@contextmanager
def uncollected() -> Iterator[None]:
    """Hold the search for cycles of garbage back, as a compilation makes many objects that stay and
    none that refer to each other: it takes a quarter of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def check_watchdog(timeline: Timeline, array: ArrayConfig, latency: int) -> None:
    """Raise ``CapacityError`` if the watchdog would end a run that only waits for the memory."""
    if timeline.quiet >= array.watchdog:
        raise CapacityError(
            f"watchdog must be more than the {timeline.quiet} cycles that the run waits with a "
            f"memory latency of {latency}, not {array.watchdog}; use a faster memory or "
            f"ArrayConfig(watchdog={timeline.quiet + 1})"
        )


def check_batch(batch: int) -> None:
    """Raise ``InputError`` if no run takes so many images."""
    if not isinstance(batch, int) or not 1 <= batch <= MOST_BATCH:
        raise InputError(f"batch must be an integer from 1 to {MOST_BATCH} images, not {batch!r}")


def check_latency(latency: int) -> None:
    """Raise ``InputError`` if no memory has this latency (cycles)."""
    if not isinstance(latency, int) or not 1 <= latency < 1 << 24:
        raise InputError(f"latency must be an integer from 1 to 2**24 - 1 cycles, not {latency!r}")
