"""Bits of what products and their sums read, and of tensors of attention by their kind."""

import numpy as np
import pytest
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.errors import InputError
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.stages.fuser import fuse
from tests.quantizer.close import images
from tests.quantizer.test_operators import Call


def gated(s: Call, x: Tensor) -> Tensor:
    """Return what a convolution makes of a sum of two products."""
    return s.e(s.a(x) * s.b(x) + s.c(x) * s.d(x))


@pytest.mark.parametrize(
    ("overrides", "expected"), [({}, 8), ({"add": "W4A5"}, 5), ({"e": "W4A5"}, 8)]
)
def test_operands_have_eight_bits_unless_the_layer_says_otherwise(
    overrides: dict[str, str], expected: int
) -> None:
    module = Call(gated, **{name: nn.Conv2d(3, 3, 1) for name in "abcde"}).eval()
    network = fuse(capture(export_module(module, (2, 3, 4, 4))))
    plan = plan_bits(network, parse_scheme("W4A4"), None, None, None, overrides)
    assert {plan.tensors[name] for name in "abcd"} == {expected}
    assert plan.tensors["add"] == (5 if "e" in overrides else 4)
    assert set(plan.weights.values()) == {4}


def product(s: Call, x: Tensor) -> Tensor:
    """Return what a convolution makes of one product."""
    return s.e(s.a(x) * s.b(x))


@pytest.mark.parametrize(("overrides", "expected"), [({}, 8), ({"mul": "W4A5"}, 5)])
def test_so_have_those_of_a_product(overrides: dict[str, str], expected: int) -> None:
    module = Call(product, **{name: nn.Conv2d(3, 3, 1) for name in "abe"}).eval()
    network = fuse(capture(export_module(module, (2, 3, 4, 4))))
    plan = plan_bits(network, parse_scheme("W4A4"), None, None, None, overrides)
    assert {plan.tensors[name] for name in "ab"} == {expected}
    assert plan.tensors["mul"] == 4


class Attention(nn.Module):
    """Attention of one head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(6, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v)[:, 0]


def test_bits_of_a_kind() -> None:
    network = fuse(capture(export_module(Attention().eval(), (2, 5, 6))))
    kinds = {"keys": 8, "values": 7, "queries": 6, "numerators": 5}
    plan = plan_bits(network, parse_scheme("W4A4"), None, None, None, {}, kinds)
    parts = {"query": 6, "key": 8, "value": 7}
    assert {name: plan.tensors[f"qkv.{name}"] for name in parts} == parts
    (distances,) = (name for name in plan.tensors if "distances" in name)
    assert plan.tensors[distances] == 5
    plan = plan_bits(network, parse_scheme("W4A4"), None, None, None, {"*scores*": "W3A2"}, kinds)
    assert [plan.tensors[f"qkv.{name}"] for name in parts] == [2, 3, 7]


BITS = {
    "bits must be of queries, keys, numerators, values, scores, stream, not of 'key'": {"key": 8},
    "bits of keys must be 2 to 8, not 16": {"keys": 16},
    "bits of scores must be 16, which the array has for them, not 8": {"scores": 8},
    "bits must be a mapping of kinds to numbers, such as {'keys': 8}, not int": 8,
    "bits must be of tensors that the network has, not of keys: it has no attention": {"keys": 8},
}


@pytest.mark.parametrize("message", BITS)
def test_other_bits_are_refused(message: str) -> None:
    x = images(4, 3, 4, 4)
    with pytest.raises(InputError) as error:
        nupes.quantize(nn.Conv2d(3, 3, 1).eval(), "W4A4", x, method="rtn", bits=BITS[message])  # type: ignore[arg-type]
    assert str(error.value) == message


def test_wide_tensors_have_their_bits() -> None:
    x = np.random.default_rng(0).normal(size=(8, 5, 6)).astype(np.float32)
    bits = {"keys": 8, "values": 8, "scores": 16, "stream": 16}
    network = nupes.quantize(Attention().eval(), "W4A4", x, method="rtn", bits=bits)
    assert network.tensors["qkv.key"].codebook.bits == 8
    assert network.tensors["qkv.query"].codebook.bits == 4
