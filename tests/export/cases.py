"""Networks at the edges of the contract, and published shapes, for every export."""

from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
from hypothesis import strategies as st

import nupes
from nupes.model.codebook import table_codebook
from nupes.model.layer import Encoder, Post, Requantize, Residual
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from tests.assemble import assemble, coded, layer_of, wide
from tests.networks import JOINS, networks

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
    size = (count, *network.the_input.tensor.shape)
    return rng.integers(0, len(network.the_input.tensor.codebook), size).astype(np.uint8)


def largest_sum(level: int, weight: int, channels: int) -> IntegerNetwork:
    """Return one 1x1 convolution of equal weights; its input levels are -1, 0 and ``level``."""
    book, weights = table_codebook(sorted({-1, 0, level}), 2), table_codebook([weight], 1)
    op = Conv(np.zeros((1, channels, 1, 1), np.uint8), weights, np.ones(1))
    one = np.ones(1, np.int64)
    tail = Requantize(one * 40000, one << 30, one * 31)
    source = coded("input", (1, 1, channels), book)
    layer = layer_of("sum", op, "input", wide("y", (1, 1, 1)), tail)
    return assemble(source, [layer], (1,))


@st.composite
def edges(draw: st.DrawFn) -> IntegerNetwork:
    """Draw a random network whose requantizations use the whole range of every field."""
    network = draw(networks(joins=JOINS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for layer in network.layers:
        if layer.post is None:
            layers.append(layer)
            continue
        n = len(layer.post.requantize.mult)
        mult = rng.choice([0, 1, 40000, 65535], n)
        bias = rng.choice([-(2**47), 2**47 - 1, -1, 0, 2**30, -(2**40)], n)
        tail = Requantize(mult, bias, rng.choice([1, 15, 31], n))
        residual = layer.residual
        if residual is not None:
            residual = Residual(residual.port, 65535, draw(st.sampled_from([1, 9, 31])))
        encoder = layer.encoder
        if encoder is not None and len(encoder.thresholds) > 1:
            ends = encoder.thresholds.copy()
            ends[0], ends[-1] = -32768, 32767
            encoder = Encoder(ends, encoder.codes)
        layers.append(replace(layer, post=Post(tail, residual, encoder)))
    return replace(network, layers=tuple(layers))
