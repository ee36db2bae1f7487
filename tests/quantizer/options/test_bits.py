"""Bits of what sums of products read."""

import pytest
from torch import Tensor, nn

from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.stages.fuser import fuse
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
