"""Refusals of codebooks that an array's cells cannot hold, and the cells that can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.cells import CELLS
from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.codebook import Codebook, make_codebook, table_codebook
from nupes.model.errors import InputError, UnsupportedError
from nupes.model.operators import AveragePool, Conv
from tests.codebooks import activation_codebooks, weight_codebooks
from tests.compiler.emit.test_schedules import UNSIGNED, one_layer

POWER = make_codebook("power", 4, True, 127, 0.5)


def conv(book: Codebook) -> Conv:
    """Return a convolution that uses every weight of a codebook."""
    return Conv(np.arange(len(book), dtype=np.uint8)[:, None, None, None], book, np.ones(len(book)))


@pytest.mark.parametrize(
    ("mac", "rule"),
    [
        (
            "uniform",
            "integers from -7 to 7",
        ),
        (
            "square",
            "squares +-k*k with k up to 7 (exponent 0.5, lmax 49) or integers from -7 to 7",
        ),
    ],
)
def test_weights_that_a_cell_cannot_hold(mac: str, rule: str) -> None:
    network = one_layer(conv(POWER), (1, 1, 1))
    with pytest.raises(UnsupportedError) as error:
        compile(network, ArrayConfig(4, 4, mac=mac))
    assert str(error.value) == (
        f"layer 'only': levels of its weights must be {rule} for mac={mac!r}, "
        f"not {POWER.levels.tolist()}; mac that can: decode, pair"
    )
    compile(network, ArrayConfig(4, 4, mac="pair"))


def test_an_input_that_a_cell_cannot_hold() -> None:
    book = make_codebook("power", 4, False, 200, 0.5)
    network = one_layer(conv(make_codebook("uniform", 4, True)), (1, 1, 1), book)
    with pytest.raises(UnsupportedError) as error:
        compile(network, ArrayConfig(4, 4, mac="square"))
    assert str(error.value) == (
        "layer 'only': levels of its input 'input' must be squares +-k*k with k up to 15 (exponent "
        "0.5, lmax 225) or integers from -15 to 15 for mac='square', not "
        f"{book.levels.tolist()}; mac that can: decode, pair"
    )


def test_magnitudes_beyond_a_pair_cell() -> None:
    book = make_codebook("power-midrise", 4, True, 127, 0.5)
    network = one_layer(conv(book), (1, 1, 1))
    with pytest.raises(UnsupportedError) as error:
        compile(network, ArrayConfig(4, 4, mac="pair"))
    assert str(error.value) == (
        "layer 'only': levels of its weights must be of at most 7 magnitudes besides 0, up "
        f"to 127 for mac='pair', not {book.levels.tolist()}; mac that can: decode"
    )
    compile(network, ArrayConfig(4, 4, mac="pair", weight_operand_bits=5))


def test_the_most_negative_level_is_no_magnitude_of_a_pair_cell() -> None:
    """Its product would not fit the table's entries."""
    network = one_layer(conv(table_codebook([-64, 0], 2)), (1, 1, 1))
    compile(network, ArrayConfig(4, 4, mac="pair"))
    with pytest.raises(
        UnsupportedError, match=r"besides 0, up to 63 for mac='pair', not \[-64, 0\]"
    ):
        compile(network, ArrayConfig(4, 4, mac="pair", weight_level_bits=7))


PRODUCT = ArrayConfig(
    4,
    4,
    mac="product",
    weight_magnitudes=tuple(POWER.levels[8:].tolist()),
    activation_magnitudes=tuple(range(1, 16)),
)


def test_a_product_cell_refuses_wide_tensors_and_other_levels() -> None:
    wide = one_layer(conv(POWER), (1, 1, 1), make_codebook("uniform", 8, False))
    with pytest.raises(UnsupportedError) as error:
        compile(wide, PRODUCT)
    assert str(error.value) == (
        "layer 'only': levels of its input 'input' must be 16 at most (product cells have no "
        f"planes), not 256; mac that can: {', '.join(CELLS[:-1])}"
    )
    other = one_layer(conv(table_codebook([-11, 0, 3], 2)), (1, 1, 1))
    with pytest.raises(UnsupportedError) as error:
        compile(other, PRODUCT)
    assert str(error.value) == (
        "layer 'only': levels of its weights must be among +-[0, 3, 10, 23, 41, 65, 93, 127] for "
        "mac='product', not [-11, 0, 3]; mac that can: decode, pair"
    )
    compile(one_layer(conv(POWER), (1, 1, 1)), PRODUCT)


def test_a_product_cell_adds_up_an_identity() -> None:
    pool = one_layer(AveragePool((2, 2), (2, 2)), (2, 2, 3))
    assert compile(pool, PRODUCT).layers[0].tiles == 3  # 1 = 65 - 41 - 23
    even = ArrayConfig(
        4, 4, mac="product", weight_magnitudes=(2, 4), activation_magnitudes=tuple(range(1, 16))
    )
    with pytest.raises(InputError) as error:
        compile(pool, even)
    assert str(error.value) == (
        "weight_magnitudes must have no common divisor, for an identity, not (0, 2, 4)"
    )


@given(weight_codebooks(), activation_codebooks(), st.sampled_from(["uniform", "square", "pair"]))
def test_the_cells_that_can_do_hold(weights: Codebook, book: Codebook, mac: str) -> None:
    """What an error says would run, for each side in turn, is no longer refused for it."""
    network = one_layer(conv(weights), (1, 1, 1), book)

    def refused(kind: str) -> str:
        try:
            compile(network, ArrayConfig(4, 4, mac=kind))
        except UnsupportedError as error:
            return str(error)
        return ""

    text = refused(mac)
    if text:
        what, names = text.split(" must be")[0], text.rsplit("mac that can: ", 1)[1].split(", ")
        assert mac not in names
        assert "decode" in names
        assert not any(refused(name).startswith(what) for name in names)


WHY = ": its operands have the bits of its levels"


def test_fields_of_the_cells() -> None:
    for fields, message in (
        ({"mac": "cube"}, f"mac must be one of {', '.join(CELLS)}, not 'cube'"),
        (
            {"weight_operand_bits": 4},
            f"weight_operand_bits must be 0 with mac='decode', not 4{WHY}",
        ),
        (
            {"mac": "pair", "activation_operand_bits": 7},
            "activation_operand_bits must be 0, 4 or 5, not 7",
        ),
        ({"mac": "product"}, "weight_magnitudes must be given with mac='product', not ()"),
        (
            {"weight_magnitudes": (1,)},
            "weight_magnitudes must be empty with mac='decode', not (1,)",
        ),
        (
            {"mac": "product", "weight_magnitudes": (4, 1), "activation_magnitudes": (1,)},
            "weight_magnitudes must rise from 1 to 127, not (4, 1)",
        ),
        (
            {"mac": "product", "weight_magnitudes": (1.5,), "activation_magnitudes": (1,)},
            "weight_magnitudes must be a tuple of integers, not (1.5,)",
        ),
    ):
        with pytest.raises(InputError) as error:
            ArrayConfig(4, 4, **fields)  # pyright: ignore[reportArgumentType] - on purpose
        assert str(error.value) == f"ArrayConfig.{message}"
    with pytest.raises(InputError) as error:
        ArrayConfig(4, 4, mac="square", code_bits=8)
    assert str(error.value) == (
        "ArrayConfig: the magnitudes of a square cell's operands must have at most 10 bits "
        "together, not 15; reduce code_bits (8)"
    )
    assert UNSIGNED.levels[-1] == ArrayConfig(4, 4, mac="uniform").cell.activation_limit
