"""Networks at the edges of the contract, and published shapes, for every export."""

from functools import cache
from typing import Literal

import numpy as np
from hypothesis import strategies as st

import nupes
from nupes.model.codebook import table_codebook
from nupes.model.network import (
    Encoder,
    InputEncoder,
    IntegerNetwork,
    Layer,
    Requantize,
    Residual,
    Tensor,
)
from nupes.model.operators import Conv, MaxPool
from tests.networks import networks

__all__ = ["digits", "edges", "input_codes", "largest_sum"]


@cache
def digits(codebook: Literal["power", "uniform"] = "power") -> tuple[IntegerNetwork, np.ndarray]:
    """Return the digits network at 4 bits and its 500 test images."""
    from nupes.examples.digits.network import load_network, load_split  # torch: takes seconds

    split = load_split()
    calibration = split["calibration"][0][:64]
    return (
        nupes.quantize(
            load_network(), "W4A4", calibration=calibration, codebook=codebook, method="search"
        ),
        split["test"][0],
    )


def input_codes(network: IntegerNetwork, count: int, seed: int = 0) -> np.ndarray:
    """Return random codes (b, h, w, c) of the network's input."""
    rng = np.random.default_rng(seed)
    size = (count, *network.input.shape)
    return rng.integers(0, len(network.input.codebook), size).astype(np.uint8)


def largest_sum(level: int, weight: int, channels: int) -> IntegerNetwork:
    """Return one 1x1 convolution of equal weights; its input levels are -1, 0 and ``level``."""
    book, weights = table_codebook(sorted({-1, 0, level}), 2), table_codebook([weight], 1)
    op = Conv(np.zeros((1, channels, 1, 1), np.uint8), weights, np.ones(1))
    one = np.ones(1, np.int64)
    tail = Requantize(one * 40000, one << 30, one * 31)
    source = Tensor("input", (1, 1, channels), book, 1.0)
    thresholds = np.tile(np.arange(1, len(book)) - 0.5, (channels, 1))
    layer = Layer("sum", op, "input", None, tail)
    return IntegerNetwork(source, InputEncoder(thresholds), (layer,), 1.0, (1,))


@st.composite
def edges(draw: st.DrawFn) -> IntegerNetwork:
    """Draw a random network whose requantizations use the whole range of every field."""
    network = draw(networks())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for layer in network.layers:
        if isinstance(layer.op, MaxPool):
            layers.append(layer)
            continue
        assert layer.requantize is not None
        n = len(layer.requantize.mult)
        mult = rng.choice([0, 1, 40000, 65535], n)
        bias = rng.choice([-(2**47), 2**47 - 1, -1, 0, 2**30, -(2**40)], n)
        tail = Requantize(mult, bias, rng.choice([1, 15, 31], n))
        residual = layer.residual
        if residual is not None:
            residual = Residual(residual.tensor, 65535, draw(st.sampled_from([1, 9, 31])))
        encoder = layer.encoder
        if encoder is not None and len(encoder.thresholds) > 1:
            ends = encoder.thresholds.copy()
            ends[0], ends[-1] = -32768, 32767
            encoder = Encoder(ends, encoder.codes)
        layers.append(
            Layer(layer.name, layer.op, layer.input, layer.output, tail, residual, encoder)
        )
    return IntegerNetwork(
        network.input, network.encoder, tuple(layers), network.scale, network.output_shape
    )
