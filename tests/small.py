"""A small fixed network for tests that need any network at all."""

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.model.codebook import make_codebook
from nupes.model.layer import Encoder, Requantize
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from tests.assemble import assemble, coded, layer_of, wide

__all__ = ["ARRAY", "small_network"]

ARRAY = ArrayConfig(4, 4, acc_depth=16)
"""The array whose built simulator the tests share."""


def small_network() -> IntegerNetwork:
    """Return a 3x3 convolution and a linear layer: images (b, 1, 4, 4) from 0 to 15, five
    classes."""
    rng = np.random.default_rng(0)
    inputs, weights = make_codebook("uniform", 4, False), make_codebook("power", 4, True, 127, 0.5)

    def conv(shape: tuple[int, ...], padding: int) -> Conv:
        codes = rng.integers(0, len(weights), shape).astype(np.uint8)
        return Conv(codes, weights, np.ones(shape[0]), padding=(padding, padding, padding, padding))

    def tail(channels: int, shift: int) -> Requantize:
        ones = np.ones(channels, np.int64)
        return Requantize(
            (40000 * ones).astype(np.int32), ones << 10, (shift * ones).astype(np.int32)
        )

    source = coded("x", (4, 4, 1), inputs)
    hidden = coded("hidden", (4, 4, 6), inputs, 0.5)
    steps = np.arange(1, 16, dtype=np.int16) * 900
    layers = (
        layer_of(
            "conv",
            conv((6, 1, 3, 3), 1),
            "x",
            hidden,
            tail(6, 14),
            encoder=Encoder(steps, np.arange(16, dtype=np.uint8)),
        ),
        layer_of(
            "linear", conv((5, 6, 4, 4), 0), "hidden", wide("y", (1, 1, 5), 2.0**-8), tail(5, 16)
        ),
    )
    return assemble(source, layers, (5,))
