"""Transposed convolutions: phases share the results, and no zero is streamed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.transposed_conv import phases
from nupes.compiler.program import compile
from nupes.model.codebook import make_codebook
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Encoder
from nupes.model.network import Constant, IntegerNetwork
from nupes.model.operators import Select, TransposedConv
from nupes.sim.simulator import Simulator
from tests.assemble import assemble, coded, layer_of, wide
from tests.assemble import given as given_by
from tests.compiler.test_program import execute
from tests.images import images_of
from tests.model.tiny import requantize
from tests.small import ARRAY as SMALL

BOOK, WEIGHTS = make_codebook("uniform", 4, False), make_codebook("uniform", 4, True)
CONFIG = ArrayConfig(4, 4, acc_depth=64, act_depth=1 << 14)


def upsample(
    size: tuple[int, int], kernel: int, stretch: int, padding: tuple[int, int] = (0, 0)
) -> TransposedConv:
    """Return a transposed convolution from 3 to 4 channels."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, len(WEIGHTS), (4, 3, kernel, kernel)).astype(np.uint8)
    sides = (kernel - 1, kernel - 1, *padding)
    return TransposedConv(codes, WEIGHTS, np.ones(4), padding=sides, stretch=(stretch, stretch))


def network_of(op: TransposedConv, size: tuple[int, int]) -> IntegerNetwork:
    """Return a network of one layer."""
    shape = op.shape((*size, 3))
    layer = layer_of("up", op, ("input",), wide("y", shape), requantize(4))
    return assemble(coded("input", (*size, 3), BOOK), [layer], (4, *shape[:2]))


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 2), st.integers(1, 9)
)
def test_phases_are_all_results_and_all_taps(
    kernel: int, dilation: int, stretch: int, stride: int, results: int
) -> None:
    codes = np.zeros((1, 1, kernel, 1), np.uint8)
    op = TransposedConv(
        codes, WEIGHTS, np.ones(1), (stride, 1), (1, 0, 0, 0), (dilation, 1), 1, (stretch, 1)
    )
    found = {}
    for phase in phases(op, 0, results):
        for index in range(phase.count):
            pixels = {tap: pixel + index * phase.stride for tap, pixel in phase.taps}
            found[phase.first + index * phase.step] = pixels
    assert sorted(found) == list(range(results))
    for result, pixels in found.items():
        places = {tap: result * stride + tap * dilation - 1 for tap in range(kernel)}
        assert pixels == {t: p // stretch for t, p in places.items() if p % stretch == 0}


@pytest.mark.parametrize(("kernel", "stretch"), [(2, 2), (4, 2), (3, 2), (1, 2), (3, 1), (5, 3)])
def test_programs_and_their_words(kernel: int, stretch: int) -> None:
    size = (5, 4)
    op = upsample(size, kernel, stretch, (kernel - 1, kernel - 1))
    network = network_of(op, size)
    codes = network.encode(images_of(network, 1))
    program = compile(network, CONFIG)
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])


@pytest.mark.parametrize("stretch", [2, 3])
def test_a_constant_is_loaded_between_the_results_of_a_grid(
    running: Callable[..., Simulator], stretch: int
) -> None:
    bias = Constant(coded("bias", (2, 6, 9), BOOK), np.ones((2, 6, 9), np.uint8))
    op = upsample((3, 3), 3, stretch)
    table = Encoder(np.arange(15, dtype=np.int16), np.arange(16, dtype=np.uint8))
    hidden = layer_of(
        "up", op, "input", coded("up", op.shape((3, 3, 3)), BOOK), requantize(4), encoder=table
    )
    last = layer_of("last", Select(tuple(range(9))), "bias", wide("last", (2, 6, 9)), requantize(9))
    source, size = coded("input", (3, 3, 3), BOOK), (9, 2, 6)
    network = replace(
        assemble(source, [hidden, last], size, more=[bias.tensor]),
        inputs=(given_by(source),),
        constants=(bias,),
    )
    simulator = running(SMALL)
    program, x = compile(network, SMALL), images_of(network, 2)
    result = simulator.run(program, x)
    np.testing.assert_array_equal(result.outputs, network(x))
    assert result.layer_cycles.tolist() == [[layer.cycles for layer in program.layers]] * 2


def test_a_map_beyond_the_coordinates_is_refused() -> None:
    op = upsample((1, 8190), 1, 2, (0, 0))
    assert compile(network_of(op, (1, 8190)), CONFIG)
    far = upsample((1, 4), 1, 2, (20000, 0))
    with pytest.raises(UnsupportedError, match=r"'up': padded input columns must be at most 8191"):
        compile(network_of(far, (1, 4)), CONFIG)
