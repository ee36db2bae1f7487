"""Networks at the edges of the contract, and published shapes, for every export."""

from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
from hypothesis import strategies as st

import nupes
from nupes.model.codebook import make_codebook, table_codebook
from nupes.model.layer import Encoder, Layer, Post, Requantize, Residual
from nupes.model.network import Input, InputEncoder, IntegerNetwork, Output, State
from nupes.model.operators import Concat, Conv, Product, Select
from nupes.model.tensor import Port, Tensor
from tests.assemble import assemble, coded, layer_of, wide
from tests.networks import JOINS, networks

__all__ = [
    "badly_named",
    "digits",
    "edges",
    "images_for",
    "input_codes",
    "largest_sum",
    "recurrent",
    "renamed",
    "results_of",
    "several_ends",
]


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
    network = draw(networks(also=JOINS))
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


def several_ends() -> IntegerNetwork:
    """Return a network of two inputs and two outputs whose layers read ranges of channels and skip
    by 16-bit results, with names that no file format likes."""
    rng = np.random.default_rng(0)
    levels, weights = make_codebook("uniform", 4, True), make_codebook("uniform", 3, True)

    def tail(channels: int) -> Requantize:
        ones = np.ones(channels, np.int64)
        return Requantize(rng.integers(20000, 65536, channels), ones << 9, 10 * ones)

    def given(name: str, channels: int) -> Input:
        thresholds = np.sort(rng.normal(0, 8, (channels, len(levels) - 1)))
        return Input(coded(name, (4, 4, channels), levels), InputEncoder(thresholds))

    conv = Conv(
        rng.integers(0, len(weights), (4, 3, 3, 3)).astype(np.uint8),
        weights,
        np.ones(4),
        padding=(1, 1, 1, 1),
    )
    steps = Encoder(np.arange(-7, 7, dtype=np.int16) * 900, np.arange(15, dtype=np.uint8))
    left, right = given("left/0", 5), given("right */ 0", 4)
    first, second = wide("y", (4, 4, 4), 0.25), wide("y/1", (4, 4, 2))
    joined = coded("joined", (4, 4, 4), levels)
    weighed = coded("weighed", (4, 4, 3), levels)
    skip = Residual(Port("y", 1, 3), 30000, 16)
    layers = (
        Layer("y", conv, (Port("left/0", 1, 3),), first, Post(tail(4))),
        Layer("joined", Concat(), (Port("left/0", 3), Port("right */ 0", 1, 2)), joined),
        Layer(
            "input/levels",
            Product(),
            (Port("joined", 3, 1), Port("joined", 1, 3)),
            weighed,
            Post(tail(3), skip, steps),
        ),
        Layer(
            "layers/y",
            Select.every(2),
            (Port("weighed", 1),),
            second,
            Post(tail(2), Residual(Port("y", 0, 2), 65535, 15)),
        ),
    )
    outputs = Output("y/1", (2, 4, 4)), Output("y", (4, 4, 4))
    return IntegerNetwork((left, right), layers, outputs)


def recurrent() -> IntegerNetwork:
    """Return a network that convolves its image beside what it stored of the image before, and
    that hands on one state in another."""
    rng = np.random.default_rng(0)
    levels, weights = make_codebook("uniform", 4, False), make_codebook("uniform", 3, True)
    shape = 3, 3, 2
    thresholds = np.tile(np.arange(1, 16) - 0.5, (2, 1))
    before, older = coded("before", shape, levels), coded("older", shape, levels)
    both, after = coded("both", (3, 3, 6), levels), coded("after", shape, levels)
    op = Conv(
        rng.integers(0, len(weights), (2, 6, 3, 3)).astype(np.uint8),
        weights,
        np.ones(2),
        padding=(1, 1, 1, 1),
    )
    two = np.ones(2, np.int64)
    tail = Requantize(60000 * two, two << 11, 12 * two)
    steps = Encoder(np.arange(1, 16, dtype=np.int16) * 200, np.arange(16, dtype=np.uint8))
    layers = (
        layer_of("join", Concat(), ("x", "before", "older"), both),
        layer_of("mix", op, "both", after, tail, encoder=steps),
        layer_of("emit", Select.every(2), "after", wide("y", shape), tail),
    )
    initial = rng.integers(0, 16, (2, *shape)).astype(np.uint8)
    return IntegerNetwork(
        (Input(coded("x", shape, levels), InputEncoder(thresholds)),),
        layers,
        (Output("y", (2, 3, 3)),),
        (State(before, "after", initial[0]), State(older, "before", initial[1])),
    )


def images_for(network: IntegerNetwork, count: int) -> list[np.ndarray]:
    """Return random float32 images (b, c, h, w) for every input."""
    rng = np.random.default_rng(1)
    sizes = [item.tensor.shape for item in network.inputs]
    return [rng.normal(0, 8, (count, c, h, w)).astype(np.float32) for h, w, c in sizes]


def results_of(network: IntegerNetwork, images: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return what a network gives for each output, also if there is one."""
    results = network(*images)
    return results if isinstance(results, tuple) else (results,)


def renamed(network: IntegerNetwork, layers: list[str], tensors: list[str]) -> IntegerNetwork:
    """Return a network with other names of its layers, and of its tensors in their order."""
    names = dict(zip(network.tensors, tensors, strict=True))

    def tensor(item: Tensor) -> Tensor:
        return replace(item, name=names[item.name])

    def port(item: Port) -> Port:
        return replace(item, tensor=names[item.tensor])

    changed = []
    for layer, name in zip(network.layers, layers, strict=True):
        post = layer.post
        if post is not None and post.residual is not None:
            residual = replace(post.residual, port=port(post.residual.port))
            post = replace(post, residual=residual)
        inputs = tuple(map(port, layer.inputs))
        changed.append(Layer(name, layer.op, inputs, tensor(layer.output), post))
    return IntegerNetwork(
        tuple(replace(item, tensor=tensor(item.tensor)) for item in network.inputs),
        tuple(changed),
        tuple(replace(item, tensor=names[item.tensor]) for item in network.outputs),
    )


AWKWARD = (
    *("", "y", "output", "images", "input", "scale", "layers", "ü", "\\", "\n", "\0"),
    *("*/ #error", '"??/', "a", "a/input", "a/weight", "layers/a", "a%2Finput", "a_shape", "a_map"),
)

NAMES = st.sampled_from(AWKWARD) | st.text(max_size=6)
"""Names of layers and tensors that a format could take for something else."""


@st.composite
def badly_named(draw: st.DrawFn, network: IntegerNetwork) -> IntegerNetwork:
    """Draw names for a network."""

    def unique(count: int) -> list[str]:
        return draw(st.lists(NAMES, min_size=count, max_size=count, unique=True))

    return renamed(network, unique(len(network.layers)), unique(len(network.tensors)))
