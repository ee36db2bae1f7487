"""Attention block by block: equal results, smaller scores, and what is left as it is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering import adapt
from nupes.compiler.lowering.queries import most_queries, split_queries
from nupes.compiler.program import compile
from nupes.model.errors import CapacityError
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Matmul, SubtractMax
from nupes.verify import observe
from tests.compiler.test_program import execute
from tests.encoders import encoders_for
from tests.images import all_images_of, images_of
from tests.test_masks import lengths, masked
from tests.transformers import Books, Sizes, Transformer

CONFIG = ArrayConfig(4, 4, acc_depth=16, attention=True, products=True)


def encoder(sizes: Sizes) -> IntegerNetwork:
    return Transformer(sizes, Books(), np.random.default_rng(0)).build()


def queries(network: IntegerNetwork) -> list[int]:
    """Return how many queries each layer of scores has."""
    scores = [item.output for item in network.layers if isinstance(item.op, Matmul)]
    return [tensor.shape[0] * tensor.shape[1] for tensor in scores]


@settings(max_examples=30)
@given(encoders_for(CONFIG), st.integers(1, 7))
def test_blocks_give_the_same_integers(network: IntegerNetwork, most: int) -> None:
    codes = network.encode_all(*all_images_of(network, 2))
    split = split_queries(network, most)
    np.testing.assert_array_equal(split.run(*codes), network.run(*codes))


@pytest.mark.parametrize("mask", [None, "constant", "lengths"])
@pytest.mark.parametrize("tokens", [(17, 1), (40, 1), (7, 5)])
def test_programs_split_what_the_accumulators_do_not_hold(
    tokens: tuple[int, int], mask: str | None
) -> None:
    network = encoder(Sizes(tokens, mask=None if tokens[1] > 1 else mask))
    program = compile(network, CONFIG)
    assert max(queries(network)) > CONFIG.acc_depth >= max(queries(program.network))
    codes = network.encode_all(*all_images_of(network, 1))
    found = execute(program, *(part[0] for part in codes))
    np.testing.assert_array_equal(found, network.run(*codes)[0])


def test_blocks_are_alike_and_nothing_is_moved_to_join_them() -> None:
    program = compile(encoder(Sizes((40, 1), blocks=1)), CONFIG)
    assert queries(program.network) == [14, 14, 12] * 2
    moved = {layer.name: layer.cycles for layer in program.layers}
    assert [moved[f"block 0 head {head} mean layer"] for head in (0, 1)] == [0, 0]


def test_blocks_are_as_small_as_the_memory_needs() -> None:
    network, large = encoder(Sizes((64, 1), blocks=1)), replace(CONFIG, acc_depth=64)
    whole = compile(network, large)
    assert queries(whole.network) == [64] * 2
    words = whole.schedule.act_words * 2 // 3
    program = compile(network, replace(large, act_depth=words))
    assert program.schedule.act_words <= words
    assert queries(program.network) == [32] * 4
    with pytest.raises(CapacityError, match="activation memory must hold"):
        compile(network, replace(large, act_depth=4))


def test_what_else_reads_scores_keeps_them_whole() -> None:
    network = encoder(Sizes((40, 1), blocks=1))
    kinds = [type(layer.op) for layer in network.layers]
    observed = observe(network, kinds.index(SubtractMax))  # the numerators are an output, too
    assert queries(adapt(observed, CONFIG)) == [40]


def test_means_that_are_an_output_are_of_all_queries() -> None:
    network = masked(40, lengths(40), 0)
    assert most_queries(network) == 0
    assert adapt(network, CONFIG) is network
    codes = network.encode(images_of(network, 1))
    np.testing.assert_array_equal(
        execute(compile(network, CONFIG), codes[0]), network.run(codes)[0]
    )
