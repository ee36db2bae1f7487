"""The program: memory image, where the host puts the input, how it reads the results, and the exact
cycles.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nupes.arch.config import INSTRUCTION_BITS, ArrayConfig
from nupes.compiler.emit.instructions import Instruction, Load, Tile
from nupes.compiler.emit.schedules import Schedule, schedule
from nupes.compiler.lowering import adapt
from nupes.compiler.lowering.passes import Payload
from nupes.compiler.place.packing import InputLayout
from nupes.compiler.report.losses import LayerReport, report
from nupes.compiler.timing.timeline import Timeline, predict
from nupes.model.errors import CapacityError, InputError
from nupes.model.network import IntegerNetwork
from nupes.model.summary import html_table

__all__ = ["Program", "check_latency", "compile"]


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network; ``cycles`` is exact for a memory of ``latency`` cycles without stalls.

    Its layers are those of the network that was given, and copies that the array needs.
    """

    network: IntegerNetwork
    array: ArrayConfig
    latency: int
    schedule: Schedule = field(repr=False)
    timeline: Timeline = field(repr=False)
    layers: tuple[LayerReport, ...]

    def __repr__(self) -> str:
        return (
            f"Program({self.array} array, {self.cycles:,} cycles, "
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
        """Cycles of one image, from start to done."""
        return self.timeline.cycles

    @property
    def utilization(self) -> float:
        """Real MACs per processing element and cycle."""
        return sum(layer.macs for layer in self.layers) / (
            self.array.rows * self.array.cols * self.cycles
        )

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
        position, runs = 0, []
        for item in self.schedule.instructions:
            position += 0 if item.follows else self.array.instruction_words
            if isinstance(item, Load) and item.hole:
                runs.append(np.arange(position, position + item.words))
            position += item.words
        inputs = sorted(self.inputs, key=lambda item: item.base)
        places = self.places
        owner = np.searchsorted([item.base for item in inputs], places, "right") - 1
        # Blocks of a packed input may share addresses, and come in the program's order.
        in_order = np.array([item.in_order for item in inputs])[owner]
        within = np.where(in_order, np.arange(len(places)), places)
        return np.concatenate(runs)[np.lexsort((within, owner))]

    @property
    def places(self) -> np.ndarray:
        """Addresses in the activation memory of the input words, in the order of the program."""
        loads = (item for item in self.schedule.instructions if isinstance(item, Load))
        holes = (load for load in loads if load.hole)
        return np.concatenate([np.arange(load.words) + load.address for load in holes])

    @property
    def marked(self) -> tuple[int, ...]:
        """The positions of the layers that have instructions, and so a mark, in their order."""
        return tuple(index for index, count in enumerate(self.schedule.tiles) if count)

    @property
    def inputs(self) -> tuple[InputLayout, ...]:
        """How the host packs each input."""
        return self.schedule.inputs

    def input_patches(self, *codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return image addresses (int64) and words (uint64, one row each) for the codes (h, w, c)
        of each input, in the order in which they lie in the activation memory, or come there."""
        parts = sorted(zip(self.inputs, codes, strict=True), key=lambda part: part[0].base)
        return self.holes, np.concatenate([layout.words(c, self.array) for layout, c in parts])

    def outputs(self, raw: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return each output's ``y``, int16 (1, *output shape), from the result words of one image,
        int16 (words, cols)."""
        tensors = {layer.name: layer.output for layer in self.network.layers if layer.wide}
        found = {tensor.name: np.zeros((1, *tensor.shape), np.int16) for tensor in tensors.values()}
        position = 0
        for tile in self.schedule.results:
            tensor = tensors[tile.layer]
            _, width, channels = tensor.shape
            lanes = min(self.array.cols, channels - tile.channel)
            numbers = range(tile.first, tile.first + tile.count)
            places = [tile.region.offset(number, width) for number in numbers]
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


def compile(network: IntegerNetwork, array: ArrayConfig, latency: int = 20) -> Program:
    """Compile a network for an array; raise ``CapacityError`` or ``UnsupportedError`` with the
    layer if it cannot run.

    ``latency`` is that of the external memory in cycles, 1 to 2**24 - 1, for the prediction; values
    never depend on it.
    """
    check_latency(latency)
    network = adapt(network, array)
    plan = schedule(network, array)
    timeline = predict(plan.instructions, array, latency)
    check_watchdog(timeline, array, latency)
    layers = report(network, plan, timeline, array)
    return Program(network, array, latency, plan, timeline, layers)


def check_watchdog(timeline: Timeline, array: ArrayConfig, latency: int) -> None:
    """Raise ``CapacityError`` if the watchdog would end a run that only waits for the memory."""
    if timeline.quiet >= array.watchdog:
        raise CapacityError(
            f"watchdog must be more than the {timeline.quiet} cycles that the run waits with a "
            f"memory latency of {latency}, not {array.watchdog}; use a faster memory or "
            f"ArrayConfig(watchdog={timeline.quiet + 1})"
        )


def check_latency(latency: int) -> None:
    """Raise ``InputError`` if no memory has this latency (cycles)."""
    if not isinstance(latency, int) or not 1 <= latency < 1 << 24:
        raise InputError(f"latency must be an integer from 1 to 2**24 - 1 cycles, not {latency!r}")
