"""Outliers have tensors of their own; the network stays the same, and runs on the RTL."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.options.bits import BitPlan, plan_bits
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.search.outliers import BITS, MOST, find_outliers, split_outliers
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.operators import Convolution, Normalize, Product
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork
from nupes.quantizer.stages.wide import wide_roots
from tests.whole import check_exact

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True, products=True)

WIDTH = 48

X = torch.randn(6, 5, WIDTH, generator=torch.Generator().manual_seed(1))


class Gated(nn.Module):
    """A norm, hidden units with a function or a gate, and a sum; ``massive`` says whose channels
    are large."""

    def __init__(self, massive: str, gate: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Linear(WIDTH, 32) if gate else None
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        self.expand, self.project = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        with torch.no_grad():
            if "norm" in massive:
                self.norm.weight[[3, 11]] = 60.0
            if "hidden" in massive:
                self.expand.weight[7] *= 120.0

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        h = F.gelu(self.expand(y)) if self.gate is None else self.gate(y) * self.expand(y)
        return self.head(x + self.project(h))


def planned(module: nn.Module, scheme: str = "W4A4") -> tuple[FusedNetwork, Batch, BitPlan]:
    """Return the stages of a module, inputs of them, and their bits."""
    network = fuse(capture(export_module(module.eval(), (2, *X.shape[1:]))))
    plan = plan_bits(network, parse_scheme(scheme), None, 8, None, {})
    return network, network.maps(Batch((X,))), plan


def output(network: FusedNetwork, inputs: Batch) -> Tensor:
    """Return what the network gives in float."""
    return run_float(network.stages, network.start(inputs))[network.emitted[0]]


def test_channels_of_massive_values_are_found() -> None:
    network, inputs, plan = planned(Gated("norm"))
    assert {name: some.tolist() for name, some in find_outliers(network, inputs, plan).items()} == {
        "norm": [3, 11]
    }
    assert find_outliers(*planned(Gated(""))) == {}


def test_at_most_a_row_of_the_array_is_taken() -> None:
    module = Gated("")
    with torch.no_grad():
        module.expand.weight[:20] *= torch.logspace(2, 3, 20)[:, None]
        module.expand.weight[20:] = 0
        module.expand.bias[20:] = 0
        module.expand = padded(module.expand)
        module.project = nn.Linear(4096, WIDTH)
    (found,) = find_outliers(*planned(module)).values()
    assert len(found) == MOST
    assert (np.diff(found) > 0).all()
    assert found.max() < 20


def padded(layer: nn.Linear) -> nn.Linear:
    """Return a layer of 4096 results, of which most are zero."""
    wide = nn.Linear(WIDTH, 4096)
    nn.init.zeros_(wide.weight)
    nn.init.zeros_(wide.bias)
    wide.weight[: len(layer.weight)] = layer.weight
    return wide


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("massive", ["norm", "hidden", "norm, hidden"])
def test_the_network_stays_the_same(massive: str, gate: bool) -> None:
    network, inputs, plan = planned(Gated(massive, gate))
    outliers = find_outliers(network, inputs, plan)
    found, bits = split_outliers(network, inputs, plan)
    torch.testing.assert_close(output(found, inputs), output(network, inputs), rtol=1e-4, atol=1e-4)
    maps = run_float(found.stages, found.start(inputs))
    wide = wide_roots(found)
    for name, channels in outliers.items():
        assert (maps[name][:, channels] == 0).all()
        stage = next(stage for stage in found.stages if stage.name == f"{name}.outliers")
        assert bits.tensors[stage.name] == BITS
        assert bits.tensors[name] == 4
        for reader in found.readers()[name]:
            assert reader.residual in wide
            assert isinstance(reader.op, Convolution)
            assert (reader.op.weight[:, channels] == 0).all()
    assert set(bits.weights) == {s.name for s in found.stages if isinstance(s.op, Convolution)}
    assert set(bits.tensors) == set(found.shapes)


def test_networks_without_norms_have_none() -> None:
    module = Gated("hidden")
    module.norm = nn.Identity()  # type: ignore[assignment]
    assert find_outliers(*planned(module)) == {}


def test_each_kind_of_producer() -> None:
    network, inputs, plan = planned(Gated("norm, hidden", gate=True))
    found, _ = split_outliers(network, inputs, plan)
    kinds = {type(s.op) for s in found.stages if s.name.endswith(".outliers")}
    assert {Normalize, Product} <= kinds


def test_eight_bits_hold_them() -> None:
    network, inputs, plan = planned(Gated("norm, hidden"), "W4A8")
    assert split_outliers(network, inputs, plan) == (network, plan)


@pytest.mark.slow
@pytest.mark.parametrize("gate", [False, True])
def test_on_the_rtl(gate: bool, running: Callable[..., nupes.Simulator]) -> None:
    module = Gated("norm, hidden", gate).eval()
    network = nupes.quantize(module, "W4A4", X, method="search", ends=None, input_bits=8)
    added = {layer.name for layer in network.layers if layer.name.endswith(".of_outliers")}
    assert {"expand.of_outliers", "project.of_outliers"} <= added
    check_exact(running, network, (X.numpy(),), ARRAY)
