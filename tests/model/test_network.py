"""Whole networks: exact execution against the reference, bad input, and every rule by its text."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from nupes.model import network as module
from nupes.model.arithmetic import exact_matmul
from nupes.model.codebook import make_codebook, table_codebook
from nupes.model.errors import CapacityError, InputError
from nupes.model.layer import Encoder, Post, Residual
from nupes.model.network import Input, InputEncoder, IntegerNetwork, Output
from nupes.model.operators import Conv, MaxPool, Select, conv
from nupes.model.tensor import Port
from tests.assemble import assemble, coded, layer_of, wide
from tests.images import images_of
from tests.model.reference import network as reference
from tests.model.tiny import broken, requantize, tiny_network
from tests.networks import JOINS, networks


@settings(max_examples=60)
@given(networks(also=JOINS, ranges=True))
def test_random_networks_equal_the_reference(network: IntegerNetwork) -> None:
    codes = network.encode(images_of(network, 2))
    got = network.run(codes)
    assert got.dtype == np.int16
    assert got.shape == (2, *network.the_output.shape)
    assert got.reshape(2, -1).tolist() == [reference.run(network, image) for image in codes]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_network()
    images = images_of(network, 7)
    whole = network(images)
    monkeypatch.setattr(module, "CHUNK_PIXELS", 32)  # four chunks, on several threads
    np.testing.assert_array_equal(network(images), whole)


@settings(max_examples=30)
@given(networks())
def test_every_product_stays_within_its_bound(network: IntegerNetwork) -> None:
    def checked(left: np.ndarray, right: np.ndarray, bound: int) -> np.ndarray:
        up, down = (np.maximum(sign * left, 0).astype(np.int64) for sign in (1, -1))
        high, low = (np.maximum(sign * right, 0).astype(np.int64) for sign in (1, -1))
        assert max((up @ high + down @ low).max(), (up @ low + down @ high).max()) <= bound
        return exact_matmul(left, right, bound)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "exact_matmul", checked)
        network(images_of(network, 2))


def test_call_is_y_times_scale() -> None:
    network = tiny_network()
    images = images_of(network, 2)
    result = network(images)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, network.run(network.encode(images)) * 0.25)


def test_no_images_give_no_results() -> None:
    assert tiny_network()(np.zeros((0, 2, 4, 4))).shape == (0, 3)


def test_encode_counts_thresholds_of_its_channel() -> None:
    network = tiny_network()
    thresholds = np.stack([np.arange(15.0), np.arange(15.0) + 100])
    network = replace(network, inputs=(Input(network.the_input.tensor, InputEncoder(thresholds)),))
    images = np.zeros((1, 2, 4, 4))
    images[0, 0, 0] = [-np.inf, -1e-300, 0, 3]
    images[0, 1, 0] = [np.inf, 99, 100, 100.5]
    codes = network.encode(images)
    assert codes[0, 0, :, 0].tolist() == [0, 0, 1, 4]
    assert codes[0, 0, :, 1].tolist() == [15, 0, 1, 1]


def test_encode_takes_integers_and_narrow_floats() -> None:
    network = tiny_network()
    images = images_of(network, 2)
    for dtype in (np.uint8, np.int64, np.float32, np.float16):
        np.testing.assert_array_equal(network.encode(images.astype(dtype)), network.encode(images))


def test_trace_yields_what_each_layer_stores() -> None:
    network = tiny_network()
    codes = network.encode(images_of(network, 2))
    results = dict((layer.name, result) for layer, result in network.trace(codes))
    assert list(results) == ["one", "two", "pool", "head"]
    assert results["pool"].shape == (2, 2, 2, 2)
    assert results["pool"].dtype == np.uint8
    np.testing.assert_array_equal(results["head"].reshape(2, 3), network.run(codes))


def test_macs_and_shapes() -> None:
    network = tiny_network()
    assert network.macs == {"one": 16 * 36, "two": 16 * 4, "pool": 0, "head": 24}
    assert list(network.tensors) == ["input", "a", "b", "c", "y"]
    assert list(network.stored) == ["input", "a", "b", "c"]


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((2, 4, 4)), "images must have shape (batch, 2, 4, 4), not (2, 4, 4)"),
        (np.zeros((1, 3, 4, 4)), "images must have shape (batch, 2, 4, 4), not (1, 3, 4, 4)"),
        (np.zeros((1, 2, 4, 4), bool), "images must be real numbers, not bool"),
        (np.zeros((1, 2, 4, 4), complex), "images must be real numbers, not complex128"),
        (np.full((1, 2, 4, 4), "x"), "images must be real numbers, not <U1"),
    ],
)
def test_bad_images_are_refused(images: np.ndarray, text: str) -> None:
    with pytest.raises(InputError) as error:
        tiny_network()(images)
    assert str(error.value) == text


def test_nan_is_refused_with_its_image() -> None:
    images = np.zeros((5, 2, 4, 4))
    images[3, 1, 2, 2] = np.nan
    with pytest.raises(InputError) as error:
        tiny_network()(images)
    assert str(error.value) == "images must not contain NaN; image 3 does"


WIDE = make_codebook("uniform", 8, True, 255)
ALL_ONE = np.ones(2, np.int32)


def encoder(thresholds: list[int], codes: list[int]) -> Encoder:
    """Return an encoder from lists."""
    return Encoder(np.array(thresholds), np.array(codes))


COPY = "a max_pool must copy codes, without requantization"
BROKEN: list[tuple[int, dict[str, Any], str]] = [
    (1, {"inputs": (Port("x"),)}, "layer 'two' reads tensor 'x', which no earlier layer stores"),
    (1, {"inputs": (Port("c"),)}, "layer 'two' reads tensor 'c', which no earlier layer stores"),
    (1, {"inputs": ()}, "layer 'two': conv must not read 0 tensors"),
    (1, {"inputs": (Port("a"), Port("a"))}, "layer 'two': conv must not read 2 tensors"),
    (1, {"inputs": (Port("a", 1, 2),)},
     "layer 'two': channels read of tensor 'a' must lie in its 2, not 1..3"),
    (1, {"inputs": (Port("a", 2),)},
     "layer 'two': channels read of tensor 'a' must lie in its 2, not 2..2"),
    (1, {"inputs": (Port("a", -1, 1),)},
     "layer 'two': channels read of tensor 'a' must lie in its 2, not -1..0"),
    (1, {"post": {"residual": Residual(Port("x"), 1, 1)}},
     "layer 'two' reads tensor 'x', which no earlier layer stores"),
    (1, {"name": "one"}, "layer 'one': layer name must be unique"),
    (1, {"output": wide("b", (4, 4, 2))},
     "layer 'two': its output must be wide exactly if it has no encoder"),
    (1, {"post": {"encoder": None}},
     "layer 'two': its output must be wide exactly if it has no encoder"),
    (3, {"post": {"encoder": encoder([], [0])}},
     "layer 'head': its output must be wide exactly if it has no encoder"),
    (3, {"inputs": (Port("y"),)}, "layer 'head' reads tensor 'y', which no earlier layer stores"),
    (0, {"output": {"shape": (4, 4, 3)}},
     "layer 'one' gives shape (4, 4, 2), but its output tensor has (4, 4, 3)"),
    (0, {"output": {"name": "input"}}, "layer 'one': tensor name 'input' must be unique"),
    (0, {"output": {"format": {"scale": 0.0}}},
     "layer 'one': scale of tensor 'a' must be a positive number, not 0.0"),
    (0, {"output": {"format": {"scale": float("nan")}}},
     "layer 'one': scale of tensor 'a' must be a positive number, not nan"),
    (0, {"output": {"format": {"scale": "1"}}},
     "layer 'one': scale of tensor 'a' must be a positive number, not '1'"),
    (0, {"op": {"padding": (0, 0, 0)}},
     "layer 'one': padding must be 4 integers in -1048576..1048576, not (0, 0, 0)"),
    (0, {"op": {"stride": (0, 1)}},
     "layer 'one': stride must be 2 integers in 1..1048576, not (0, 1)"),
    (0, {"op": {"stride": (1.5, 1)}},
     "layer 'one': stride must be 2 integers in 1..1048576, not (1.5, 1)"),
    (0, {"op": {"dilation": (1, 0)}},
     "layer 'one': dilation must be 2 integers in 1..1048576, not (1, 0)"),
    (2, {"op": {"kernel": (0, 2)}},
     "layer 'pool': kernel must be 2 integers in 1..1048576, not (0, 2)"),
    (0, {"op": {"groups": 0}}, "layer 'one': groups must be an integer in 1..1048576, not 0"),
    (0, {"op": {"groups": 3}}, "layer 'one': 2 channels must divide in 3 groups"),
    (0, {"op": {"scale": np.ones(3)}},
     "layer 'one': weight scale must be float64 of shape (2,), not float64 of shape (3,)"),
    (0, {"op": Select(())}, "layer 'one': a selection must be of 1 to 1048576 channels, not 0"),
    (0, {"op": {"dilation": (3, 1)}},
     "layer 'one': window of 7 must fit the padded input of 6 (axis h)"),
    (0, {"op": {"groups": 2}}, "layer 'one': convolution expects 4 input channels, not 2"),
    (0, {"op": {"codebook": WIDE}},
     "layer 'one': weight levels must fit signed 8 bits, not [-255  255]"),
    (0, {"op": {"codebook": table_codebook([-1, 1], 1)}},
     "layer 'one': weight codes must be below 2"),
    (0, {"op": {"codes": np.zeros((2, 2, 3, 3))}},
     ("layer 'one': weight codes must be uint8 of shape (n, c, kh, kw), "
      "not float64 of shape (2, 2, 3, 3)")),
    (0, {"op": {"codes": np.zeros((2, 2, 3), np.uint8)}},
     ("layer 'one': weight codes must be uint8 of shape (n, c, kh, kw), "
      "not uint8 of shape (2, 2, 3)")),
    (2, {"post": Post(requantize(2))}, f"layer 'pool': {COPY}"),
    (2, {"output": wide("c", (2, 2, 2))}, f"layer 'pool': {COPY}"),
    (2, {"output": {"format": {"codebook": WIDE}}},
     ("layer 'pool': a max_pool copies codes, so tensor 'b' and its output must have one codebook "
      "and one scale")),
    (2, {"output": {"format": {"scale": 0.25}}},
     ("layer 'pool': a max_pool copies codes, so tensor 'b' and its output must have one codebook "
      "and one scale")),
    (2, {"op": MaxPool((2, 2), (2, 2), (3, 1, 0, 0)), "output": {"shape": (4, 2, 2)}},
     "layer 'pool': every max-pool window must hold a real tap; reduce its padding"),
    (0, {"post": None}, "layer 'one' must have a requantization"),
    (0, {"post": {"requantize": {"mult": np.ones(3, np.int32)}}},
     "layer 'one': mult must have shape (2,), not (3,)"),
    (0, {"post": {"requantize": {"mult": ALL_ONE * 65536}}},
     "layer 'one': mult must lie in -65535..65535, not 65536..65536"),
    (0, {"post": {"requantize": {"mult": ALL_ONE * -65536}}},
     "layer 'one': mult must lie in -65535..65535, not -65536..-65536"),
    (0, {"post": {"requantize": {"mult": ALL_ONE * 0.5}}},
     "layer 'one': mult must be a vector of integers, not 1-d float64"),
    (0, {"post": {"requantize": {"shift": ALL_ONE * 0}}},
     "layer 'one': shift must lie in 1..31, not 0..0"),
    (0, {"post": {"requantize": {"shift": ALL_ONE * 32}}},
     "layer 'one': shift must lie in 1..31, not 32..32"),
    (0, {"post": {"requantize": {"bias": ALL_ONE.astype(np.int64) << 47}}},
     ("layer 'one': bias must lie in -140737488355328..140737488355327, "
      "not 140737488355328..140737488355328")),
    (0, {"post": {"encoder": encoder([1, 2], [0, 1])}},
     "layer 'one': encoder must have at most 31 thresholds and one code more"),
    (0, {"post": {"encoder": encoder([0] * 32, [0] * 33)}},
     "layer 'one': encoder must have at most 31 thresholds and one code more"),
    (0, {"post": {"encoder": encoder([2, 1], [0, 1, 2])}},
     "layer 'one': encoder thresholds must be non-decreasing"),
    (0, {"post": {"encoder": encoder([0, 32768], [0, 1, 2])}},
     "layer 'one': encoder thresholds must lie in -32768..32767, not 0..32768"),
    (0, {"post": {"encoder": encoder([0], [0, 16])}},
     "layer 'one': encoder codes must be below 16"),
    (0, {"post": {"encoder": encoder([0], [-1, 1])}},
     "layer 'one': encoder codes must be at least 0, not -1"),
    (1, {"post": {"residual": Residual(Port("b"), 1, 1)}},
     "layer 'two' reads tensor 'b', which no earlier layer stores"),
    (3, {"post": {"residual": Residual(Port("a"), 1, 1)}},
     ("layer 'head': skip tensor 'a' must have shape (1, 1, 3), or one pixel for all, not "
      "(4, 4, 2)")),
    (1, {"post": {"residual": Residual(Port("a"), 65536, 1)}},
     "layer 'two': residual mult must be an integer in 0..65535, not 65536"),
    (1, {"post": {"residual": Residual(Port("a"), 1, 0)}},
     "layer 'two': residual shift must be an integer in 1..31, not 0"),
    (1, {"post": {"residual": Residual(Port("a"), 1, 1.5)}},  # pyright: ignore[reportArgumentType]
     "layer 'two': residual shift must be an integer in 1..31, not 1.5"),
]  # fmt: skip


@pytest.mark.parametrize(("index", "changes", "text"), BROKEN)
def test_broken_layers_are_refused(index: int, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as error:
        broken(index, **changes)
    assert str(error.value) == text


def thresholds(values: np.ndarray) -> dict[str, Any]:
    """Return the tiny network's input with these thresholds."""
    return {"inputs": (Input(tiny_network().the_input.tensor, InputEncoder(values)),)}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"layers": ()}, "network must have at least one layer"),
        ({"inputs": ()}, "network must have at least one input"),
        ({"outputs": ()}, "network must have at least one output"),
        ({"outputs": (Output("c", (8,)),)}, "output 'c' must be a wide tensor that a layer stores"),
        ({"outputs": (Output("y", (3,)),) * 2}, "outputs must be different tensors"),
        (
            {"outputs": (Output("y", (4,)),)},
            "output 'y': shape (4,) must hold the (1, 1, 3) of its tensor",
        ),
        (thresholds(np.zeros((1, 15))), "input thresholds must have shape (2, 15), not (1, 15)"),
        (thresholds(np.full((2, 15), np.nan)), "input thresholds must be non-decreasing numbers"),
        (
            thresholds(np.tile(-np.arange(15.0), (2, 1))),
            "input thresholds must be non-decreasing numbers",
        ),
        (
            thresholds(np.zeros((2, 15), np.float32)),
            "input thresholds must be float64, not float32",
        ),
    ],
)
def test_broken_networks_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as error:
        replace(tiny_network(), **changes)
    assert str(error.value) == text


def wide_layer(channels: int) -> IntegerNetwork:
    """Return one layer whose accumulator reaches 127 * 255 * channels."""
    book = table_codebook([0, 255], 1)
    op = Conv(np.zeros((1, channels, 1, 1), np.uint8), table_codebook([-127], 1), np.ones(1))
    layer = layer_of("wide", op, "input", wide("y", (1, 1, 1)), requantize(1))
    return assemble(coded("input", (1, 1, channels), book), [layer], (1,))


def test_an_accumulator_that_could_overflow_is_refused() -> None:
    most = (2**31 - 1) // (127 * 255)
    images = np.ones((1, most, 1, 1))
    assert wide_layer(most).run(wide_layer(most).encode(images)).tolist() == [[-32768]]
    with pytest.raises(CapacityError) as error:
        wide_layer(most + 1)
    assert str(error.value) == (
        f"layer 'wide': accumulator could reach {127 * 255 * (most + 1)}, beyond 32 bits; "
        "use fewer bits or split it"
    )
