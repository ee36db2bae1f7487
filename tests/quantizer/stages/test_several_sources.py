"""Operators of several sources go through the whole quantizer: they need no edit but their own."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.graph import (
    Concat,
    Convolution,
    Graph,
    Input,
    Node,
    Op,
    Pool,
    Product,
)
from nupes.quantizer.learning.units import learn
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.recipe import METHODS, Phase
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.search.equalization import equalize
from nupes.quantizer.search.layers import choose
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.operators import AveragePool
from nupes.quantizer.stages.run import run_float, run_quantized
from nupes.quantizer.stages.stage import FusedNetwork
from tests.quantizer.close import images, signal_to_noise

IMAGES = torch.from_numpy(images(60, 3, 6, 6))
X = Batch((IMAGES,))

RNG = np.random.default_rng(0)

WEIGHTS = {
    "wide": RNG.normal(size=(6, 3, 3, 3)),
    "narrow": RNG.normal(size=(2, 3, 1, 1)) * 3,
    "gate": RNG.normal(size=(8, 8, 1, 1)),
    "head": RNG.normal(size=(4, 8, 1, 1)),
}
"""Weights by the names of convolutions; those of 3x3 are padded."""


RELU = Function("relu", torch.relu, low=0.0)
TANH = Function("tanh", torch.tanh, -1.0, 1.0)
SIGMOID = Function("sigmoid", torch.sigmoid, 0.0, 1.0)


def build() -> Graph:
    """Return two branches that are concatenated, gated as in a squeeze-and-excitation block, and
    read by a head."""
    graph = Graph()

    def add(name: str, op: Op, inputs: tuple[str, ...], shape: tuple[int, int, int]) -> str:
        graph.nodes[name] = Node(name, op, inputs, shape)
        return name

    def conv(name: str, source: str, size: int) -> str:
        weight = WEIGHTS[name]
        edge = weight.shape[2] // 2
        op = Convolution(weight, np.zeros(len(weight)), padding=(edge,) * 4)
        return add(name, op, (source,), (size, size, len(weight)))

    source = add("input", Input(), (), (6, 6, 3))
    wide = add("relu", RELU, (conv("wide", source, 6),), (6, 6, 6))
    narrow = add("tanh", TANH, (conv("narrow", source, 6),), (6, 6, 2))
    both = add("both", Concat(), (wide, narrow), (6, 6, 8))
    mean = add("mean", Pool(AveragePool((6, 6), (1, 1)).lower(None), 1 / 36), (both,), (1, 1, 8))
    gate = add("sigmoid", SIGMOID, (conv("gate", mean, 1),), (1, 1, 8))
    gated = add("gated", Product(), (gate, both), (6, 6, 8))
    rest = add("relu_1", RELU, (gated,), (6, 6, 8))
    graph.outputs = [(conv("head", rest, 6), (4, 6, 6))]
    return graph


def expected(x: Tensor) -> Tensor:
    """Return what the network gives, written in PyTorch."""
    weights = {name: torch.from_numpy(weight).float() for name, weight in WEIGHTS.items()}
    wide = torch.relu(F.conv2d(x, weights["wide"], padding=1))
    both = torch.cat([wide, torch.tanh(F.conv2d(x, weights["narrow"]))], 1)
    gate = torch.sigmoid(F.conv2d(both.mean((2, 3), keepdim=True), weights["gate"]))
    return F.conv2d(torch.relu(gate * both), weights["head"])


def output(network: FusedNetwork) -> np.ndarray:
    """Return what the stages give in float."""
    maps = network.start(X)
    return run_float(network.stages, maps)[network.stages[-1].name].numpy()


def test_stages_equal_the_network() -> None:
    network = fuse(build())
    names = [stage.name for stage in network.stages]
    assert names == ["wide", "narrow", "both", "mean", "gate", "gated", "head"]
    np.testing.assert_allclose(output(network), expected(IMAGES), rtol=1e-4, atol=1e-4)


def test_equalization_leaves_the_network_the_same() -> None:
    network = fuse(build())
    found = output(equalize(network, X, dict.fromkeys(network.shapes, 4)))
    np.testing.assert_allclose(found, output(network), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["rtn", "powerquant", "search"])
def test_parts_share_one_code_that_serves_all(method: str) -> None:
    network = fuse(build())
    plan = plan_bits(network, parse_scheme("W8A8"), None, None, None, {})
    choices = choose(network, X, plan, METHODS[method])
    code = choices.tensors["wide"]
    assert choices.tensors["narrow"] is choices.tensors["both"] is code
    # One part has both signs, the other one is large: the first that is stored knows of both.
    assert code.codebook.levels[0] < 0
    found = run_quantized(network.stages, choices, {"input": IMAGES})["head"]
    assert signal_to_noise(expected(IMAGES).numpy(), found.numpy()) > 30


@pytest.mark.parametrize("unit", ["layer", "network"])
def test_learning_keeps_one_code(unit: str) -> None:
    network = fuse(build())
    plan = plan_bits(network, parse_scheme("W2A2"), None, None, None, {})
    choices = choose(network, X, plan, METHODS["rtn"])
    phase = Phase(unit, "straight", codes=1e-2, steps=40)  # type: ignore[arg-type]
    learned = learn(network, X, choices, phase, seed=0)
    assert learned.learned
    assert learned.tensors["narrow"] is learned.tensors["both"] is learned.tensors["wide"]
    before, after = (
        signal_to_noise(
            expected(IMAGES).numpy(),
            run_quantized(network.stages, c, {"input": IMAGES})["head"].numpy(),
        )
        for c in (choices, learned)
    )
    assert after > before
