"""Networks whose input the host packs, in so little memory that it comes block by block."""

import re
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.schedules import schedule
from nupes.compiler.lowering import arrange
from nupes.compiler.place.patching import Packing
from nupes.compiler.program import Program, compile
from nupes.model.errors import CapacityError
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv, Operator
from nupes.model.tensor import Tensor
from tests.networks import Builder, kinds_of, networks

__all__ = ["comes_in_blocks", "compile_within", "least_depth", "packed_networks", "tight_programs"]


class Packed(Builder):
    """A network that begins with a dense convolution of few channels and several taps."""

    most_channels = 2

    def operator(self, last: bool) -> tuple[Operator, list[Tensor]]:
        """Draw an operator and what it reads."""
        if self.layers:
            return super().operator(last)
        source = self.tensors[0]
        height, width, channels = source.shape
        book = self.draw(self.weight_books)
        # Not all of a map of one row or column: one side of the kernel is 1 there.
        kernel = [self.draw(st.integers(min(2, size), min(3, size))) for size in (height, width)]
        padding = self.draw(st.tuples(*[st.integers(0, 1)] * 4))
        stride = self.draw(st.integers(1, 2)), self.draw(st.integers(1, 2))
        codes = self.codes((self.draw(st.integers(1, 9)), channels, *kernel), book)
        return Conv(codes, book, np.ones(len(codes)), stride, padding), [source]


def packed_networks(
    config: ArrayConfig, most_layers: int = 3, several: bool = False, held: bool = False
) -> st.SearchStrategy[IntegerNetwork]:
    """Draw a network whose first layer reads patches as a rule; ``several`` and ``held`` as in
    ``networks``."""
    also = kinds_of(config)
    return networks(most_layers, also=also, several=several, held=held, make=Packed)


def least_depth(network: IntegerNetwork, config: ArrayConfig) -> int:
    """Return the smallest ``act_depth`` that holds a network."""
    try:
        compile(network, replace(config, act_depth=4))
    except CapacityError as error:
        return int(re.findall(r"^activation memory must hold (\d+) words", str(error))[0])
    return 4


def compile_within(
    network: IntegerNetwork, config: ArrayConfig, depth: int, latency: int = 20
) -> Program:
    """Return a program for an array that uses ``depth`` words of its activation memory."""
    program = compile(network, replace(config, act_depth=depth), latency)
    return replace(program, array=config)


@st.composite
def tight_programs(draw: st.DrawFn, config: ArrayConfig, latency: int = 20) -> Program:
    """Draw a program that uses less of an array's activation memory than it might: where the input
    comes in blocks, if that is anywhere."""
    several, held = draw(st.booleans()), draw(st.booleans())
    network = draw(packed_networks(config, several=several, held=held))
    least = least_depth(network, config)
    most = max(least, schedule(network, config).act_words - 1)
    depths = sorted({least + (most - least) * part // 16 for part in range(17)})
    few = [depth for depth in depths if holds_blocks(network, replace(config, act_depth=depth))]
    return compile_within(network, config, draw(st.sampled_from(few or depths)), latency)


def holds_blocks(network: IntegerNetwork, config: ArrayConfig) -> bool:
    """Whether an array has no place for all of a packed input."""
    packing = arrange(network, config).packing
    return isinstance(packing, Packing) and packing.patches.held < packing.patches.pixels


def comes_in_blocks(program: Program) -> bool:
    """Whether some words of an input take the place of earlier ones."""
    return len(set(program.places.tolist())) < len(program.places)
