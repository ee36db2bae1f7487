"""A small network by hand, for tests that break one field at a time."""

from dataclasses import replace
from typing import Any

import numpy as np

from nupes.model.codebook import Codebook, make_codebook
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

__all__ = ["broken", "tiny_network"]


def requantize(channels: int) -> Requantize:
    """Return a requantization that divides by 2 and rounds."""
    one = np.ones(channels, np.int32)
    return Requantize(one, one.astype(np.int64), one)


def encoder(book: Codebook) -> Encoder:
    """Return an encoder that keeps small values."""
    return Encoder(
        np.arange(1, len(book), dtype=np.int16) * 8, np.arange(len(book), dtype=np.uint8)
    )


def tiny_network() -> IntegerNetwork:
    """Return conv, conv + residual, max-pool, linear on a 4 x 4 map of 2 channels."""
    rng = np.random.default_rng(0)
    weights, codes = make_codebook("power", 3, True, 127, 0.5), make_codebook("uniform", 4, False)

    def conv(n: int, kernel: int, padding: int) -> Conv:
        drawn = rng.integers(0, len(weights), (n, 2, kernel, kernel)).astype(np.uint8)
        return Conv(drawn, weights, np.ones(n), padding=(padding, padding, padding, padding))

    def tensor(name: str, size: int) -> Tensor:
        return Tensor(name, (size, size, 2), codes, 0.5)

    layers = (
        Layer("one", conv(2, 3, 1), "input", tensor("a", 4), requantize(2), None, encoder(codes)),
        Layer(
            "two", conv(2, 1, 0), "a", tensor("b", 4), requantize(2), Residual("a", 1, 1),
            encoder(codes),
        ),
        Layer("pool", MaxPool((2, 2), (2, 2)), "b", tensor("c", 2)),
        Layer("head", conv(3, 2, 0), "c", None, requantize(3)),
    )  # fmt: skip
    thresholds = np.tile(np.arange(1, len(codes)) - 0.5, (2, 1))
    return IntegerNetwork(
        tensor("input", 4), InputEncoder(thresholds), layers, 0.25, (3,), {"scheme": "W3A4"}
    )


def broken(index: int, **changes: Any) -> IntegerNetwork:
    """Return the tiny network with some fields of one layer replaced; a nested field is a dict."""
    network = tiny_network()
    layer = network.layers[index]
    values = {
        name: replace(getattr(layer, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    layers = list(network.layers)
    layers[index] = replace(layer, **values)
    return replace(network, layers=tuple(layers))
