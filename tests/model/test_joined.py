"""Networks with several inputs and outputs, ranges of channels, wide tensors and state."""

from dataclasses import replace

import numpy as np
import pytest

from nupes.model import network as module
from nupes.model.errors import InputError, UnsupportedError
from nupes.model.layer import Residual
from nupes.model.network import IntegerNetwork, Output, State
from nupes.model.operators import Concat, Select
from nupes.model.tensor import Port
from tests.assemble import coded, layer_of, wide
from tests.model.joined import codes_for, joined_network
from tests.model.reference import network as reference
from tests.model.tiny import requantize, tiny_network


def test_runs_with_state_equal_the_reference() -> None:
    """Three runs of two images each, each image with a state of its own."""
    changes = 0
    for seed in range(8):
        network = joined_network(seed)
        state: dict[str, np.ndarray] = {}
        wanted: list[dict] = [{}, {}]
        for step in range(3):
            codes, before = codes_for(network, 2, 10 * seed + step), state
            results, state = network.advance(before, *codes)
            for image in range(2):
                want, wanted[image] = reference.advance(
                    network, wanted[image], *(part[image] for part in codes)
                )
                assert [y[image].reshape(-1).tolist() for y in results] == want
                assert {name: c[image].tolist() for name, c in state.items()} == wanted[image]
            changes += bool(before) and bool((before["memory"] != state["memory"]).any())
    assert changes > 8


def test_a_run_begins_with_the_initial_state(monkeypatch: pytest.MonkeyPatch) -> None:
    network = joined_network()
    codes = codes_for(network, 5)
    results = network.run_all(*codes)
    advanced, _ = network.advance({}, *codes)
    monkeypatch.setattr(module, "CHUNK_PIXELS", 16)
    for y, same, chunked in zip(results, advanced, network.run_all(*codes), strict=True):
        np.testing.assert_array_equal(y, same)
        np.testing.assert_array_equal(y, chunked)
    assert [y.shape for y in results] == [(5, 3), (5, 2, 1, 2)]
    assert [layer.name for layer, _ in network.trace(*codes)] == [x.name for x in network.layers]


def test_a_call_takes_every_input_and_gives_every_output() -> None:
    network = joined_network()
    images = [np.random.default_rng(0).normal(size=(2, c, 4, 4)) for c in (2, 1)]
    y, z = network(*images)
    expected = network.run_all(*network.encode_all(*images))
    np.testing.assert_array_equal(y, expected[0] * 0.125)
    np.testing.assert_array_equal(z, expected[1])


def test_a_residual_of_16_bits_is_read_as_it_is() -> None:
    """``y`` = 9 + 300 * 3 / 2, of levels 9 and a wide 300."""
    tiny = tiny_network()
    source = coded("input", (1, 1, 1), tiny.the_input.tensor.codebook)
    hundred = replace(requantize(1), bias=np.array([600]))
    layers = (
        layer_of("wide", Select.of([-1]), "input", wide("sums", (1, 1, 1)), hundred),
        layer_of(
            "add", Select.every(1), "input", wide("y", (1, 1, 1)),
            replace(requantize(1), mult=np.array([2])), Residual(Port("sums"), 3, 1),
        ),
    )  # fmt: skip
    row = np.arange(1, 16)[None] - 0.5
    network = IntegerNetwork(
        (module.Input(source, module.InputEncoder(row)),), layers, (Output("y", (1,)),)
    )
    assert network.run(np.full((1, 1, 1, 1), 9)).tolist() == [[9 + 450]]


def test_what_takes_one_input_or_output_refuses_several() -> None:
    network = joined_network()
    with pytest.raises(UnsupportedError, match="network must have one input here, not 2"):
        network.encode(np.zeros((1, 2, 4, 4)))
    with pytest.raises(UnsupportedError, match="network must have one output here, not 2"):
        network.the_output  # noqa: B018
    with pytest.raises(UnsupportedError, match="network must have one output here, not 2"):
        network.run(*codes_for(network, 1))


def test_codes_are_checked_wherever_they_come_in() -> None:
    network = tiny_network()
    codes = np.zeros((2, 4, 4, 2), np.int64)
    for run in (
        network.run,
        network.run_all,
        lambda c: list(network.trace(c)),
        lambda c: network.advance({}, c),
    ):
        for value in (-1, 16, 256, 2**40):
            codes[1, 0, 0, 0] = value
            with pytest.raises(InputError) as error:
                run(codes)
            low, high = min(value, 0), max(value, 0)
            assert str(error.value) == f"codes must lie in the codebook's 0..15, not {low}..{high}"
        with pytest.raises(InputError, match="codes must be integers, not float64"):
            run(np.zeros((1, 4, 4, 2)))
        with pytest.raises(InputError, match=r"codes must have shape \(batch, 4, 4, 2\), not"):
            run(np.zeros((1, 2, 4, 4), np.uint8))


def test_inputs_and_state_must_fit_each_other() -> None:
    network = joined_network()
    left, right = codes_for(network, 2)
    with pytest.raises(InputError, match="network must get 2 inputs, not 1"):
        network.run_all(left)
    with pytest.raises(InputError, match=r"inputs must have one batch size, not \[2, 1\]"):
        network.run_all(left, right[:1])
    with pytest.raises(InputError, match=r"state must have the tensors \['memory'\], not \['x'\]"):
        network.advance({"x": left}, left, right)
    with pytest.raises(InputError, match="state must be that of 2 images"):
        network.advance({"memory": left[:1]}, left, right)
    with pytest.raises(
        InputError, match=r"state 'memory' must lie in the codebook's 0..15, not -1..0"
    ):
        network.advance({"memory": np.zeros(left.shape, int) - (left == 0)}, left, right)


def changed(**changes: object) -> None:
    """Make the joined network with other parts."""
    replace(joined_network(), **changes)


def test_broken_state_is_refused() -> None:
    network = joined_network()
    (state,) = network.state
    rule = "tensor 'y' that it is written as must exist and have its shape, codebook and scale"
    with pytest.raises(InputError, match=f"state 'memory': {rule}"):
        changed(state=(replace(state, written="y"),))
    for initial in (state.initial[:2], state.initial.astype(int), state.initial + np.uint8(16)):
        with pytest.raises(
            InputError, match=r"state 'memory': its codes must be uint8 of shape \(4, 4, 2\) in"
        ):
            changed(state=(replace(state, initial=initial),))
    with pytest.raises(InputError, match="state 'left': tensor name 'left' must be unique"):
        changed(state=(State(network.inputs[0].tensor, "next", state.initial),))


def test_wide_tensors_are_read_as_residuals_alone() -> None:
    network = joined_network()
    layers = list(network.layers)
    layers[7] = replace(layers[7], inputs=(Port("sums"),))
    with pytest.raises(InputError, match="layer 'head': conv must read coded tensors, 'sums' is"):
        changed(layers=tuple(layers))


def test_parts_of_a_concatenation_share_codebook_and_scale() -> None:
    network = joined_network()
    layers = list(network.layers)
    assert isinstance(layers[0].op, Concat)
    layers[0] = replace(layers[0], output=coded("all", (4, 4, 5), layers[1].output.codebook, 0.25))
    with pytest.raises(InputError, match="layer 'join': a concat copies codes, so tensor 'left'"):
        changed(layers=tuple(layers))
