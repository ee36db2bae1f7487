"""Masked attention of random integers: the contract twice, programs, and the RTL."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nupes
from nupes.compiler.program import compile
from nupes.model.arithmetic import requantize
from nupes.model.codebook import make_codebook
from nupes.model.errors import InputError
from nupes.model.layer import Post, Requantize, Residual
from nupes.model.network import Constant, Input, InputEncoder, IntegerNetwork, Output
from nupes.model.operators import Matmul, SubtractMax, WeightedMean
from nupes.model.tensor import Port
from nupes.verify import check_layers, check_outputs
from tests.assemble import coded
from tests.assemble import given as given_by
from tests.compiler.test_program import execute
from tests.images import all_images_of
from tests.model.reference import network as reference
from tests.transformers import MASK, Books, Sizes, Transformer, exponential, zero_below

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True)


def masked(tokens: int, allowed: np.ndarray, seed: int, scale: float = 2.0**-15) -> IntegerNetwork:
    """Return attention of one head in which pairs count that are ``allowed`` (tokens, tokens), as a
    constant says, or (1, tokens), as an input says."""
    books = Books(numerator=make_codebook("power", 4, False, 255, 0.4))
    made = Transformer(Sizes((tokens, 1), 3), books, np.random.default_rng(seed))
    source = Port("input")
    query = made.linear("query", source, 4, books.activation)
    key, value = (made.linear(name, source, 4, books.matrix) for name in ("key", "value"))
    mask, codes = coded("mask", (len(allowed), 1, tokens), MASK), allowed.astype(np.uint8)
    made.tensors["mask"], made.values["mask"] = mask, codes[None, :, None]
    op, ports = Matmul(4, True), [Port(query), Port(key)]
    post = Post(made.requantize(op, ports, 16000), Residual(Port("mask"), 65535, 1), None)
    scores = made.add("scores", op, ports, None, post=post)
    one = np.ones(tokens, np.int32)
    unit = Requantize(2 * one, 0 * one.astype(np.int64), one)
    post = Post(unit, None, zero_below(exponential(books.numerator, scale)))
    weights = made.add("weights", SubtractMax(), [Port(scores)], books.numerator, post=post)
    made.add("mean", WeightedMean(tokens), [Port(weights), Port(value)], None)
    outputs, layers = (Output("mean", (4, tokens, 1)),), tuple(made.layers)
    if len(allowed) == tokens > 1:
        held = (Constant(mask, codes[:, None]),)
        return IntegerNetwork((given_by(made.source),), layers, outputs, constants=held)
    inputs = given_by(made.source), Input(mask, InputEncoder(np.full((tokens, 1), 0.5)))
    return IntegerNetwork(inputs, layers, outputs)


def lengths(tokens: int) -> np.ndarray:
    """Return the masks (tokens, tokens) of all lengths from 1 on."""
    return np.tri(tokens, dtype=bool)


SEQUENCES = st.tuples(st.integers(1, 9), st.integers(0, 2**32 - 1))


@settings(max_examples=40)
@given(SEQUENCES, st.booleans())
def test_masked_pairs_are_structural_zeros(sequence: tuple[int, int], constant: bool) -> None:
    tokens, seed = sequence
    rng = np.random.default_rng(seed)
    allowed = rng.integers(0, 2, (tokens if constant else 1, tokens)).astype(bool)
    allowed[:, rng.integers(tokens)] = True
    network = masked(tokens, allowed, seed)
    codes = network.begin(*network.encode_all(*all_images_of(network, 1)))
    if "mask" in network.stored:
        codes["mask"] = allowed.astype(np.uint8)[None, :, None]
    stored = run(network, codes)
    value = network.tensors["value"].levels(stored["value"])[0, :, 0].astype(np.int64)
    numerators = network.tensors["weights"].levels(stored["weights"])[0, :, 0]
    scores = stored["scores"][0, :, 0].astype(np.int64)
    table = np.broadcast_to(allowed, (tokens, tokens))
    assert (numerators[~table] == 0).all()
    assert (scores[~table] == -32768).all()
    # Without the masked keys every row is what it was.
    for row, (some, found) in enumerate(zip(table, stored["mean"][0, :, 0], strict=True)):
        left = numerators[row, some].reshape(1, 1, 1, -1)
        kept = value[some].reshape(1, -1, 1, 4)
        mean = WeightedMean(int(some.sum())).accumulate(left, kept)
        tail = network.layers[-1].post
        assert tail is not None
        want = requantize(mean, *vars(tail.requantize).values())
        assert found.tolist() == want.reshape(-1).tolist()


def run(network: IntegerNetwork, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return all tensors of one image."""
    for layer in network.layers:
        stored[layer.output.name] = layer.run(
            network.operands(layer, stored), network.bounds[layer.name]
        )
    return stored


@settings(max_examples=20)
@given(SEQUENCES, st.booleans())
def test_the_second_implementation_and_programs_agree(
    sequence: tuple[int, int], constant: bool
) -> None:
    tokens, seed = sequence
    rng = np.random.default_rng(seed)
    allowed = rng.integers(0, 2, (tokens if constant else 1, tokens)).astype(bool)
    allowed[:, rng.integers(tokens)] = True
    network = masked(tokens, allowed, seed)
    codes = network.encode_all(*all_images_of(network, 2, seed % 1000))
    want = network.run(*codes)
    for index in range(2):
        one = [part[index] for part in codes]
        assert reference.run(network, *one) == want[index].ravel().tolist()
    program = compile(network, ARRAY)
    np.testing.assert_array_equal(execute(program, *(part[0] for part in codes)), want[0])


def test_a_constant_that_leaves_a_query_no_key_is_refused() -> None:
    allowed = ~np.eye(3, k=1, dtype=bool)
    masked(3, allowed, 0)
    allowed[1] = False
    with pytest.raises(InputError) as error:
        masked(3, allowed, 0)
    assert str(error.value) == "constant 'mask': a mask must leave every query a key, not none"


def test_a_length_of_zero_is_refused_before_the_run() -> None:
    network = masked(4, np.ones((1, 4), bool), 0)
    x, mask = all_images_of(network, 5)
    codes = network.encode_all(x, mask)
    network.run(*codes)
    mask[3], codes[1][3] = 0, 0
    program = compile(network, ARRAY)
    runs: list[Callable[[], object]] = [
        lambda: network(x, mask),
        lambda: network.run(*codes),
        lambda: network.advance({}, *codes),
        lambda: list(network.trace(*codes)),
        lambda: nupes.Simulator(ARRAY).run(program, (x, mask)),
    ]
    for run_it in runs:
        with pytest.raises(InputError) as error:
            run_it()
        assert str(error.value) == (
            "input 'mask': a mask must leave every query a key, not none in sample 3"
        )


def test_what_is_no_mask_may_be_anything() -> None:
    """Only a code that makes -32768 whatever the sum is masks a key."""
    network = masked(4, np.ones((1, 4), bool), 0)
    (mask,) = network.input_masks
    assert mask.hides.tolist() == [[True] * 4, [False] * 4]
    scores = mask.scores
    assert scores.post is not None
    soft = replace(scores.post, residual=Residual(Port("mask"), 500, 1))
    layers = tuple(replace(x, post=soft) if x is scores else x for x in network.layers)
    other = replace(network, layers=layers)
    assert other.input_masks == ()
    x, mask = all_images_of(other, 2)
    other(x, 0 * mask)


@pytest.mark.parametrize("constant", [False, True])
def test_masks_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], constant: bool
) -> None:
    tokens = 6
    every = lengths(tokens)
    network = masked(tokens, every if constant else every[-1:], 3)
    program = nupes.compile(network, ARRAY)
    (x, *_), hardware = all_images_of(network, tokens), running(ARRAY)
    images = (x,) if constant else (x, every.astype(np.float32))  # an image of each length
    check = check_outputs(hardware, program, images)
    assert check.exact
    assert check_layers(hardware, program, check, images).exact


@pytest.mark.parametrize("tokens", [16, 18, 24])
def test_what_a_mask_leaves_out_holds_garbage(
    running: Callable[..., nupes.Simulator], tokens: int
) -> None:
    """In one block of queries, and in two: memory has the scores of the run before."""
    network, hardware = masked(tokens, lengths(tokens), 3), running(ARRAY)
    program, every = nupes.compile(network, ARRAY), np.ones((tokens, tokens), bool)
    whole = nupes.compile(masked(tokens, every, 3), ARRAY)
    assert program.cycles < whole.cycles
    (x,) = all_images_of(network, 2)
    for index in range(2):
        hardware.run(whole, x[:1])
        assert check_outputs(hardware, program, x[index : index + 1]).exact
