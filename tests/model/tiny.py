"""A small network by hand, for tests that break one field at a time."""

from dataclasses import replace
from typing import Any

import numpy as np

from nupes.model.codebook import Codebook, make_codebook
from nupes.model.layer import Encoder, Requantize, Residual
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv, MaxPool
from nupes.model.tensor import Port, Tensor
from tests.assemble import assemble, coded, layer_of, wide

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
        return coded(name, (size, size, 2), codes, 0.5)

    layers = (
        layer_of(
            "one", conv(2, 3, 1), "input", tensor("a", 4), requantize(2), encoder=encoder(codes)
        ),
        layer_of(
            "two", conv(2, 1, 0), "a", tensor("b", 4), requantize(2), Residual(Port("a"), 1, 1),
            encoder(codes),
        ),
        layer_of("pool", MaxPool((2, 2), (2, 2)), "b", tensor("c", 2)),
        layer_of("head", conv(3, 2, 0), "c", wide("y", (1, 1, 3), 0.25), requantize(3)),
    )  # fmt: skip
    return assemble(tensor("input", 4), layers, (3,), metadata={"scheme": "W3A4"})


def broken(index: int, **changes: Any) -> IntegerNetwork:
    """Return the tiny network with some fields of one layer replaced; a nested field is a dict."""
    network = tiny_network()
    layers = list(network.layers)
    layers[index] = changed(layers[index], changes)
    return replace(network, layers=tuple(layers))


def changed(part: Any, changes: dict[str, Any]) -> Any:
    """Return a data class with some fields replaced."""
    values = {
        name: changed(getattr(part, name), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return replace(part, **values)
