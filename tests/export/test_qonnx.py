"""The QONNX model, executed by the qonnx package, against the integer network."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

import nupes
from nupes.export.qonnx import DOMAIN, build_qonnx, export_qonnx
from nupes.model.codebook import Codebook, make_codebook, table_codebook
from nupes.model.layer import Encoder, Requantize
from nupes.model.network import InputEncoder, IntegerNetwork
from nupes.model.operators import Conv
from nupes.model.tensor import Tensor
from tests.assemble import assemble, coded, layer_of, wide
from tests.export.cases import (
    badly_named,
    digits,
    edges,
    images_for,
    largest_sum,
    results_of,
    several_ends,
)
from tests.images import images_of
from tests.model.tiny import broken, tiny_network
from tests.networks import JOINS, networks
from tests.small_joins import small_joins


def check(network: IntegerNetwork, images: np.ndarray) -> None:
    """Execute the model image by image; compare with the network to the last bit."""
    model = ModelWrapper(build_qonnx(network))
    expected = network(images)
    for image, wanted in zip(images.astype(np.float32), expected, strict=True):
        results = execute_onnx(model, {"images": image[np.newaxis]})
        np.testing.assert_array_equal(results["output"][0], wanted)


def even(book: Codebook, weight: bool) -> Codebook:
    """Return the codebook of as many equally spaced levels."""
    count, low = len(book), int(book.levels[0])
    if weight:
        low = -(count // 2) if count > 2 else 0
        return table_codebook(np.arange(low, low + count), book.bits)
    step = 2 if len(book) <= 16 and low % 2 else 1
    low = max(-256, min(low, 255 - step * (count - 1)))
    return table_codebook(low + step * np.arange(count), book.bits)


def representable(network: IntegerNetwork) -> IntegerNetwork:
    """Return a network of the same graph with uniform codebooks and functions that never fall."""

    def tensor(item: Tensor) -> Tensor:
        return coded(item.name, item.shape, even(item.codebook, weight=False), item.scale)

    layers = []
    for layer in network.layers:
        op, post = layer.op, layer.post
        if isinstance(op, Conv):
            op = replace(op, codebook=even(op.codebook, weight=True))
        if post is not None and layer.encoder is not None:
            encoder = Encoder(layer.encoder.thresholds, np.sort(layer.encoder.codes))
            post = replace(post, encoder=encoder)
        output = layer.output if layer.wide else tensor(layer.output)
        layers.append(replace(layer, op=op, post=post, output=output))
    source = replace(network.the_input, tensor=tensor(network.the_input.tensor))
    return replace(network, inputs=(source,), layers=tuple(layers))


@settings(max_examples=15)
@given(st.one_of(networks(also=JOINS), edges()).map(representable))
def test_random_networks(network: IntegerNetwork) -> None:
    check(network, images_of(network, 2))


@pytest.mark.slow
@settings(max_examples=150)
@given(st.one_of(networks(also=JOINS), edges()).map(representable))
def test_many_networks(network: IntegerNetwork) -> None:
    check(network, images_of(network, 2))


@pytest.mark.slow
def test_digits() -> None:
    network, images = digits("uniform")
    check(network, images[:100])


def test_thresholds_are_rounded_up_to_single_precision() -> None:
    """Every float32 next to a threshold, and the infinities."""
    network = representable(tiny_network())
    rng = np.random.default_rng(0)
    thresholds = np.sort(rng.normal(0, 1, (2, 15)))
    thresholds[0, [0, 14]] = -1e300, 1e300
    network = replace(
        network, inputs=(replace(network.the_input, encoder=InputEncoder(thresholds)),)
    )
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32).reshape(-1)
    near = near[np.isfinite(near)]
    values = np.concatenate([
        near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9)),
        np.array([np.inf, -np.inf], np.float32),
    ])  # fmt: skip
    check(network, rng.choice(values, (20, 2, 4, 4)))


def test_weights_are_quant_nodes_of_their_bits() -> None:
    network = representable(tiny_network())
    model = ModelWrapper(build_qonnx(network))
    for layer in network.layers:
        if isinstance(layer.op, Conv):
            (node,) = (n for n in model.graph.node if n.name == f"layers/{layer.name}/weight")
            assert (node.op_type, node.domain) == ("Quant", DOMAIN)
            assert model.get_initializer(node.input[3]) == layer.op.codebook.bits


def test_power_weights_are_refused_by_layer() -> None:
    with pytest.raises(
        nupes.UnsupportedError,
        match="layer 'one': weight codebook must have equally spaced levels in QONNX, not a power",
    ):
        build_qonnx(tiny_network())


def test_power_tensors_are_refused_by_layer() -> None:
    network = representable(tiny_network())
    first = network.layers[0]
    book = make_codebook("power", 4, False, 255, 0.5)
    first = replace(first, output=coded(first.output.name, first.output.shape, book))
    with pytest.raises(nupes.UnsupportedError, match="layer 'one': output codebook must have"):
        build_qonnx(replace(network, layers=(first, *network.layers[1:])))


def test_turning_points_are_refused_by_layer() -> None:
    valley = Encoder(np.array([-5, 5], np.int16), np.array([1, 0, 2], np.uint8))
    network = representable(broken(0))
    first = network.layers[0]
    assert first.post is not None
    first = replace(first, post=replace(first.post, encoder=valley))
    with pytest.raises(nupes.UnsupportedError, match="layer 'one': activation function must not"):
        build_qonnx(replace(network, layers=(first, *network.layers[1:])))


def test_large_accumulators_are_refused_by_layer() -> None:
    network = largest_sum(0, 127, 140_000)
    with pytest.raises(
        nupes.UnsupportedError, match=r"layer 'sum': accumulator must stay below 2\*\*24.* 17780000"
    ):
        build_qonnx(network)


def test_weights_outside_their_bits_are_refused_by_layer() -> None:
    source = coded("input", (1, 1, 1), table_codebook([0, 1], 1))
    one = np.ones(1, np.int64)
    op = Conv(np.zeros((1, 1, 1, 1), np.uint8), table_codebook([100, 101], 2), np.ones(1))
    layer = layer_of("far", op, "input", wide("y", (1, 1, 1)), Requantize(one, one, one))
    network = assemble(source, [layer], (1,))
    with pytest.raises(nupes.UnsupportedError, match=r"layer 'far'.* fit 2 bits .*not 100\.\.101"):
        build_qonnx(network)


def check_ends(network: IntegerNetwork, images: list[np.ndarray]) -> None:
    """Compare every output, image by image."""
    model = ModelWrapper(build_qonnx(network))
    inputs = [item.name for item in model.graph.input]
    outputs = [item.name for item in model.graph.output]
    expected = results_of(network, images)
    for index in range(len(images[0])):
        feeds = {n: part[index : index + 1] for n, part in zip(inputs, images, strict=True)}
        results = execute_onnx(model, feeds)
        for name, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_array_equal(results[name][0], wanted[index])


def test_several_inputs_and_outputs() -> None:
    network = several_ends()
    check_ends(network, images_for(network, 3))


def test_gate_and_skip() -> None:
    network = small_joins()
    check(network, np.random.default_rng(0).uniform(0, 15, (5, 2, 4, 4)))


@settings(max_examples=8)
@given(st.one_of(badly_named(small_joins()), badly_named(several_ends())))
def test_names_cannot_collide(network: IntegerNetwork) -> None:
    check_ends(network, images_for(network, 1))


def test_file_is_the_model(tmp_path) -> None:
    network = representable(tiny_network())
    path = export_qonnx(network, tmp_path / "net.onnx")
    assert path.read_bytes() == build_qonnx(network).SerializeToString(deterministic=True)
