"""The smallest power of two of words that a network runs with."""

from dataclasses import replace

import numpy as np
import pytest

import nupes
from benchmarks.fitting import compile_fitting
from nupes.model.codebook import make_codebook
from nupes.model.layer import Requantize
from nupes.model.operators import AveragePool
from tests.assemble import assemble, coded, layer_of, wide
from tests.small import ARRAY, small_network


def test_half_of_the_words_are_too_few() -> None:
    source = coded("x", (80, 80, 4), make_codebook("uniform", 4, False))
    last = wide("y", (1, 1, 4), 1.0)
    ones = np.ones(4, np.int32)
    tail = Requantize(ones, ones.astype(np.int64), 8 * ones)
    pool = layer_of("pool", AveragePool((80, 80), (1, 1)), "x", last, tail)
    network = assemble(source, [pool], (4,))
    program = compile_fitting(network, ARRAY)
    half = program.array.act_depth // 2
    assert half >= 4096
    with pytest.raises(nupes.CapacityError, match="activation memory"):
        nupes.compile(network, replace(ARRAY, act_depth=half))


def test_a_small_network_takes_the_least() -> None:
    assert compile_fitting(small_network(), ARRAY).array.act_depth == 4096
