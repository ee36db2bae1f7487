"""Bounds and losses: every cycle of a layer is accounted for, once."""

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.errors import CapacityError
from nupes.model.network import IntegerNetwork
from tests.networks import JOINS, networks
from tests.small import ARRAY, small_network


@given(networks(also=JOINS), st.integers(1, 3))
def test_bounds_and_losses_add_up_to_the_cycles(network: IntegerNetwork, batch: int) -> None:
    config = ArrayConfig(4, 4, acc_depth=16, products=True)
    try:
        program = compile(network, config, batch=batch)
    except CapacityError:
        return
    assert sum(layer.cycles for layer in program.layers) == program.cycles
    for layer, op in zip(program.layers, (layer.op for layer in network.layers), strict=True):
        assert layer.mac_bound + sum(astuple(layer.losses)) == pytest.approx(layer.cycles)
        assert min(astuple(layer.losses)) >= 0
        assert (layer.tiles > 0) == (layer.cycles > 0) == (layer.words > 0)
        assert layer.tiles > 0 or op.kind in ("concat", "select")  # in place
        assert layer.macs == batch * network.macs[layer.name]
    assert sum(layer.words for layer in program.layers) == len(program.image)


def test_a_report_is_json_data() -> None:
    data = compile(small_network(), ARRAY).layers[0].as_dict()
    assert set(data["losses"]) == {"edge", "requantization", "weights", "memory", "dependency"}
    assert data["memory_bound"] == data["words"]
    assert 0 < data["utilization"] <= 1
