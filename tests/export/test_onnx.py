"""The ONNX model against the integer network: ONNX Runtime, and the standard's own evaluator."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

import nupes
from nupes.export.onnx import OPSET, InputKind, build_onnx, export_onnx
from nupes.model.network import InputEncoder, IntegerNetwork
from nupes.model.operators import Conv
from nupes.model.packing import unpack_codes
from tests.export.cases import (
    badly_named,
    digits,
    edges,
    images_for,
    input_codes,
    largest_sum,
    recurrent,
    renamed,
    results_of,
    several_ends,
)
from tests.images import images_of
from tests.model.tiny import tiny_network
from tests.networks import JOINS, networks
from tests.small import small_network
from tests.small_joins import small_joins


def start(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session with every optimization, as by default, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def check(network: IntegerNetwork, images: np.ndarray, kind: InputKind = "float64") -> None:
    """Compare both outputs of ONNX Runtime with the network's, to the last bit."""
    results = start(build_onnx(network, kind)).run(["y", "output"], {"images": images})
    y, output = map(np.asarray, results)
    expected = network.run(network.encode(images))
    assert (y.dtype, output.dtype) == (np.int16, np.float64)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(output, network(images))


@settings(max_examples=30)
@given(networks(also=JOINS))
def test_random_networks(network: IntegerNetwork) -> None:
    check(network, images_of(network, 3))


@settings(max_examples=30)
@given(edges())
def test_every_field_at_its_limits(network: IntegerNetwork) -> None:
    check(network, images_of(network, 3))


@settings(max_examples=15)
@given(networks(3, also=JOINS))
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_standard_evaluator_agrees(network: IntegerNetwork) -> None:
    """The evaluator that comes with the standard has no kernels to be clever about.

    It cannot place a window that lies in the padding alone (it fails, or reads another pixel); ONNX
    Runtime can, above.
    """
    for op in (layer.op for layer in network.layers if isinstance(layer.op, Conv)):
        height, width = (d * (k - 1) + 1 for d, k in zip(op.dilation, op.kernel, strict=True))
        top, bottom, left, right = op.padding
        assume(max(top, bottom) < height and max(left, right) < width)
    codes = input_codes(network, 2)
    evaluator = ReferenceEvaluator(build_onnx(network, "codes"))
    (y,) = evaluator.run(["y"], {"codes": codes.transpose(0, 3, 1, 2).copy()})
    np.testing.assert_array_equal(y, network.run(codes))


@pytest.mark.parametrize("codebook", ["power", "uniform"])
def test_digits(codebook: Literal["power", "uniform"]) -> None:
    network, images = digits(codebook)
    check(network, images, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet8", "ResNet20"])
@pytest.mark.parametrize("codebook", ["power", "uniform"])
def test_residual_networks_with_random_weights(
    name: str, codebook: Literal["power", "uniform"]
) -> None:
    import torch

    torch.manual_seed(0)
    module = getattr(import_module(f"nupes.examples.pretrained.{name.lower()}"), name)
    images = np.random.default_rng(0).uniform(0, 1, (20, 3, 32, 32)).astype(np.float32)
    network = nupes.quantize(
        module().eval(), "W4A4", calibration=images[:8], codebook=codebook, method="search"
    )
    check(network, images, "float32")


@pytest.mark.parametrize(
    ("level", "weight", "channels", "convolutions"),
    [(255, 127, 66000, 2), (255, -128, 65700, 2), (-256, -128, 65535, 2), (127, 127, 130000, 1)],
)
def test_accumulators_at_the_end_of_32_bits(
    level: int, weight: int, channels: int, convolutions: int
) -> None:
    network = largest_sum(level, weight, channels)
    model = build_onnx(network, "codes")
    assert sum(node.op_type == "ConvInteger" for node in model.graph.node) == convolutions
    source = network.the_input.tensor
    codes = np.stack([
        np.full(source.shape, code, np.uint8) for code in range(len(source.codebook))
    ])  # fmt: skip
    (y,) = start(model).run(["y"], {"codes": codes.transpose(0, 3, 1, 2).copy()})
    expected = network.run(codes)
    assert np.abs(expected.astype(int)).max() > 30000
    np.testing.assert_array_equal(y, expected)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_input_thresholds_are_compared_in_double_precision(seed: int) -> None:
    """Values on, just under and just above thresholds, repeated thresholds, infinities."""
    rng = np.random.default_rng(seed)
    network = small_network()
    thresholds = np.sort(rng.normal(0, 10, (1, 15)))
    thresholds[0, 3] = thresholds[0, 4]
    thresholds[0, 14] = rng.choice([np.inf, max(20.0, thresholds[0, 13])])
    network = replace(
        network, inputs=(replace(network.the_input, encoder=InputEncoder(thresholds)),)
    )
    near = np.concatenate([
        thresholds[0], np.nextafter(thresholds[0], np.inf), np.nextafter(thresholds[0], -np.inf),
        [np.inf, -np.inf, 0.0],
    ])  # fmt: skip
    check(network, rng.choice(near, (20, 1, 4, 4)))


def test_single_precision_images_and_any_batch() -> None:
    network = small_network()
    session = start(build_onnx(network))
    for count in (0, 1, 7):
        images = np.random.default_rng(count).uniform(0, 15, (count, 1, 4, 4)).astype(np.float32)
        (output,) = session.run(["output"], {"images": images})
        np.testing.assert_array_equal(output, network(images))


def test_model_is_standard() -> None:
    network = digits()[0]
    model = build_onnx(network)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    real = {item.name for item in model.graph.initializer if item.data_type in (1, 10, 11)}
    assert real == {"input/thresholds", "scale"}


def test_weights_are_stored_as_packed_codes() -> None:
    network = digits()[0]
    stored = {item.name: item for item in build_onnx(network).graph.initializer}
    for layer in network.layers:
        if isinstance(layer.op, Conv):
            item = stored[f"layers/{layer.name}/weight_codes"]
            bits = 4 if layer.op.codebook.bits <= 4 else 8
            raw = np.frombuffer(item.raw_data, np.uint8)
            codes = unpack_codes(raw, bits, layer.op.codes.shape)
            np.testing.assert_array_equal(codes, layer.op.codes)


@settings(max_examples=10)
@given(st.one_of(badly_named(small_joins()), badly_named(several_ends())))
def test_names_cannot_collide(network: IntegerNetwork) -> None:
    """Whatever layers and tensors are called; two of these layers share names with parts of each
    other."""
    check_ends(network, images_for(network, 2))


def test_names_of_parts_cannot_collide() -> None:
    network = tiny_network()
    names = ["a", "a/input", "a/weight", "layers/a"]
    layers = [replace(layer, name=name) for layer, name in zip(network.layers, names, strict=True)]
    check(replace(network, layers=tuple(layers)), images_of(network, 2))


def test_names_of_ends_cannot_collide() -> None:
    """The second output is called like the shape of the first one."""
    network = several_ends()
    tensors = [f"t{index}" for index in range(len(network.tensors) - 1)]
    first = list(network.tensors).index(network.outputs[1].tensor)
    tensors[first] = "a"
    layers = [layer.name for layer in network.layers]
    check_ends(renamed(network, layers, [*tensors, "a_shape"]), images_for(network, 2))


def check_ends(network: IntegerNetwork, images: list[np.ndarray]) -> None:
    """Compare every output of ONNX Runtime with the network's, to the last bit; ends in order."""
    model = build_onnx(network, "float32")
    feeds = {item.name: part for item, part in zip(model.graph.input, images, strict=True)}
    names = [item.name for item in model.graph.output]
    results = [np.asarray(item) for item in start(model).run(names, feeds)]
    integers = network.run_all(*network.encode_all(*images))
    for got, wanted in zip(results[0::2], integers, strict=True):
        np.testing.assert_array_equal(got, wanted)
    for got, wanted in zip(results[1::2], results_of(network, images), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_several_inputs_and_outputs() -> None:
    network = several_ends()
    check_ends(network, images_for(network, 5))
    graph = build_onnx(network).graph
    assert [item.name for item in graph.input] == ["images/left%2F0", "images/right%20%2A%2F%200"]
    assert [item.name for item in graph.output] == ["y/y%2F1", "output/y%2F1", "y/y", "output/y"]


def test_state_goes_in_and_out() -> None:
    network = recurrent()
    session = start(build_onnx(network, "codes"))
    state = {
        f"state/{item.tensor.name}": item.initial.transpose(2, 0, 1)[np.newaxis]
        for item in network.state
    }
    stored: dict[str, np.ndarray] = {}
    for seed in range(4):
        codes = input_codes(network, 1, seed)
        (wanted,), stored = network.advance(stored, codes)
        feeds = {"codes": codes.transpose(0, 3, 1, 2).copy(), **state}
        names = [f"next/{item.tensor.name}" for item in network.state]
        y, *after = map(np.asarray, session.run(["y", *names], feeds))
        np.testing.assert_array_equal(y, wanted)
        state = dict(zip(state, after, strict=True))
    assert len(np.unique(y)) > 2


def test_gate_and_skip() -> None:
    network = small_joins()
    check(network, np.random.default_rng(0).uniform(0, 15, (50, 2, 4, 4)))
    assert len(np.unique(network.run(input_codes(network, 50)))) > 50


def test_file_is_the_same_every_time(tmp_path: Path) -> None:
    one, two = (export_onnx(small_network(), tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert onnx.load(one).producer_name == "nupes"


def test_unknown_input_is_refused() -> None:
    with pytest.raises(nupes.InputError, match="must be one of float32, float64, codes, not 'int'"):
        build_onnx(small_network(), "int")  # type: ignore[arg-type]
