"""What the host gives: ids and their positions, and arrays that inputs share."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import make_codebook
from nupes.model.errors import InputError
from nupes.model.layer import Layer
from nupes.model.network import Input, InputEncoder, IntegerNetwork
from nupes.model.operators import Concat
from nupes.model.positions import Positions
from nupes.model.tensor import Coded, Port, Tensor
from nupes.model.validation import validate_input, validate_sources
from tests.model.tiny import tiny_network

TOKENS = 4

BOOK = make_codebook("uniform", 4, False)


def table(name: str, rows: int = 8, **changes: object) -> Input:
    """Return an input of ids (b, 4) in a table."""
    tensor = Tensor(name, (TOKENS, 1, 2), Coded(BOOK, 1.0))
    lookup = np.arange(rows * 2, dtype=np.uint8).reshape(rows, 2) % 16
    encoder = InputEncoder(np.tile(np.arange(1.0, 16), (2, 1)))
    return replace(Input(tensor, encoder, lookup), **changes)


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4),
    st.builds(Positions, st.integers(-3, 3), st.integers(0, 9), st.integers(0, 9)),
)
def test_positions_count_what_is_no_padding(ids: list[list[int]], positions: Positions) -> None:
    expected = []
    for row in ids:
        places = []
        for number, one in enumerate(row):
            before = sum(other != positions.padding for other in row[:number])
            places.append(
                positions.filler if one == positions.padding else positions.first + before
            )
        expected.append(places)
    found = positions(np.array(ids))
    assert found.tolist() == expected
    assert found.max() <= positions.largest(5)


def test_ids_are_encoded_by_their_positions() -> None:
    item = table("places", positions=Positions(1, 2, 1))
    assert item.lookup is not None
    found = item.encode(np.array([[7, 1, 900, 1]]))
    np.testing.assert_array_equal(found[0, :, 0], item.lookup[[2, 1, 3, 1]])


def test_ids_of_one_pixel_have_a_code_each() -> None:
    tensor = Tensor("shown", (1, 1, TOKENS), Coded(BOOK, 1.0))
    encoder = InputEncoder(np.zeros((TOKENS, len(BOOK) - 1)))
    item = Input(tensor, encoder, np.array([[0], [1], [1]], np.uint8))
    assert (item.of_one_pixel, item.tokens) == (True, TOKENS)
    ids = np.arange(TOKENS)[None] % 3
    assert item.encode(ids)[0, 0, 0].tolist() == [min(int(one), 1) for one in ids[0]]
    validate_input(item)
    validate_sources((table("words"), replace(item, source="words")))
    two = replace(item, lookup=np.zeros((3, 2), np.uint8))
    with pytest.raises(InputError, match="lookup must have a row of 4 codes for each id"):
        validate_input(two)


def network_of(*inputs: Input) -> IntegerNetwork:
    """Return the tiny network with other inputs, which are concatenated beside it."""
    tiny = tiny_network()
    shape = (TOKENS, 1, 2 * len(inputs))
    joined = Tensor("joined", shape, Coded(BOOK, 1.0))
    ports = tuple(Port(item.tensor.name) for item in inputs)
    layer = Layer("joined", Concat(), ports, joined)
    return replace(tiny, inputs=(*tiny.inputs, *inputs), layers=(layer, *tiny.layers))


def test_inputs_may_share_an_array() -> None:
    network = network_of(
        table("words"), table("places", source="words", positions=Positions(1, 2, 1))
    )
    first, ids = network.inputs[0], np.array([[3, 1, 2, 4]])
    height, width, channels = first.tensor.shape
    image = np.zeros((1, channels, height, width))
    _, words, places = network.encode_all(image, ids)
    np.testing.assert_array_equal(words, network.inputs[1].encode(ids))
    np.testing.assert_array_equal(places, network.inputs[2].encode(ids))
    with pytest.raises(InputError, match="network must get 2 inputs, not 3"):
        network.encode_all(image, ids, ids)


REFUSED = {
    "input 'b': source must be an input before it with an array of its own, not 'c'": (
        table("a"),
        table("b", source="c"),
    ),
    "input 'b': source must be an input before it with an array of its own, not 'b'": (
        table("b", source="b"),
    ),
    "input 'b': what shares an array must have as many tokens, not 4 and 8": (
        table("a", lookup=None),
        table("b", source="a"),
    ),
    "input 'a': positions must be rows of a table, not of none": (
        table("a", lookup=None, positions=Positions(1, 2, 1)),
    ),
    "input 'a': positions must be integers, not (1, 2.0, 1)": (
        table("a", positions=Positions(1, 2.0, 1)),  # type: ignore[arg-type]
    ),
    "input 'a': positions must lie in 0..7, the rows of their table, not 1..8": (
        table("a", positions=Positions(1, 5, 1)),
    ),
    "input 'a': positions must lie in 0..7, the rows of their table, not -1..5": (
        table("a", positions=Positions(1, 2, -1)),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_broken_inputs_are_refused(message: str) -> None:
    with pytest.raises(InputError) as error:
        network_of(*REFUSED[message])
    assert str(error.value) == message
