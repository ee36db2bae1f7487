"""Strategies for whole integer networks and arrays: every operator, odd sizes, every codebook; they
shrink.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.codebook import Codebook
from nupes.model.layer import Encoder, Layer, Post, Requantize, Residual
from nupes.model.network import Constant, IntegerNetwork, Output
from nupes.model.operators import (
    AveragePool,
    Concat,
    Conv,
    MaxPool,
    Operator,
    Product,
    Select,
    SumOfProducts,
    TransposedConv,
)
from nupes.model.tensor import Port, Tensor
from tests.assemble import assemble, coded, wide
from tests.codebooks import activation_codebooks, held_codebooks, weight_codebooks
from tests.mosaics import mosaics
from tests.sums import sums_of_products

__all__ = [
    "JOINS",
    "Builder",
    "arrays",
    "exact",
    "kinds_of",
    "many",
    "networks",
    "networks_for",
    "unit",
]

JOINS = ("concat", "product", "sum_of_products", "mosaic")
"""Kinds of operators that read several tensors."""

CONVOLUTIONS = ("dense", "dense", "whole", "grouped", "depthwise")


def many(examples: int) -> settings:
    """Return settings for a test of ``examples`` examples: ten times as many in a soak."""
    return settings(max_examples=examples * settings().max_examples // 100)


@st.composite
def arrays(draw: st.DrawFn, sizes: tuple[tuple[int, int], ...] = ((4, 4),)) -> ArrayConfig:
    """Draw an array configuration of the given sizes."""
    rows, cols = draw(st.sampled_from(sizes))
    return ArrayConfig(rows=rows, cols=cols, code_bits=draw(st.integers(2, 8)))


@dataclass(frozen=True)
class Range(Tensor):
    """Some channels and rows of a tensor, from ``first`` and ``first_row`` on, as a layer reads
    them."""

    first: int = 0
    first_row: int = 0


def port_of(source: Tensor) -> Port:
    """Return what reads a tensor, or a range of it."""
    if isinstance(source, Range):
        height, _, channels = source.shape
        return Port(source.name, source.first, channels, source.first_row, height)
    return Port(source.name)


@dataclass
class Builder:
    """A network in the making: stored tensors and layers so far."""

    most_channels: ClassVar[int] = 9
    """Of the first input."""

    draw: st.DrawFn
    rng: np.random.Generator
    weight_books: st.SearchStrategy[Codebook]
    activation_books: st.SearchStrategy[Codebook]
    also: Collection[str]
    ranges: bool = False
    several: bool = False
    tensors: list[Tensor] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)

    def codes(self, shape: tuple[int, ...], book: Codebook) -> np.ndarray:
        """Return random codes of a codebook."""
        return self.rng.integers(0, len(book), shape).astype(np.uint8)

    def padding(self, source: Tensor) -> tuple[int, int, int, int]:
        """Draw a padding of up to 2 on each side that may crop instead."""
        sides = []
        for size in source.shape[:2]:
            before = self.draw(st.integers(-min(2, size - 1), 2))
            sides += [before, self.draw(st.integers(-min(2, size - 1 + min(before, 0)), 2))]
        return sides[0], sides[1], sides[2], sides[3]

    def conv(self, source: Tensor, kinds: Sequence[str] = CONVOLUTIONS) -> Conv:
        """Draw a convolution: dense, grouped, depthwise, or over the whole map."""
        height, width, channels = source.shape
        book, kind, most = self.draw(self.weight_books), self.draw(st.sampled_from(kinds)), 3
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = self.draw(st.sampled_from(divisors)) if kind == "grouped" else 1
        n = groups * self.draw(st.integers(1, 3)) if groups > 1 else self.draw(st.integers(1, 9))
        if kind == "whole":
            codes = self.codes((n, channels, height, width), book)
            return Conv(codes, book, np.ones(n))
        if kind == "depthwise":
            groups, n, most = channels, channels, 5
        elif self.draw(st.integers(0, 3)) == 0:
            return self.transposed(source, book, n, groups)
        stride = (self.draw(st.integers(1, 3)), self.draw(st.integers(1, 3)))
        dilation = (self.draw(st.integers(1, 2)), self.draw(st.integers(1, 2)))
        padding = self.padding(source)
        kernel = [
            self.draw(st.integers(1, max(1, min(most, 1 + (size - 1) // step))))
            for size, step in (
                (height + padding[0] + padding[1], dilation[0]),
                (width + padding[2] + padding[3], dilation[1]),
            )
        ]
        codes = self.codes((n, channels // groups, *kernel), book)
        return Conv(codes, book, np.ones(n), stride, padding, dilation, groups)

    def transposed(self, source: Tensor, book: Codebook, n: int, groups: int) -> TransposedConv:
        """Draw a transposed convolution of so many channels and groups."""
        pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
        kernel, stretch, stride = (self.draw(pairs) for _ in range(3))
        ends = [self.draw(st.integers(-1 if size > 1 else 0, 2)) for size in kernel]
        sides = [(size - 1, size - 1 + end) for size, end in zip(kernel, ends, strict=True)]
        codes = self.codes((n, source.shape[2] // groups, *kernel), book)
        return TransposedConv(
            codes, book, np.ones(n), stride, (*sides[0], *sides[1]), (1, 1), groups, stretch
        )

    def window(self, source: Tensor, pool: type) -> AveragePool | MaxPool:
        """Draw a pool whose padding is less than its window, or that cuts rows and columns off."""
        height, width, _ = source.shape
        kernel = self.draw(st.integers(1, min(3, height))), self.draw(st.integers(1, min(3, width)))
        stride = self.draw(st.integers(1, 2)), self.draw(st.integers(1, 2))
        if self.draw(st.booleans()):
            cuts = [self.draw(st.integers(0, height - kernel[0]))]
            cuts += [self.draw(st.integers(0, width - kernel[1]))]
            return pool(kernel, stride, (-cuts[0], 0, 0, -cuts[1]))
        py = self.draw(st.integers(0, kernel[0] // 2))
        px = self.draw(st.integers(0, kernel[1] // 2))
        return pool(kernel, stride, (py, py, px, px))

    def select(self, source: Tensor) -> Select:
        """Draw a selection: the identity, a range, or any channels, strided, cropped, padded."""
        channels = source.shape[2]
        kind = self.draw(st.sampled_from(["every", "range", "any"]))
        if kind == "every":
            return Select.every(channels)
        if kind == "range":
            first = self.draw(st.integers(0, channels - 1))
            return Select.of(range(first, self.draw(st.integers(first, channels - 1)) + 1))
        numbers = st.lists(st.integers(-1, channels - 1), min_size=1, max_size=channels + 4)
        stride = self.draw(st.integers(1, 2)), self.draw(st.integers(1, 2))
        return Select(tuple(self.draw(numbers)), stride, self.padding(source))

    def requantize(self, op: Operator, sources: list[Tensor]) -> Requantize:
        """Return a requantization that uses, and now and then exceeds, the range of ``y``; dead
        channels too.
        """
        levels = [t.codebook.levels[self.codes((2, *t.shape), t.codebook)] for t in sources]
        acc = op.accumulate(*levels)
        n = acc.shape[3]
        spread = max(float(np.abs(acc).max()), 1.0)
        gain = 2.0 ** self.draw(st.sampled_from([-1.0, 0.0, 2.0, 6.0])) * 20000 / spread
        shift = np.clip(15 - np.floor(np.log2(gain * self.rng.uniform(0.5, 1, n))), 1, 31).astype(
            np.int32
        )
        mult = np.clip(np.floor(gain * 2.0**shift), 0, 65535).astype(np.int32)
        mult[self.rng.random(n) < 0.1] = 0
        bias = self.rng.integers(-12000, 12000, n) * (np.int64(1) << shift.astype(np.int64))
        return Requantize(mult, bias + (np.int64(1) << (shift.astype(np.int64) - 1)), shift)

    def encoder(self, book: Codebook) -> Encoder:
        """Return a random encoder: increasing or with a turning point, any number of thresholds."""
        most = 2 ** (book.bits + 1) - 1
        count = self.draw(st.integers(0, min(most, 2 * len(book))))
        thresholds = np.sort(self.rng.integers(-32768, 32768, count)).astype(np.int16)
        codes = self.codes((count + 1,), book)
        if self.draw(st.booleans()):
            codes = np.sort(codes)
        return Encoder(thresholds, codes)

    def recent(self) -> Tensor:
        """Draw one of the last three tensors, or a range of it."""
        count = len(self.tensors)
        source = self.tensors[self.draw(st.integers(max(0, count - 3), count - 1))]
        if not self.ranges or self.draw(st.booleans()):
            return source
        height, _, channels = source.shape
        rows = self.draw(st.sampled_from((height, height, 1, (height + 1) // 2)))
        return self.part(source, self.draw(st.integers(1, channels)), rows)

    def part(self, source: Tensor, channels: int, rows: int) -> Tensor:
        """Draw a range of so many channels and rows."""
        height, width, most = source.shape
        first = self.draw(st.integers(0, most - channels))
        first_row = self.draw(st.integers(0, height - rows))
        return Range(source.name, (rows, width, channels), source.format, first, first_row)

    def parts(self, source: Tensor) -> list[Tensor]:
        """Draw tensors that can be concatenated with one, itself at some place."""
        able = [
            t for t in self.tensors if (t.shape[:2], t.format) == (source.shape[:2], source.format)
        ]
        able = able or [source]
        found = [self.draw(st.sampled_from(able)) for _ in range(self.draw(st.integers(1, 2)))]
        found.insert(self.draw(st.integers(0, len(found))), source)
        return found

    def alike(self, source: Tensor) -> list[Tensor]:
        """Draw up to three tensors of one codebook, the source among them."""
        able = [source, *(t for t in self.tensors if t.format == source.format)]
        return [source, *self.draw(st.lists(st.sampled_from(able), max_size=2))]

    def factors(self, source: Tensor) -> list[Tensor]:
        """Draw the two factors of a product: a tensor, and one that serves it."""
        able = [
            t
            for t in (*self.tensors, source)
            if all(size in (1, full) for size, full in zip(t.shape, source.shape, strict=True))
        ]
        return [self.draw(st.sampled_from(able)), source]

    def operator(self, last: bool) -> tuple[Operator, list[Tensor]]:
        """Draw an operator and what it reads."""
        source = self.recent()
        kinds = ["conv", "conv", "select", "average"] + ([] if last else ["max"])
        kinds += ["mosaic"] * ("mosaic" in self.also and not last)
        kinds += ["product"] * ("product" in self.also)
        kinds += ["sum_of_products"] * ("sum_of_products" in self.also)
        kinds += ["concat"] * ("concat" in self.also and not last)
        kind = self.draw(st.sampled_from(kinds))
        if kind == "conv":
            return self.conv(source), [source]
        if kind == "select":
            return self.select(source), [source]
        if kind == "product":
            return Product(), self.factors(source)
        if kind == "sum_of_products":
            return self.draw(sums_of_products(source, self.tensors))
        if kind == "concat":
            return Concat(), self.parts(source)
        if kind == "mosaic":
            sources = self.alike(source)
            return self.draw(mosaics([item.shape for item in sources])), sources
        return self.window(source, AveragePool if kind == "average" else MaxPool), [source]

    def layer(self, last: bool) -> None:
        """Add one layer; the last one emits its results, others where there are several outputs."""
        index = len(self.layers)
        last = last or (self.several and self.draw(st.booleans()))
        op, sources = self.operator(last)
        shape = op.shape(*(source.shape for source in sources))
        name, ports = f"layer{index}", tuple(port_of(source) for source in sources)
        if op.copies:
            output = coded(f"t{index}", shape, sources[0].codebook)
            self.layers.append(Layer(name, op, ports, output))
            self.tensors.append(output)
            return
        residual = None
        skips = [tensor for tensor in self.tensors if tensor.shape == shape]
        if self.ranges:
            larger = (
                t
                for t in self.tensors
                if t.shape != shape and t.shape[0] >= shape[0] and t.shape[1] == shape[1]
                and t.shape[2] >= shape[2]
            )  # fmt: skip
            skips += [self.part(tensor, shape[2], shape[0]) for tensor in larger]
        # Products read their second factors where a residual is read.
        if skips and not isinstance(op, Product | SumOfProducts) and self.draw(st.booleans()):
            skip = port_of(self.draw(st.sampled_from(skips)))
            mult, shift = self.draw(st.integers(0, 65535)), self.draw(st.integers(1, 31))
            residual = Residual(skip, mult, shift)
        output, encoder = wide(f"t{index}", shape), None
        if not last:
            book = self.draw(self.activation_books)
            if self.also and self.draw(st.booleans()):
                book = self.tensors[-1].codebook  # so that it can be concatenated
            output, encoder = coded(f"t{index}", shape, book), self.encoder(book)
            self.tensors.append(output)
        tail = self.requantize(op, sources)
        if isinstance(op, Select) and not last and self.draw(st.booleans()):
            # A copy of codes, which may lie where it is copied from.
            output, residual = coded(f"t{index}", shape, sources[0].codebook), None
            encoder, tail = exact(sources[0].codebook), unit(shape[2])
            self.tensors[-1] = output
        self.layers.append(Layer(name, op, ports, output, Post(tail, residual, encoder)))


def exact(book: Codebook) -> Encoder:
    """Return the encoder that gives the code of each level."""
    return Encoder(book.levels[1:], np.arange(len(book), dtype=np.uint8))


def unit(channels: int) -> Requantize:
    """Return the requantization that changes nothing."""
    one = np.ones(channels, np.int32)
    return Requantize(2 * one, 0 * one.astype(np.int64), one)


def kinds_of(config: ArrayConfig) -> tuple[str, ...]:
    """Return the kinds of operators that networks have only if asked, and that run on an array."""
    return JOINS if config.products else ("concat", "mosaic")


def networks_for(config: ArrayConfig, most_layers: int = 4) -> st.SearchStrategy[IntegerNetwork]:
    """Draw a network whose codebooks an array's cells hold."""
    books = held_codebooks(config, True), held_codebooks(config, False)
    return networks(most_layers, *books, also=kinds_of(config))


@st.composite
def networks(
    draw: st.DrawFn,
    most_layers: int = 4,
    weight_books: st.SearchStrategy[Codebook] | None = None,
    activation_books: st.SearchStrategy[Codebook] | None = None,
    also: Collection[str] = (),
    ranges: bool = False,
    several: bool = False,
    held: bool = False,
    make: type[Builder] = Builder,
) -> IntegerNetwork:
    """Draw a network of up to ``most_layers`` layers, with any codebooks or the given ones, and
    operators of the kinds in ``also``; with ``ranges`` layers read ranges of channels and rows as
    well, and with ``several`` other layers than the last one may emit their results, and there is a
    second input, or with ``held`` a constant; ``make`` draws the layers."""
    builder = make(
        draw,
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        weight_codebooks() if weight_books is None else weight_books,
        activation_codebooks() if activation_books is None else activation_books,
        also,
        ranges,
        several,
    )
    book = draw(builder.activation_books)
    shape = draw(st.tuples(*[st.integers(1, 7)] * 2, st.integers(1, make.most_channels)))
    source = coded("input", shape, book)
    builder.tensors.append(source)
    if several:
        size = (*shape[:2], draw(st.integers(1, 9)))
        builder.tensors.append(coded("more", size, draw(builder.activation_books)))
    count = draw(st.integers(1, most_layers))
    for index in range(count):
        builder.layer(last=index == count - 1)
    height, width, channels = builder.layers[-1].output.shape
    more = builder.tensors[1 : 1 + several]
    network = assemble(source, builder.layers, (channels, height, width), more=more)
    emitted = [layer.output for layer in builder.layers if layer.wide]
    outputs = [Output(t.name, (t.shape[2], *t.shape[:2])) for t in emitted]
    network = replace(network, outputs=tuple(outputs))
    if not (several and held):
        return network
    codes = builder.codes(more[0].shape, more[0].codebook)
    return replace(network, inputs=network.inputs[:1], constants=(Constant(more[0], codes),))
