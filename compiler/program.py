"""The program: memory image, where the host puts the input, how it reads the results, and the exact
cycles.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nupes.arch.config import INSTRUCTION_BITS, ArrayConfig
from nupes.arch.isa import pack_instruction
from nupes.compiler.emit.steps import Schedule, Step
from nupes.compiler.lowering.scheduler import schedule
from nupes.compiler.place.layout import InputLayout
from nupes.compiler.report.losses import LayerReport, report
from nupes.compiler.timing.timeline import Timeline, predict
from nupes.model.errors import InputError
from nupes.model.network import IntegerNetwork
from nupes.model.summary import html_table

__all__ = ["Program", "check_latency", "compile"]


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network; ``cycles`` is exact for a memory of ``latency`` cycles without stalls."""

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
        for step in self.schedule.steps:
            parts.append(instruction_words(step, self.array))
            if step.payload is not None and step.words:
                parts.append(step.payload())
            elif step.words:
                parts.append(np.zeros((step.words, parts[0].shape[1]), np.uint64))
        return np.concatenate(parts)

    @cached_property
    def holes(self) -> np.ndarray:
        """Addresses in the image of the input words, in the order of ``input_words``; int64."""
        position, runs = 0, []
        for step in self.schedule.steps:
            position += self.array.instruction_words
            if step.hole:
                runs.append(np.arange(position, position + step.words))
            position += step.words
        return np.concatenate(runs)

    @property
    def input(self) -> InputLayout:
        """How the host packs the input."""
        return self.schedule.input

    def input_patches(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return image addresses (int64) and words (uint64, one row each) for input codes (h, w,
        c).
        """
        return self.holes, self.input.words(codes, self.array)

    def outputs(self, raw: np.ndarray) -> np.ndarray:
        """Return ``y`` int16 (output_shape) from the result words, int16 (words, cols)."""
        last = self.network.layers[-1]
        height, width, channels = last.output.shape
        out = np.zeros((height * width, channels), np.int16)
        position = 0
        for tile in self.schedule.results:
            lanes = min(self.array.cols, channels - tile.channel)
            rows = raw[position : position + tile.count, :lanes]
            out[tile.first : tile.first + tile.count, tile.channel : tile.channel + lanes] = rows
            position += tile.count
        return out.T.reshape(self.network.the_output.shape)


def instruction_words(step: Step, config: ArrayConfig) -> np.ndarray:
    """Return an instruction as port words, uint64 (instruction_words, ceil(port_bits / 64))."""
    packed, width = pack_instruction(step.fields), config.port_bits
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
    plan = schedule(network, array)
    timeline = predict(plan, array, latency)
    layers = report(network, plan, timeline, array)
    return Program(network, array, latency, plan, timeline, layers)


def check_latency(latency: int) -> None:
    """Raise ``InputError`` if no memory has this latency (cycles)."""
    if not isinstance(latency, int) or not 1 <= latency < 1 << 24:
        raise InputError(f"latency must be an integer from 1 to 2**24 - 1 cycles, not {latency!r}")
