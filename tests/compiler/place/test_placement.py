"""Placement: when the host may pack the input as patches."""

from dataclasses import replace

import numpy as np
import pytest

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.patching import Packing
from nupes.compiler.place.placement import place
from nupes.model.codebook import make_codebook
from nupes.model.layer import Requantize, Residual
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv, Select
from nupes.model.tensor import Port
from tests.assemble import assemble, coded, layer_of, wide

CONFIG = ArrayConfig(8, 8)
SOURCE = coded("x", (4, 4, 1), make_codebook("uniform", 4, False))


def one_conv(residual: Residual | None = None) -> IntegerNetwork:
    """Return a padded 3x3 convolution of one channel, with a skip tensor or without."""
    book = make_codebook("uniform", 4, True)
    op = Conv(np.zeros((1, 1, 3, 3), np.uint8), book, np.ones(1), padding=(1, 1, 1, 1))
    one = np.ones(1, np.int32)
    tail = Requantize(one, one.astype(np.int64), one)
    layer = layer_of("conv", op, "x", wide("y", (4, 4, 1)), tail, residual)
    return assemble(SOURCE, [layer], (16,))


def test_a_first_convolution_with_few_channels_reads_patches() -> None:
    network = one_conv()
    placement = place(network, CONFIG)
    assert isinstance(placement.packing, Packing)
    assert placement.packing.reader is network.layers[0]
    assert placement.packing.patches.words_per_plane == 2


@pytest.mark.parametrize("shift", [1, 31])
def test_an_input_that_its_own_reader_adds_stays_a_map(shift: int) -> None:
    placement = place(one_conv(Residual(Port("x"), 1, shift)), CONFIG)
    assert placement.packing is None


def test_a_reader_that_gains_nothing_reads_a_map() -> None:
    network = one_conv()
    layer = replace(network.layers[0], op=Select.every(1))
    assert place(replace(network, layers=(layer,)), CONFIG).packing is None


@pytest.mark.parametrize("size", [1, 9])
def test_a_packed_input_lies_behind_the_others(size: int) -> None:
    network = one_conv()
    more = coded("more", (size, size, 3), SOURCE.codebook)
    network = assemble(SOURCE, network.layers, (16,), more=[more])
    placement = place(network, CONFIG)
    assert isinstance(placement.packing, Packing)
    assert placement.packing.patches.base >= placement.layouts["more"].words > 0
