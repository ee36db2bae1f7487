"""Transformer encoders of random integers, written by hand: what a quantizer makes of one."""

from dataclasses import dataclass, field
from math import log2

import numpy as np
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.layer import Encoder, Layer, Post, Requantize, Residual, ShiftEncoder
from nupes.model.network import IntegerNetwork, Output
from nupes.model.operators import (
    AveragePool,
    Concat,
    Conv,
    Matmul,
    Normalize,
    Operator,
    SubtractMax,
    WeightedMean,
)
from nupes.model.tensor import Port, Shape, Tensor
from tests.assemble import coded, given, wide
from tests.codebooks import activation_codebooks, weight_codebooks

__all__ = [
    "Books",
    "Sizes",
    "Transformer",
    "aligned",
    "biased_scores",
    "coded_tokens",
    "exponential",
    "one_block",
    "transformers",
]


@dataclass(frozen=True)
class Sizes:
    """What an encoder is: a sequence of ``tokens``, or a map; ``classes`` of its mean."""

    tokens: tuple[int, int] = (5, 1)
    features: int = 6
    heads: int = 2
    head: int = 4
    hidden: int = 9
    blocks: int = 2
    classes: int = 3
    norm_first: bool = True
    centered: bool = True
    shifts: bool = False
    signed: bool = False

    @property
    def width(self) -> int:
        """Channels of the residual stream."""
        return self.heads * self.head


@dataclass(frozen=True)
class Books:
    """The codebooks of one: activations, keys and values, weights, softmax's numerators."""

    activation: Codebook = field(default_factory=lambda: make_codebook("uniform", 4, True))
    matrix: Codebook = field(default_factory=lambda: make_codebook("uniform", 8, True))
    weight: Codebook = field(default_factory=lambda: make_codebook("power", 4, True, 127, 0.5))
    numerator: Codebook = field(default_factory=lambda: make_codebook("power", 4, False, 255, 0.4))


def exponential(book: Codebook, scale: float) -> Encoder:
    """Return the encoder of ``top * exp(scale * y)``: the top level from 0 on."""
    y = np.arange(-32768, 32768)
    codes = book.nearest(float(book.levels[-1]) * np.exp(np.minimum(y, 0) * scale))
    starts = np.flatnonzero(np.diff(codes)) + 1
    return Encoder(y[starts].astype(np.int16), codes[[0, *starts]])


class Transformer:
    """The network so far, and what one input makes of it, from which scales are chosen."""

    def __init__(self, sizes: Sizes, books: Books, rng: np.random.Generator) -> None:
        self.sizes, self.books, self.rng = sizes, books, rng
        self.source = coded("input", (*sizes.tokens, sizes.features), books.activation)
        self.values = {"input": self.codes((1, *self.source.shape), books.activation)}
        self.tensors: dict[str, Tensor] = {"input": self.source}
        self.layers: list[Layer] = []

    def codes(self, shape: tuple[int, ...], book: Codebook) -> np.ndarray:
        """Return random codes."""
        return self.rng.integers(0, len(book), shape).astype(np.uint8)

    def encoder(self, book: Codebook) -> Encoder | ShiftEncoder:
        """Return an encoder of ``y`` between -20000 and 20000 to the nearest level."""
        low, high = int(book.levels[0]), int(book.levels[-1])
        consecutive = (np.diff(book.levels) == 1).all()
        if self.sizes.shifts and consecutive and len(book) > 1:
            return ShiftEncoder(max(1, min(15, round(log2(40000 / (high - low))))))
        middle = (book.levels[:-1].astype(np.float64) + book.levels[1:]) / 2
        step = 20000 / max(abs(low), abs(high), 1)
        return Encoder(np.round(middle * step).astype(np.int16), np.arange(len(book)).astype("u1"))

    def requantize(self, op: Operator, ports: list[Port], largest: float) -> Requantize:
        """Return the requantization to about ``largest``, one for all keys of scores; negative and
        dead channels, too."""
        found = []
        for port in ports:
            tensor = self.tensors[port.tensor]
            found.append(tensor.levels(port.select(self.values[port.tensor])))
        acc = op.accumulate(*found)
        n = acc.shape[3]
        if isinstance(op, Matmul):
            shift, one = int(np.clip(np.log2(np.abs(acc).max() + 1), 1, 16)), np.ones(n, np.int32)
            mult = min(65535, int(largest * 2**shift / max(np.abs(acc).max(), 1)))
            return Requantize(mult * one, (1 << (shift - 1)) * one.astype(np.int64), shift * one)
        gain = largest / np.maximum(np.abs(acc).max(axis=(0, 1, 2)), 1)
        gain *= self.rng.uniform(0.6, 1.1, n)
        shift = np.clip(15 - np.floor(np.log2(gain)), 1, 31).astype(np.int32)
        mult = np.clip(np.floor(gain * 2.0**shift), 0, 65535).astype(np.int32)
        if self.sizes.signed:
            mult *= self.rng.choice(np.array([-1, 0, 1], np.int32), n)
        offset = self.rng.integers(-3000, 3000, n) * (np.int64(1) << shift.astype(np.int64))
        return Requantize(mult, offset + (np.int64(1) << (shift.astype(np.int64) - 1)), shift)

    def add(
        self,
        name: str,
        op: Operator,
        ports: list[Port],
        book: Codebook | None,
        skip: str | None = None,
        post: Post | None = None,
        largest: float = 20000,
    ) -> str:
        """Append a layer, wide without a codebook; return the name of its tensor."""
        shape: Shape = op.shape(*(p.shape(self.tensors[p.tensor].shape) for p in ports))
        output = wide(name, shape) if book is None else coded(name, shape, book)
        if op.copies:
            post = None
        elif post is None:
            residual = None if skip is None else Residual(Port(skip), 2, 1)
            encoder = None if book is None else self.encoder(book)
            post = Post(self.requantize(op, ports, largest), residual, encoder)
        layer = Layer(f"{name} layer", op, tuple(ports), output, post)
        self.layers.append(layer)
        self.tensors[name] = output
        reads = [(self.tensors[p.tensor], p.select(self.values[p.tensor])) for p in layer.reads]
        self.values[name] = layer.run(reads, 2**31 - 1)
        return name

    def linear(
        self, name: str, source: str, n: int, book: Codebook | None, skip: str | None = None
    ) -> str:
        """Append a linear layer over channels."""
        channels = self.tensors[source].shape[2]
        codes = self.codes((n, channels, 1, 1), self.books.weight)
        op = Conv(codes, self.books.weight, np.ones(n))
        largest = 6000 if book is None else 20000
        return self.add(name, op, [Port(source)], book, skip, largest=largest)

    def norm(self, name: str, source: str, *book: Codebook | None) -> str:
        """Append a normalization of a wide tensor, to activations unless a book is given."""
        width = self.tensors[source].shape[2]
        op = Normalize(width, self.sizes.centered, int(self.rng.integers(1, 1 << 20)))
        (target,) = book or (self.books.activation,)
        largest = 6000 if target is None else 20000
        return self.add(name, op, [Port(source)], target, largest=largest)

    def head(self, name: str, query: Port, key: Port, value: Port) -> str:
        """Append one head: scores, numerators, means of values."""
        height, width = self.sizes.tokens
        keys, book = height * width, self.books.numerator
        size = query.shape(self.tensors[query.tensor].shape)[2]
        scores = self.add(f"{name} scores", Matmul(size, True), [query, key], None, largest=16000)
        one = np.ones(keys, np.int32)
        unit = Requantize(2 * one, 0 * one.astype(np.int64), one)
        post = Post(unit, None, exponential(book, 2.0**-12))
        weights = self.add(f"{name} weights", SubtractMax(), [Port(scores)], book, post=post)
        op = WeightedMean(keys)
        return self.add(f"{name} mean", op, [Port(weights), value], self.books.activation)

    def attention(self, name: str, source: str, stream: str) -> str:
        """Append attention of all heads, added to the stream."""
        sizes, matrix = self.sizes, self.books.matrix
        query = self.linear(f"{name} query", source, sizes.width, self.books.activation)
        if sizes.heads == 1:
            others = (self.linear(f"{name} {x}", source, sizes.head, matrix) for x in "kv")
            parts = [self.head(f"{name} head", Port(query), *map(Port, others))]
            return self.linear(f"{name} sum", parts[0], sizes.width, None, skip=stream)
        pair = self.linear(f"{name} pair", source, 2 * sizes.width, matrix)
        parts = []
        for head in range(sizes.heads):
            first = head * sizes.head
            ports = (
                Port(query, first, sizes.head),
                Port(pair, first, sizes.head),
                Port(pair, sizes.width + first, sizes.head),
            )
            parts.append(self.head(f"{name} head {head}", *ports))
        ports = [Port(part) for part in parts]
        heads = self.add(f"{name} heads", Concat(), ports, self.books.activation)
        return self.linear(f"{name} sum", heads, sizes.width, None, skip=stream)

    def block(self, name: str, stream: str) -> str:
        """Append a block; return the stream behind it, which is normalized itself if norms come
        last."""
        sizes, book = self.sizes, self.books.activation
        stream = self.attention(name, self.norm(f"{name} first norm", stream), stream)
        second = self.norm(f"{name} second norm", stream)
        if not sizes.norm_first:
            stream = self.norm(f"{name} second stream", stream, None)
        hidden = self.linear(f"{name} hidden", second, sizes.hidden, book)
        stream = self.linear(f"{name} out", hidden, sizes.width, None, skip=stream)
        return stream if sizes.norm_first else self.norm(f"{name} stream", stream, None)

    def build(self) -> IntegerNetwork:
        """Return the network: embedding, blocks, norm, mean of tokens, classes."""
        stream = self.linear("stream", "input", self.sizes.width, None)
        for index in range(self.sizes.blocks):
            stream = self.block(f"block {index}", stream)
        last = self.norm("norm", stream)
        mean = self.add("mean", AveragePool(self.sizes.tokens, (1, 1)), [Port(last)],
                        self.books.activation)  # fmt: skip
        self.linear("classes", mean, self.sizes.classes, None)
        outputs = (Output("classes", (self.sizes.classes,)),)
        return IntegerNetwork((given(self.source),), tuple(self.layers), outputs)


def one_block() -> IntegerNetwork:
    """Return an encoder of one block and one head, with all that a file can hold of one."""
    sizes = Sizes((3, 1), 2, 1, 2, 2, 1, 2, shifts=True, signed=True)
    return Transformer(sizes, Books(), np.random.default_rng(0)).build()


@st.composite
def biased_scores(draw: st.DrawFn, heads_of: st.SearchStrategy[int]) -> IntegerNetwork:
    """Draw a network of products of stored tensors, one behind the other, each added to the one
    before: additive biases of scores, and rows of a matrix that are no tokens of a mean."""
    books = Books(draw(activation_codebooks()), draw(matrix_codebooks()))
    size, tokens = draw(heads_of), (draw(st.integers(1, 9)), 1)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made = Transformer(Sizes(tokens, 3), books, rng)
    query = made.linear("query", "input", size, books.activation)
    keys = [made.linear(f"key {i}", "input", size, books.matrix) for i in range(3)]
    scores: str | None = None
    for index, key in enumerate(keys):
        ports = [Port(query), Port(key)]
        scores = made.add(f"scores {index}", Matmul(size, True), ports, None, scores, largest=9000)
    weights = made.add("weights", SubtractMax(), [Port(scores or "")], books.activation)
    ports = [Port(weights), Port(keys[0])]
    made.add("sums", Matmul(tokens[0], False), ports, None)
    outputs = (Output("sums", (size, *tokens)),)
    return IntegerNetwork((given(made.source),), tuple(made.layers), outputs)


@st.composite
def coded_tokens(draw: st.DrawFn) -> IntegerNetwork:
    """Draw a network whose norms and distances are of codes, not of 16-bit results."""
    books = Books(draw(activation_codebooks()))
    channels = draw(st.integers(1, 20))
    sizes = Sizes(draw(st.tuples(st.integers(1, 6), st.integers(1, 3))), channels)
    made = Transformer(sizes, books, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    source = "input"
    for index in range(draw(st.integers(1, 3))):
        last = draw(st.booleans())
        op = Normalize(channels, last, 5) if draw(st.booleans()) else SubtractMax()
        source = made.add(f"layer {index}", op, [Port(source)], books.activation)
    made.linear("classes", source, 2, None)
    height, width = sizes.tokens
    outputs = (Output("classes", (2, height, width)),)
    return IntegerNetwork((given(made.source),), tuple(made.layers), outputs)


SMALL = st.integers(1, 3)


def aligned(config: ArrayConfig) -> st.SearchStrategy[int]:
    """Draw the channels of a head that begins with a word of an array, whatever their number."""
    return st.integers(1, 2).map(lambda words: words * config.lanes)


@st.composite
def sizes(draw: st.DrawFn, heads_of: st.SearchStrategy[int]) -> Sizes:
    """Draw what an encoder is, the channels of its heads as given."""
    tokens = draw(st.tuples(st.integers(1, 9), st.just(1)) | st.tuples(SMALL, SMALL))
    features, heads, hidden, blocks, classes = (
        draw(st.integers(1, most)) for most in (6, 3, 9, 2, 4)
    )
    head = draw(heads_of if heads > 1 else st.integers(1, 9))
    flags = [draw(st.booleans()) for _ in range(4)]
    return Sizes(tokens, features, heads, head, hidden, blocks, classes, *flags)


@st.composite
def matrix_codebooks(draw: st.DrawFn) -> Codebook:
    """Draw a signed codebook of 2 to 8 bits whose levels a stationary operand has."""
    bits, power = draw(st.integers(2, 8)), draw(st.sampled_from([None, 0.5, 0.7]))
    if power is None:
        return make_codebook("uniform", bits, True)
    return make_codebook("power", bits, True, 127, power)


@st.composite
def transformers(draw: st.DrawFn, heads_of: st.SearchStrategy[int] | None = None) -> IntegerNetwork:
    """Draw an encoder of random integers: tokens, heads, norms first or last, any codebooks;
    ``heads_of`` draws the channels of each of several heads."""
    books = Books(
        draw(activation_codebooks()),
        draw(matrix_codebooks()),
        draw(weight_codebooks()),
        make_codebook("power", draw(st.integers(2, 8)), False, 255, draw(st.floats(0.3, 1))),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drawn = draw(sizes(st.integers(1, 6) if heads_of is None else heads_of))
    return Transformer(drawn, books, rng).build()
