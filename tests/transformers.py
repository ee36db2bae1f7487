"""Transformer encoders of random integers, written by hand: what a quantizer makes of one."""

from dataclasses import dataclass, field
from math import log2

import numpy as np

from nupes.model.codebook import Codebook, make_codebook, table_codebook
from nupes.model.layer import Encoder, Layer, Post, Requantize, Residual, ShiftEncoder
from nupes.model.network import Constant, IntegerNetwork, Output
from nupes.model.operators import (
    AveragePool,
    Concat,
    Conv,
    Matmul,
    Mosaic,
    Normalize,
    Operator,
    Piece,
    Product,
    SubtractMax,
    SumOfProducts,
    WeightedMean,
)
from nupes.model.tensor import Port, Shape, Tensor
from tests.assemble import coded, given, wide

__all__ = [
    "MASK",
    "Books",
    "Sizes",
    "Transformer",
    "exponential",
    "one_block",
    "zero_below",
]

MASK = table_codebook(np.array([-128, 0]), 1)
"""The codebook of every mask: code 1 for a key that counts."""


@dataclass(frozen=True)
class Sizes:
    """What an encoder is: a sequence of ``tokens``, or a map; ``classes`` of its mean, or of a
    class token before them, the only one that the last block makes. A ``mask`` is a constant, or an
    input of ``lengths``."""

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
    mask: str | None = None
    class_token: bool = False
    gated: bool = False
    rotated: bool = False

    @property
    def sequence(self) -> tuple[int, int]:
        """Rows and columns of tokens in all."""
        return self.tokens[0] + self.class_token, self.tokens[1]

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


def zero_below(encoder: Encoder) -> Encoder:
    """Return an encoder that gives code 0, which stands for 0, at -32768."""
    starts = np.concatenate([[-32767], encoder.thresholds]).astype(np.int16)
    return Encoder(starts, np.concatenate([[0], encoder.codes]).astype(np.uint8))


def allowed_pairs(kind: str, queries: int, rng: np.random.Generator) -> np.ndarray:
    """Return which pairs of queries and keys count, bool: a ``causal`` mask, a ``window``, any
    ``pairs`` with those of a token and itself, or one row for ``lengths``."""
    i, j = np.indices((queries, queries))
    causal = j <= i
    if kind == "lengths":
        return np.ones((1, queries), bool)
    if kind == "pairs":
        return (rng.random((queries, queries)) < 0.3) | (i == j)
    return causal if kind == "causal" else causal & (j > i - rng.integers(1, queries + 1))


class Transformer:
    """The network so far, and what one input makes of it, from which scales are chosen."""

    def __init__(self, sizes: Sizes, books: Books, rng: np.random.Generator) -> None:
        self.sizes, self.books, self.rng = sizes, books, rng
        self.source = coded("input", (*sizes.tokens, sizes.features), books.activation)
        self.values = {"input": self.codes((1, *self.source.shape), books.activation)}
        self.tensors: dict[str, Tensor] = {"input": self.source}
        self.layers: list[Layer] = []
        self.inputs = [self.source]
        self.constants: list[Constant] = []

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
        skip: Port | None = None,
        post: Post | None = None,
        largest: float = 20000,
    ) -> str:
        """Append a layer, wide without a codebook; return the name of its tensor."""
        shape: Shape = op.shape(*(p.shape(self.tensors[p.tensor].shape) for p in ports))
        output = wide(name, shape) if book is None else coded(name, shape, book)
        if op.copies:
            post = None
        elif post is None:
            residual = None if skip is None else Residual(skip, 2, 1)
            encoder = None if book is None else self.encoder(book)
            post = Post(self.requantize(op, ports, largest), residual, encoder)
        layer = Layer(f"{name} layer", op, tuple(ports), output, post)
        self.layers.append(layer)
        self.tensors[name] = output
        reads = [(self.tensors[p.tensor], p.select(self.values[p.tensor])) for p in layer.reads]
        self.values[name] = layer.run(reads, 2**31 - 1)
        return name

    def hold(self, tensor: Tensor, codes: np.ndarray) -> None:
        """Add a constant of some codes (h, w, c)."""
        self.constants.append(Constant(tensor, codes))
        self.tensors[tensor.name], self.values[tensor.name] = tensor, codes[None]

    def linear(
        self, name: str, source: Port, n: int, book: Codebook | None, skip: Port | None = None
    ) -> str:
        """Append a linear layer over channels."""
        channels = source.shape(self.tensors[source.tensor].shape)[2]
        codes = self.codes((n, channels, 1, 1), self.books.weight)
        op = Conv(codes, self.books.weight, np.ones(n))
        largest = 6000 if book is None else 20000
        return self.add(name, op, [source], book, skip, largest=largest)

    def norm(self, name: str, source: Port, *book: Codebook | None) -> str:
        """Append a normalization of a wide tensor, to activations unless a book is given."""
        width = self.tensors[source.tensor].shape[2]
        op = Normalize(width, self.sizes.centered, int(self.rng.integers(1, 1 << 20)))
        (target,) = book or (self.books.activation,)
        largest = 6000 if target is None else 20000
        return self.add(name, op, [source], target, largest=largest)

    def add_mask(self, kind: str) -> None:
        """Add a mask: a constant of all pairs, or an input of the keys of an image."""
        height, width = self.sizes.sequence
        allowed = allowed_pairs(kind, height * width, self.rng).astype(np.uint8)
        one = kind == "lengths"
        shape = (1 if one else height, 1 if one else width, height * width)
        tensor = coded("mask", shape, MASK)
        if kind == "lengths":
            self.inputs.append(tensor)
            self.tensors["mask"], self.values["mask"] = tensor, allowed.reshape(1, *tensor.shape)
        else:
            self.hold(tensor, allowed.reshape(tensor.shape))

    def mask_of(self, query: Port) -> Port | None:
        """Return what masks the scores of a query, if anything does."""
        rows = query.shape(self.tensors[query.tensor].shape)[0]
        constant = self.sizes.mask != "lengths"
        return Port("mask", rows=rows if constant else None) if self.sizes.mask else None

    def head(self, name: str, query: Port, key: Port, value: Port) -> str:
        """Append one head: scores, numerators, means of values."""
        height, width = self.sizes.sequence
        keys, book = height * width, self.books.numerator
        size = query.shape(self.tensors[query.tensor].shape)[2]
        op, mask, post = Matmul(size, True), self.mask_of(query), None
        encoder = exponential(book, 2.0**-12)
        if mask is not None:
            tail = self.requantize(op, [query, key], 16000)
            post, encoder = Post(tail, Residual(mask, 65535, 1), None), zero_below(encoder)
        scores = self.add(f"{name} scores", op, [query, key], None, post=post, largest=16000)
        one = np.ones(keys, np.int32)
        post = Post(Requantize(2 * one, 0 * one.astype(np.int64), one), None, encoder)
        weights = self.add(f"{name} weights", SubtractMax(), [Port(scores)], book, post=post)
        means = WeightedMean(keys)
        return self.add(f"{name} mean", means, [Port(weights), value], self.books.activation)

    def rotated(self, name: str, source: Port, book: Codebook) -> Port:
        """Append a sum of products of queries or keys and tables, if that is asked for; the second
        one takes the channels of each head in another order."""
        if not self.sizes.rotated:
            return source
        shape = source.shape(self.tensors[source.tensor].shape)
        every, ports = np.arange(shape[2]), list[Port]()
        other = self.rng.permutation(every.reshape(-1, self.sizes.head), axis=1)
        for part in ("cosines", "sines"):
            table = coded(f"{name} {part}", shape, self.books.activation)
            self.hold(table, self.codes(shape, self.books.activation))
            ports += [source, Port(table.name)]
        op = SumOfProducts((tuple(every.tolist()), tuple(other.ravel().tolist())))
        return Port(self.add(name, op, ports, book))

    def attention(self, name: str, source: str, stream: Port) -> str:
        """Append attention of all heads, added to the rows of the stream that are read."""
        sizes, matrix, whole = self.sizes, self.books.matrix, Port(source)
        rows = Port(source, first_row=stream.first_row, rows=stream.rows)
        query = Port(self.linear(f"{name} query", rows, sizes.width, self.books.activation))
        query = self.rotated(f"{name} turned query", query, self.books.activation)
        if sizes.heads == 1:
            key, value = (Port(self.linear(f"{name} {x}", whole, sizes.head, matrix)) for x in "kv")
            key = self.rotated(f"{name} turned key", key, matrix)
            parts = [self.head(f"{name} head", query, key, value)]
            return self.linear(f"{name} sum", Port(parts[0]), sizes.width, None, stream)
        pair = self.linear(f"{name} pair", whole, 2 * sizes.width, matrix)
        keys = self.rotated(f"{name} turned keys", Port(pair, 0, sizes.width), matrix)
        parts = []
        for head in range(sizes.heads):
            first = head * sizes.head
            ports = (
                Port(query.tensor, first, sizes.head),
                Port(keys.tensor, first, sizes.head),
                Port(pair, sizes.width + first, sizes.head),
            )
            parts.append(self.head(f"{name} head {head}", *ports))
        ports = [Port(part) for part in parts]
        heads = self.add(f"{name} heads", Concat(), ports, self.books.activation)
        return self.linear(f"{name} sum", Port(heads), sizes.width, None, stream)

    def block(self, name: str, stream: str, alone: bool) -> str:
        """Append a block, the class token ``alone`` from the queries on; return the stream behind
        it, which is normalized itself if norms come last."""
        sizes, book = self.sizes, self.books.activation
        first = self.norm(f"{name} first norm", Port(stream))
        rows = Port(stream, rows=1) if alone else Port(stream)
        stream = self.attention(name, first, rows)
        second = Port(self.norm(f"{name} second norm", Port(stream)))
        if not sizes.norm_first:
            stream = self.norm(f"{name} second stream", Port(stream), None)
        hidden = self.linear(f"{name} hidden", second, sizes.hidden, book)
        if sizes.gated:
            gate = self.linear(f"{name} gate", second, sizes.hidden, book)
            hidden = self.add(f"{name} gated", Product(), [Port(gate), Port(hidden)], book)
        stream = self.linear(f"{name} out", Port(hidden), sizes.width, None, Port(stream))
        return stream if sizes.norm_first else self.norm(f"{name} stream", Port(stream), None)

    def tokens(self) -> str:
        """Return the tokens: the input, a class token before it if there is one."""
        sizes, (rows, columns, features) = self.sizes, self.source.shape
        if not sizes.class_token:
            return "input"
        token = coded("class token", (1, columns, features), self.books.activation)
        self.hold(token, self.codes(token.shape, self.books.activation))
        pieces = (
            Piece(0, token.shape, (0, 0, 0), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
            Piece(1, self.source.shape, (1, 0, 0), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
        )
        op, ports = Mosaic((rows + 1, columns, features), pieces), [Port(token.name), Port("input")]
        return self.add("tokens", op, ports, self.books.activation)

    def build(self) -> IntegerNetwork:
        """Return the network: embedding, blocks, norm, mean of tokens or a class token, classes."""
        sizes, book = self.sizes, self.books.activation
        if sizes.mask is not None:
            self.add_mask(sizes.mask)
        stream = self.linear("stream", Port(self.tokens()), sizes.width, None)
        for index in range(sizes.blocks):
            alone = sizes.class_token and index == sizes.blocks - 1
            stream = self.block(f"block {index}", stream, alone)
        last = self.norm("norm", Port(stream))
        if not sizes.class_token:
            last = self.add("mean", AveragePool(sizes.tokens, (1, 1)), [Port(last)], book)
        self.linear("classes", Port(last), sizes.classes, None)
        height, width, channels = self.tensors["classes"].shape
        return self.network(Output("classes", (channels, height, width)[: 3 if width > 1 else 1]))

    def network(self, output: Output) -> IntegerNetwork:
        """Return what there is so far as a network."""
        inputs = tuple(map(given, self.inputs))
        return IntegerNetwork(
            inputs, tuple(self.layers), (output,), constants=tuple(self.constants)
        )


def one_block() -> IntegerNetwork:
    """Return an encoder of one block and one head, with all that a file can hold of one."""
    sizes = Sizes((3, 1), 2, 1, 2, 2, 1, 2, shifts=True, signed=True, rotated=True)
    return Transformer(sizes, Books(), np.random.default_rng(0)).build()
