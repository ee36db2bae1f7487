"""Programs of transformers mean what the network means, on any array with attention."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.errors import CapacityError, InputError, UnsupportedError
from nupes.model.network import IntegerNetwork
from tests.compiler.test_program import execute
from tests.encoders import biased_scores, coded_tokens, encoders_for
from tests.images import all_images_of
from tests.transformers import Books, Sizes, Transformer

SHAPES = st.sampled_from([(4, 4), (4, 2), (4, 8), (8, 4), (16, 16)])
ARRAYS = st.builds(
    lambda size, bits, depth, products: ArrayConfig(
        *size, code_bits=bits, acc_depth=depth, products=products, attention=True
    ),
    SHAPES, st.integers(2, 8), st.sampled_from([4, 16, 512]), st.booleans(),
)  # fmt: skip


def check(network: IntegerNetwork, config: ArrayConfig) -> None:
    """Compare what the program of one image means with what the network gives."""
    codes = network.encode_all(*all_images_of(network, 1))
    program = compile(network, config)
    y = execute(program, *(part[0] for part in codes))
    np.testing.assert_array_equal(y, network.run(*codes)[0])


@pytest.mark.slow
@settings(max_examples=20)
@given(ARRAYS, st.data())
def test_programs_mean_what_the_network_means(config: ArrayConfig, data: st.DataObject) -> None:
    check(data.draw(encoders_for(config)), config)


@settings(max_examples=25)
@given(ARRAYS, coded_tokens())
def test_norms_of_codes(config: ArrayConfig, network: IntegerNetwork) -> None:
    check(network, config)


@settings(max_examples=25)
@given(ARRAYS, biased_scores())
def test_biases_of_scores(config: ArrayConfig, network: IntegerNetwork) -> None:
    check(network, config)


def small(**sizes: Any) -> IntegerNetwork:
    """Return an encoder of one block."""
    return Transformer(Sizes(blocks=1, **sizes), Books(), np.random.default_rng(0)).build()


def test_arrays_without_attention_refuse_by_name() -> None:
    with pytest.raises(UnsupportedError) as error:
        compile(small(), ArrayConfig(4, 4))
    assert str(error.value) == (
        "layer 'stream layer' must store codes or be an output: 16-bit tensors need an array with "
        "attention=True"
    )


def test_heads_within_a_word_are_copied() -> None:
    network, config = small(head=3), ArrayConfig(4, 4, attention=True)
    check(network, config)
    names = [layer.name for layer in compile(network, config).layers]
    assert "block 0 pair[6:9]" in names


def test_sums_beyond_the_accumulator_are_refused_by_name() -> None:
    with pytest.raises(CapacityError) as error:
        compile(small(head=16), ArrayConfig(4, 4, attention=True, acc_bits=16))
    assert str(error.value) == (
        "layer 'block 0 head 0 mean layer': accumulator could reach 181050, beyond acc_bits 16; "
        "it needs 19 bits, or fewer terms"
    )


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(InputError) as error:
        ArrayConfig(4, 4, attention=True, mac="uniform")
    assert str(error.value) == ("ArrayConfig.mac must be decode with attention=True, not 'uniform'")
    with pytest.raises(InputError) as error:
        ArrayConfig(2, 2, code_bits=3, attention=True)
    assert str(error.value) == (
        "ArrayConfig.rows must be at least 3 with attention=True and code_bits=3, not 2: the "
        "planes of a 16-bit number are read meanwhile"
    )
