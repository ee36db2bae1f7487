"""Activation memory: nothing overlaps while it lives, and a refusal says what would fit."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.memory import Request, allocate, describe
from nupes.inputs import parse_array
from nupes.model.errors import CapacityError

LARGE = ArrayConfig(act_depth=1 << 20)


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    """Draw tensors with overlapping lives."""
    items = []
    for index in range(draw(st.integers(1, 12))):
        born = draw(st.integers(-1, 8))
        dies = draw(st.integers(born, 9))
        items.append(Request(f"t{index}", draw(st.integers(1, 50)), born, dies))
    return items


def least(items: list[Request]) -> int:
    """Return the words that live at the same time at most: no allocation needs fewer."""
    return max(sum(i.words for i in items if i.born <= now <= i.dies) for now in range(-1, 10))


@given(requests())
def test_live_tensors_never_overlap(items: list[Request]) -> None:
    bases = allocate(items, LARGE)
    assert set(bases) == {item.name for item in items}
    assert min(bases.values()) == 0
    for one in items:
        for other in items:
            together = one.born <= other.dies and other.born <= one.dies
            if one is not other and together:
                first, second = bases[one.name], bases[other.name]
                assert first + one.words <= second or second + other.words <= first


@given(requests())
def test_the_suggested_depth_fits_and_one_less_does_not(items: list[Request]) -> None:
    bases = allocate(items, LARGE)
    needed = max(bases[item.name] + item.words for item in items)
    assert needed >= least(items)
    if needed > 4:
        assert allocate(items, ArrayConfig(act_depth=needed)) == bases
    if needed > 5:
        with pytest.raises(CapacityError) as error:
            allocate(items, ArrayConfig(act_depth=needed - 1))
        assert re.search(rf"act_depth={needed}\); or let ", str(error.value))


def test_dead_tensors_leave_their_place() -> None:
    chain = [Request(f"t{i}", 10, i, i + 1) for i in range(6)]
    bases = allocate(chain, ArrayConfig(act_depth=20))
    assert sorted(bases.values()) == [0, 0, 0, 10, 10, 10]


def test_the_refusal_names_tensor_words_and_configuration() -> None:
    items = [Request("skip", 30, -1, 2), Request("map", 40, 0, 1)]
    with pytest.raises(CapacityError) as error:
        allocate(items, ArrayConfig(rows=4, cols=8, code_bits=2, act_depth=64))
    assert str(error.value) == (
        "activation memory must hold 70 words, but act_depth is 64: tensor 'skip' does not fit by "
        "6 words; the smallest that fits is --array 4x8,code_bits=2,act_depth=70 or, in Python, "
        "ArrayConfig(rows=4, cols=8, code_bits=2, act_depth=70); or let spills=True keep what does "
        "not fit in the program's memory"
    )


@pytest.mark.parametrize(
    "config",
    [
        ArrayConfig(),
        ArrayConfig(4, 8, mac="pair", act_depth=70, weight_operand_bits=5),
        ArrayConfig(mac="product", weight_magnitudes=(1, 4), activation_magnitudes=(3,)),
    ],
)
def test_a_configuration_is_described_as_both_take_it(config: ArrayConfig) -> None:
    option, call = describe(config).split(" or, in Python, ")
    assert parse_array(option.removeprefix("--array ")) == config
    assert eval(call) == config


def test_nothing_larger_than_the_largest_is_suggested() -> None:
    with pytest.raises(CapacityError, match="no act_depth up to 1048576 is enough"):
        allocate([Request("map", (1 << 20) + 1, -1, 0)], ArrayConfig())
