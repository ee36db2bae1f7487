"""A small fixed network with layers of several inputs: a gate, and a concatenation past a layer."""

import numpy as np

from nupes.model.codebook import make_codebook
from nupes.model.layer import Encoder, Requantize
from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Concat, Conv, Operator, Product
from nupes.model.tensor import Tensor
from tests.assemble import assemble, coded, layer_of, wide

__all__ = ["small_joins"]


def small_joins() -> IntegerNetwork:
    """Return a network for images (b, 2, 4, 4) from 0 to 15, three classes.

    A convolution's map is weighed by a gate that is made of its means, as squeeze and excitation
    does; the weighed map and a convolution of it are concatenated, as skips of a U-Net are.
    """
    rng = np.random.default_rng(0)
    levels, weights = make_codebook("uniform", 4, False), make_codebook("uniform", 4, True)
    steps = Encoder(np.arange(1, 16, dtype=np.int16) * 900, np.arange(16, dtype=np.uint8))

    def conv(n: int, channels: int, size: int, padding: int = 0) -> Conv:
        codes = rng.integers(0, len(weights), (n, channels, size, size)).astype(np.uint8)
        return Conv(codes, weights, np.ones(n), padding=(padding, padding, padding, padding))

    def tail(channels: int, gain: float) -> Requantize:
        """Return a requantization by about ``gain``."""
        mult = np.full(channels, round(gain * 2**8), np.int32)
        bias = np.full(channels, 1 << 15, np.int64)
        return Requantize(mult, bias, np.full(channels, 8, np.int32))

    source = coded("x", (4, 4, 2), levels)
    tensors: dict[str, Tensor] = {"x": source}
    layers = []

    def add(name: str, op: Operator, sources: tuple[str, ...], gain: float | None) -> None:
        """Append a layer that stores codes; one without a gain copies them."""
        shape = op.shape(*(tensors[source].shape for source in sources))
        tensors[name] = coded(name, shape, levels, 0.5 if name in ("gated", "deep", "both") else 1)
        if gain is None:
            layers.append(layer_of(f"{name} layer", op, sources, tensors[name]))
            return
        requantize = tail(shape[2], gain)
        layers.append(
            layer_of(f"{name} layer", op, sources, tensors[name], requantize, encoder=steps)
        )

    add("map", conv(6, 2, 3, 1), ("x",), 60)
    add("means", AveragePool((4, 4), (1, 1)), ("map",), 60)
    add("gate", conv(6, 6, 1), ("means",), 60)
    add("gated", Product(), ("gate", "map"), 100)
    add("deep", conv(4, 6, 3, 1), ("gated",), 30)
    add("both", Concat(), ("gated", "deep"), None)
    last = wide("y", (1, 1, 3), 2.0**-8)
    layers.append(layer_of("classes", conv(3, 10, 4), "both", last, tail(3, 10)))
    return assemble(source, layers, (3,))
