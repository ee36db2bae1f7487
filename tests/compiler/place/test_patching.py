"""Patching: a block at a time where that is no slower than a plain map, or nothing else fits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering import arrange
from nupes.compiler.place import placement
from nupes.compiler.place.patching import Packing, packings
from nupes.compiler.place.strips import Strips
from nupes.compiler.program import compile
from nupes.model.codebook import make_codebook
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.model.planes import planes_of
from tests.assemble import assemble, coded, layer_of, wide
from tests.compiler.place.test_placement import one_conv
from tests.model.tiny import requantize
from tests.networks import networks
from tests.packed import least_depth

CONFIG = ArrayConfig(4, 4, acc_depth=32)


def conv(kernel: int, size: int, channels: int, n: int, stride: int, bits: int) -> IntegerNetwork:
    """Return one padded convolution of a square map, as a network."""
    inputs, weights = make_codebook("uniform", bits, False), make_codebook("uniform", bits, True)
    codes = np.random.default_rng(0).integers(0, len(weights), (n, channels, kernel, kernel))
    side = kernel // 2
    sides = side, side, side, side
    op = Conv(codes.astype(np.uint8), weights, np.ones(n), (stride, stride), sides)
    shape = op.shape((size, size, channels))
    layer = layer_of("conv", op, "x", wide("y", shape), requantize(n))
    source = coded("x", (size, size, channels), inputs)
    return assemble(source, [layer], (n, *shape[:2]))


def ways(network: IntegerNetwork, config: ArrayConfig) -> tuple[list[Packing], list[Packing]]:
    """Return how the only input may be packed."""
    planes = {
        name: planes_of(item.format, config.code_bits) for name, item in network.stored.items()
    }
    return packings(network, planes, config)


def cycles(network: IntegerNetwork, config: ArrayConfig, packing: Packing | None) -> int:
    """Return the cycles of a network whose input is packed in one way."""
    with pytest.MonkeyPatch.context() as patch:
        fast = [] if packing is None else [packing]
        patch.setattr(placement, "packings", lambda *given: (fast, []))
        patch.setattr(placement, "strips", lambda *given: [])
        return compile(network, replace(config, act_depth=1 << 20)).cycles


CONVS = st.builds(
    conv, st.integers(2, 5), st.integers(5, 16), st.integers(1, 3), st.integers(1, 12),
    st.integers(1, 2), st.sampled_from([4, 8]),
)  # fmt: skip
ARRAYS = st.builds(
    lambda size, depth: ArrayConfig(*size, acc_depth=depth),
    st.sampled_from([(4, 4), (4, 8), (8, 4), (8, 8), (16, 16)]), st.sampled_from([16, 32, 128]),
)  # fmt: skip


@settings(max_examples=15)
@given(CONVS, ARRAYS)
@example(conv(5, 5, 1, 1, 1, 4), ArrayConfig(4, 4, acc_depth=16))
def test_blocks_that_pay_take_no_more_cycles_than_a_map(
    network: IntegerNetwork, config: ArrayConfig
) -> None:
    fast, _ = ways(network, config)
    parts = [item for item in fast if item.patches.held < item.patches.pixels]
    if parts:
        plain = cycles(network, config, None)
        assert all(cycles(network, config, packing) <= plain for packing in (parts[0], parts[-1]))


FIRST = conv(5, 9, 1, 4, 1, 4)
"""A convolution whose 81 pixels have 7 words each, from a map of 81 words."""


def test_blocks_halve_from_the_depth_of_the_accumulators_to_a_pixel() -> None:
    fast, slow = ways(FIRST, CONFIG)
    assert [item.patches.held for item in fast] == [81, 32, 16]
    assert [item.patches.held for item in slow] == [8, 4, 2, 1]
    assert [item.patches.block for item in (*fast, *slow)] == [32, 32, 16, 8, 4, 2, 1]
    assert [item.patches.words for item in slow] == [56, 28, 14, 7]


def test_patches_of_one_pixel_have_no_blocks() -> None:
    fast, slow = ways(conv(2, 2, 1, 4, 9, 4), CONFIG)
    assert [item.patches.held for item in fast] == [1]
    assert slow == []


@pytest.mark.parametrize(
    ("depth", "held"),
    [(567, 81), (566, 32), (224, 32), (223, 16), (112, 16), (111, 0), (81, 0), (80, 8), (7, 1)],
)
def test_the_largest_block_that_fits_is_taken_but_a_map_before_slow_ones(
    depth: int, held: int
) -> None:
    found = arrange(FIRST, replace(CONFIG, act_depth=depth)).packing
    assert (found.patches.held if isinstance(found, Packing) else 0) == held


def test_the_least_memory_is_that_of_a_pixel() -> None:
    assert least_depth(FIRST, CONFIG) == 7


@settings(max_examples=30)
@given(networks(3))
def test_a_packing_that_fits_as_a_whole_stays(network: IntegerNetwork) -> None:
    fast, _ = ways(network, CONFIG)
    found = arrange(network, CONFIG).packing
    whole = [item for item in fast if item.patches.held == item.patches.pixels]
    if not isinstance(found, Strips):
        assert (found is None) == (not whole)
        assert found is None or found.patches.held == found.patches.pixels


def test_a_network_that_gains_nothing_has_no_packing() -> None:
    assert ways(one_conv(), ArrayConfig(2, 2))[0]
    assert ways(conv(1, 4, 1, 1, 1, 4), CONFIG) == ([], [])
