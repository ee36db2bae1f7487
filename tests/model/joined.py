"""A small network with all that a graph can have: inputs, state, ranges, wide tensors, outputs."""

import numpy as np

from nupes.model.codebook import make_codebook
from nupes.model.layer import Encoder, Layer, Post, Requantize, Residual
from nupes.model.network import Input, InputEncoder, IntegerNetwork, Output, State
from nupes.model.operators import AveragePool, Concat, Conv, MaxPool, Operator, Product, Select
from nupes.model.tensor import Port, Shape, Tensor
from tests.assemble import coded, wide

__all__ = ["codes_for", "joined_network"]

WEIGHTS = make_codebook("power-midrise", 3, True, 9, 0.7)
STORED = make_codebook("uniform", 4, False)


def joined_network(seed: int = 0) -> IntegerNetwork:
    """Return a recurrent cell with a gate, a skip of 16 bits, two inputs and two outputs."""
    rng = np.random.default_rng(seed)

    def encoder(spread: int) -> Encoder:
        thresholds = np.sort(rng.integers(-spread, spread, len(STORED) - 1)).astype(np.int16)
        return Encoder(thresholds, np.arange(len(STORED), dtype=np.uint8))

    def conv(n: int, channels: int, kernel: int, padding: int = 0) -> Conv:
        codes = rng.integers(0, len(WEIGHTS), (n, channels, kernel, kernel)).astype(np.uint8)
        sides = (padding, padding, padding, padding)
        return Conv(codes, WEIGHTS, rng.uniform(0.1, 1, n), padding=sides)

    def layer(
        name: str,
        op: Operator,
        ports: list[Port],
        output: Tensor,
        added: Residual | None = None,
        spread: int = 50,
    ) -> Layer:
        n = output.shape[2]
        tail = Requantize(
            rng.integers(1, 9, n).astype(np.int32),
            rng.integers(-99, 99, n),
            np.full(n, 2, np.int32),
        )
        codes = None if output.format.kind == "wide" else encoder(spread)
        return Layer(name, op, tuple(ports), output, Post(tail, added, codes))

    def stored(name: str, shape: Shape) -> Tensor:
        return coded(name, shape, STORED, 0.5)

    def read(tensor: Tensor) -> Input:
        row = np.sort(rng.normal(size=(tensor.shape[2], len(tensor.codebook) - 1)))
        return Input(tensor, InputEncoder(row))

    memory = stored("memory", (4, 4, 2))
    return IntegerNetwork(
        inputs=(read(stored("left", (4, 4, 2))), read(stored("right", (4, 4, 1)))),
        layers=(
            Layer(
                "join", Concat(), (Port("left"), Port("right"), Port("memory")),
                stored("all", (4, 4, 5)),
            ),
            layer(
                "mix", conv(2, 3, 3, 1), [Port("all", 1, 3)], stored("cell", (4, 4, 2)),
                Residual(Port("all", 3), 77, 3), 300,
            ),
            layer("squeeze", conv(2, 2, 4), [Port("cell")], stored("gate", (1, 1, 2)), spread=900),
            layer(
                "gated", Product(), [Port("gate"), Port("cell")], stored("open", (4, 4, 2)),
                spread=90,
            ),
            layer("sum", conv(2, 2, 1), [Port("open")], wide("sums", (4, 4, 2), 0.25)),
            layer(
                "next", Select.every(2), [Port("cell")], stored("next", (4, 4, 2)),
                Residual(Port("sums"), 40000, 16), 180,
            ),
            Layer("pool", MaxPool((2, 2), (2, 2)), (Port("next"),), stored("less", (2, 2, 2))),
            layer("head", conv(3, 2, 2), [Port("less")], wide("y", (1, 1, 3), 0.125)),
            layer("mean", AveragePool((4, 2), (1, 2)), [Port("next")], wide("z", (1, 2, 2))),
        ),
        outputs=(Output("y", (3,)), Output("z", (2, 1, 2))),
        state=(State(memory, "next", rng.integers(0, 16, memory.shape).astype(np.uint8)),),
        metadata={"scheme": "W3A4", "note": [1, None, {"deep": 0.5}]},
    )  # fmt: skip


def codes_for(network: IntegerNetwork, batch: int, seed: int = 0) -> list[np.ndarray]:
    """Return random codes for every input."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(0, len(item.tensor.codebook), (batch, *item.tensor.shape)).astype(np.uint8)
        for item in network.inputs
    ]
