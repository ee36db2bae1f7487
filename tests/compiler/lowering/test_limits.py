"""What no array can do yet is refused by name."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering import LOWERINGS
from nupes.compiler.program import compile
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork, Output, State
from nupes.model.operators import Select
from nupes.model.tensor import Tensor
from tests.assemble import layer_of, wide
from tests.model.tiny import requantize, tiny_network

CONFIG = ArrayConfig(4, 4)


def refusal(network: IntegerNetwork) -> str:
    """Return why a network is refused."""
    with pytest.raises(UnsupportedError) as error:
        compile(network, CONFIG)
    return str(error.value)


@dataclass(frozen=True)
class Unknown(Select):
    """An operator without a lowering."""

    kind = "unknown"


def stored_layer(network: IntegerNetwork) -> Layer:
    """Return the first layer that stores codes."""
    return next(layer for layer in network.layers if not layer.wide)


def copy(
    network: IntegerNetwork, output: Tensor, source: str = "", op: Select | None = None
) -> Layer:
    """Return a layer that emits what another one stores."""
    shape = output.shape
    name = source or stored_layer(network).output.name
    return layer_of("more", op or Select.every(shape[2]), name, output, requantize(shape[2]))


def test_an_operator_without_a_lowering() -> None:
    network = tiny_network()
    shape = stored_layer(network).output.shape
    last = copy(network, wide("more", shape), op=Unknown.every(shape[2]))
    network = replace(
        network,
        layers=(*network.layers[:1], last),
        outputs=(Output("more", (shape[2], *shape[:2])),),
    )
    assert refusal(network) == (
        "layer 'more': unknown cannot run on the array yet; operators that can: "
        + ", ".join(sorted(LOWERINGS))
    )


def test_wide_tensors() -> None:
    network = tiny_network()
    shape = stored_layer(network).output.shape
    more = copy(network, wide("more", shape))
    outputs = (*network.outputs, Output("more", (shape[2], *shape[:2])))
    both = replace(network, layers=(*network.layers, more), outputs=outputs)
    compile(both, CONFIG)
    unread = replace(both, outputs=network.outputs)
    assert refusal(unread) == (
        "layer 'more' must store codes or be an output: 16-bit tensors need an array with "
        "attention=True"
    )


def test_negative_multipliers() -> None:
    network = tiny_network()
    layer = network.layers[0]
    assert layer.post is not None
    tail = layer.post.requantize
    post = replace(layer.post, requantize=replace(tail, mult=-tail.mult))
    network = replace(network, layers=(replace(layer, post=post), *network.layers[1:]))
    assert refusal(network) == (
        "layer 'one': mult must not be negative without attention=True of the array"
    )
    compile(network, ArrayConfig(4, 4, attention=True))


def test_state() -> None:
    network = tiny_network()
    written = stored_layer(network).output
    initial = np.zeros(written.shape, np.uint8)
    state = State(replace(written, name="kept"), written.name, initial)
    assert refusal(replace(network, state=(state,))) == (
        "state 'kept' cannot run on the array yet: a run keeps no tensors"
    )
