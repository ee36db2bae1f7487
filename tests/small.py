"""A small fixed network for tests that need any network at all."""

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.model.codebook import make_codebook
from nupes.model.network import (
    Encoder,
    InputEncoder,
    IntegerNetwork,
    Layer,
    Requantize,
    Tensor,
)
from nupes.model.operators import Conv

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

    source = Tensor("x", (4, 4, 1), inputs, 1.0)
    hidden = Tensor("hidden", (4, 4, 6), inputs, 0.5)
    steps = np.arange(1, 16, dtype=np.int16) * 900
    layers = (
        Layer(
            "conv",
            conv((6, 1, 3, 3), 1),
            "x",
            hidden,
            tail(6, 14),
            encoder=Encoder(steps, np.arange(16, dtype=np.uint8)),
        ),
        Layer("linear", conv((5, 6, 4, 4), 0), "hidden", None, tail(5, 16)),
    )
    thresholds = np.arange(1, 16)[np.newaxis] - 0.5
    return IntegerNetwork(source, InputEncoder(thresholds), layers, 2.0**-8, (5,))
