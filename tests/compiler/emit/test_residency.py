"""Residency: search trees, lane parameters, and slots that are never overwritten in use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.compiler.emit.residency import Residency, Slots, lane_parameters, search_tree
from nupes.compiler.lowering.passes import Second, Target
from nupes.compiler.place.layout import TensorLayout
from nupes.model.arithmetic import encode
from nupes.model.codebook import Codebook, make_codebook, table_codebook
from nupes.model.errors import CapacityError
from nupes.model.layer import Encoder, Requantize
from nupes.model.planes import split_planes
from tests.codebooks import activation_codebooks

INT16 = st.integers(-(2**15), 2**15 - 1)


@given(activation_codebooks(), st.integers(2, 8), st.data())
def test_the_search_tree_encodes(book: Codebook, code_bits: int, data: st.DataObject) -> None:
    thresholds = sorted(data.draw(st.lists(INT16, max_size=2 ** (book.bits + 1) - 1)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    codes = rng.integers(0, len(book), len(thresholds) + 1).astype(np.uint8)
    encoder = Encoder(np.array(thresholds, np.int16), codes)
    planes = split_planes(book, code_bits)
    least = max(1, len(thresholds).bit_length())
    depth = data.draw(st.integers(least, 9))
    tree, table = search_tree(encoder, planes, depth)
    assert len(tree) == 2**depth - 1
    assert len(table) == 2**depth
    for y in [*thresholds, *data.draw(st.lists(INT16)), -32768, 32767]:
        node = 1
        for _ in range(depth):
            node = 2 * node + (y >= tree[node - 1])
        want = encode(np.array(y), encoder.thresholds, codes)
        assert table[node - 2**depth] == planes.joined[want]


def parameters(channels: int) -> Requantize:
    """Return parameters that are all different."""
    index = np.arange(channels)
    return Requantize(1000 + index, -(index + 1).astype(np.int64) << 40, 1 + index % 31)


@pytest.mark.parametrize("bits", [2, 4])
def test_lane_parameters(bits: int) -> None:
    tail = parameters(6)
    planes = split_planes(make_codebook("uniform", 4, True), bits)
    second = Second(TensorLayout.whole(0, 1, 1, 1, planes.count), planes, 77, 9)
    scale, shift = lane_parameters(tail, 1, 4, second, 5)
    assert len(scale) == len(shift) == 2
    for lane, channel in enumerate((4, 5)):
        assert scale[lane] & 0xFFFF == tail.mult[channel]
        assert scale[lane] >> 16 == int(tail.bias[channel]) % 2**48
        word = shift[lane]
        assert word & 31 == tail.shift[channel]
        assert word >> 5 & 31 == 9
        assert word >> 10 & 15 == 5
        assert word >> 14 & 1 == int(bits == 2)
        assert word >> 16 & 0xFFFF == 77
        assert word >> 32 == (-7 % 512 if bits == 2 else 0)


def test_pairs_of_a_layer_have_parameters_of_their_own() -> None:
    residency, tail, slots = Residency(ArrayConfig(4, 4)), parameters(4), []
    books = [
        make_codebook("uniform", 4, True),
        make_codebook("power", 4, True, 127, 0.5),
        make_codebook("uniform", 8, True),
        make_codebook("uniform", 8, False),
    ]
    for book in (*books, *books):
        planes = split_planes(book, 4)
        second = Second(TensorLayout.whole(0, 1, 1, 1, planes.count), planes)
        slots.append(residency.parameters("layer", tail, 0, second))
    assert slots == [0, 1, 2, 3] * 2


def test_without_a_skip_tensor_the_residual_mult_is_0() -> None:
    _, shift = lane_parameters(parameters(4), 0, 4, None, 0)
    assert all(word >> 16 & 0xFFFF == 0 for word in shift)


def test_the_least_recently_used_slot_is_replaced() -> None:
    slots = Slots(2)
    (one, _), (two, _) = slots.claim("one"), slots.claim("two")
    assert {one, two} == {0, 1}
    assert slots.claim("one") == (one, True)
    assert slots.claim("three") == (two, False)
    assert slots.claim("one") == (one, True)
    assert slots.claim("two") == (two, False)


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=2), max_size=40))
def test_a_load_waits_for_the_last_user_of_what_it_overwrites(tiles: list[list[int]]) -> None:
    residency = Residency(ArrayConfig(4, 4, code_bits=8))
    assert len(residency.slots[Destination.WEIGHT_TABLE].free) == 4
    held: dict[int, tuple[int, int]] = {}  # slot: (content, last tile that used it)
    for tile, contents in enumerate(tiles):
        asked = {}
        for content in contents:
            table = np.full(256, content, np.int16)
            asked[residency.table(Destination.WEIGHT_TABLE, table)] = content
        for (memory, address, entries), user, _ in residency.take(tile):
            slot = address >> 8
            assert memory == Destination.WEIGHT_TABLE
            assert user == held.get(slot, (0, -1))[1]
            held[slot] = (entries[0], -1)
        for slot, content in asked.items():
            assert held[slot][0] == content
            held[slot] = (content, tile)


def test_an_encoder_wider_than_the_hardware_is_refused() -> None:
    book = table_codebook(list(range(32)), 5)
    encoder = Encoder(np.zeros(32, np.int16), np.zeros(33, np.uint8))
    target = Target(TensorLayout.whole(0, 1, 1, 1, 2), split_planes(book, 4), encoder)
    with pytest.raises(CapacityError) as error:
        Residency(ArrayConfig(tensor_bits=4)).encoder("wide", target)
    assert str(error.value) == (
        "layer 'wide': encoder needs 6 comparisons, but tensor_bits 4 gives 5; "
        "use ArrayConfig(tensor_bits=5)"
    )
    assert Residency(ArrayConfig(tensor_bits=5)).encoder("wide", target)[1] == 6
