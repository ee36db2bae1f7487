"""Strategies for networks of attention: whole encoders, and its parts; they shrink."""

import numpy as np
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.network import IntegerNetwork, Output
from nupes.model.operators import Matmul, Normalize, SubtractMax
from nupes.model.tensor import Port
from tests.codebooks import activation_codebooks, weight_codebooks
from tests.transformers import Books, Sizes, Transformer

__all__ = ["biased_scores", "coded_tokens", "encoders_for", "transformers"]


@st.composite
def biased_scores(draw: st.DrawFn) -> IntegerNetwork:
    """Draw a network of products of stored tensors, one behind the other, each added to the one
    before: additive biases of scores, and rows of a matrix that are no tokens of a mean."""
    books = Books(draw(activation_codebooks()), draw(matrix_codebooks()))
    size, tokens = draw(st.integers(1, 9)), (draw(st.integers(1, 9)), 1)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made = Transformer(Sizes(tokens, 3), books, rng)
    query = made.linear("query", Port("input"), size, books.activation)
    keys = [made.linear(f"key {i}", Port("input"), size, books.matrix) for i in range(3)]
    scores: Port | None = None
    for index, key in enumerate(keys):
        ports = [Port(query), Port(key)]
        op = Matmul(size, True)
        scores = Port(made.add(f"scores {index}", op, ports, None, scores, largest=9000))
    weights = made.add("weights", SubtractMax(), [scores or Port(query)], books.activation)
    ports = [Port(weights), Port(keys[0])]
    made.add("sums", Matmul(tokens[0], False), ports, None)
    return made.network(Output("sums", (size, *tokens)))


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
    made.linear("classes", Port(source), 2, None)
    return made.network(Output("classes", (2, *sizes.tokens)))


SMALL = st.integers(1, 3)


@st.composite
def sizes(draw: st.DrawFn, gates: bool, lengths: bool) -> Sizes:
    """Draw what an encoder is, its heads within words or not."""
    tokens = draw(st.tuples(st.integers(1, 20), st.just(1)) | st.tuples(SMALL, SMALL))
    features, heads, head, hidden, blocks, classes = (
        draw(st.integers(1, most)) for most in (6, 3, 9, 9, 2, 4)
    )
    norm_first, centered, shifts, signed = (draw(st.booleans()) for _ in range(4))
    kinds = [None, "causal", "window", "pairs", *(["lengths"] if lengths else [])]
    return Sizes(
        tokens, features, heads, head, hidden, blocks, classes, norm_first, centered, shifts,
        signed, draw(st.sampled_from(kinds)), tokens[1] == 1 and draw(st.booleans()),
        gates and draw(st.booleans()), gates and draw(st.booleans()),
    )  # fmt: skip


@st.composite
def matrix_codebooks(draw: st.DrawFn) -> Codebook:
    """Draw a signed codebook of 2 to 8 bits whose levels a stationary operand has."""
    bits, power = draw(st.integers(2, 8)), draw(st.sampled_from([None, 0.5, 0.7]))
    if power is None:
        return make_codebook("uniform", bits, True)
    return make_codebook("power", bits, True, 127, power)


@st.composite
def transformers(draw: st.DrawFn, gates: bool = False, lengths: bool = False) -> IntegerNetwork:
    """Draw an encoder of random integers: tokens, heads, norms first or last, constant masks, class
    tokens, any codebooks. There are ``gates`` and rotations, and masks that are inputs,
    ``lengths``, only if asked for."""
    books = Books(
        draw(activation_codebooks()),
        draw(matrix_codebooks()),
        draw(weight_codebooks()),
        make_codebook("power", draw(st.integers(2, 8)), False, 255, draw(st.floats(0.3, 1))),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Transformer(draw(sizes(gates, lengths)), books, rng).build()


def encoders_for(config: ArrayConfig) -> st.SearchStrategy[IntegerNetwork]:
    """Draw an encoder that an array runs."""
    return transformers(gates=config.products, lengths=True)
