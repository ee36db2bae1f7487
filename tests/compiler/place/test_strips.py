"""Strips: the map that the host makes, and where it pays."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.place import placement
from nupes.compiler.place.packing import zero_digits
from nupes.compiler.place.strips import Strips, strip_input
from nupes.compiler.program import compile
from nupes.model.codebook import make_codebook, table_codebook
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.model.planes import split_planes
from tests.assemble import coded, layer_of, wide
from tests.compiler.place.test_packing import digits_of, integers
from tests.compiler.place.test_patching import conv

SIZES = st.tuples(st.integers(5, 8), st.integers(5, 8), st.integers(1, 3))
STEPS = st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 2)] * 4)
SEED = st.integers(0, 2**32 - 1)


@given(SIZES, STEPS, st.tuples(*[st.integers(0, 2)] * 4), st.integers(1, 5), SEED)
def test_a_column_of_taps_over_strips_is_the_convolution(
    shape: tuple[int, int, int], steps: tuple[int, ...], padding: tuple[int, int, int, int],
    n: int, seed: int,
) -> None:  # fmt: skip
    config, rng = ArrayConfig(4, 4), np.random.default_rng(seed)
    book, weights = table_codebook(np.arange(-100, 100), 8), make_codebook("uniform", 8, True)
    kernel, stride, dilation = steps[:2], (steps[2], steps[3]), (steps[4], steps[5])
    codes = rng.integers(0, len(weights), (n, shape[2], *kernel)).astype(np.uint8)
    op = Conv(codes, weights, np.ones(n), stride, padding, dilation)
    source, planes = coded("x", shape, book), split_planes(book, config.code_bits)
    strips = Strips(source, layer_of("y", op, "x", wide("y", op.shape(shape))), planes.count, 16)
    layout, found = strips.layout(3, config), zero_digits(planes, book.levels)
    assert found is not None
    x = rng.integers(0, len(book), shape).astype(np.uint8)
    given_words = strip_input(strips, layout, planes, found[1], config).words(x, config)
    words = iter(integers(given_words))
    levels = np.zeros((*strips.shape[:2], layout.groups * config.lanes), np.int64)
    for plane in range(planes.count):
        for group in range(layout.groups):
            lanes = slice(group * config.lanes, (group + 1) * config.lanes)
            for y, column in np.ndindex(*strips.shape[:2]):
                levels[y, column, lanes] += planes.tables[plane][digits_of(next(words), config)]
    assert next(words, None) is None
    seen = levels[None, ..., : strips.shape[2]].astype(np.int16)
    wanted = op.accumulate(book.levels[x][None])
    np.testing.assert_array_equal(strips.op.accumulate(seen), wanted)


FIRST = st.builds(
    conv, st.integers(2, 5), st.integers(8, 24), st.integers(1, 3), st.integers(1, 12),
    st.integers(1, 2), st.just(8),
)  # fmt: skip
ARRAYS = st.builds(
    lambda size, depth: ArrayConfig(*size, acc_depth=depth),
    st.sampled_from([(4, 4), (8, 4), (8, 8), (16, 16)]), st.sampled_from([32, 128, 512]),
)  # fmt: skip


@settings(max_examples=15)
@given(FIRST, ARRAYS)
def test_strips_are_taken_where_they_are_fastest(
    network: IntegerNetwork, config: ArrayConfig
) -> None:
    config = replace(config, act_depth=1 << 20)
    taken = compile(network, config).cycles
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "strips", lambda *given: [])
        assert taken <= compile(network, config).cycles


def test_cells_with_a_pass_for_each_plane_take_none() -> None:
    network = conv(3, 32, 3, 16, 1, 8)
    planes = {"x": split_planes(network.tensors["x"].codebook, 4)}
    assert placement.strips(network, planes, ArrayConfig(16, 16))
    assert not placement.strips(network, planes, ArrayConfig(16, 16, mac="uniform"))
