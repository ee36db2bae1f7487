"""The array configuration: arrays with products, and the slots that instructions can name."""

import pytest

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import plane_cycles
from nupes.model.errors import InputError

MAGNITUDES = {"mac": "product", "activation_magnitudes": (1, 2)}


def test_refusals() -> None:
    with pytest.raises(InputError, match="products must be True or False, not 1"):
        ArrayConfig(4, 4, products=1)  # pyright: ignore[reportArgumentType]
    rule = r"weight_magnitudes must contain 1 with products=True, .* one pass, not \(2, 3\)"
    with pytest.raises(InputError, match=rule):
        ArrayConfig(4, 4, **MAGNITUDES, weight_magnitudes=(2, 3), products=True)


def test_a_product_takes_one_cycle_and_an_earlier_residual() -> None:
    plain, products = ArrayConfig(4, 4), ArrayConfig(4, 4, products=True)
    for name, more in (("lane_latency", 1), ("issue_to_write", 1), ("issue_to_residual", -2)):
        assert getattr(products, name) - getattr(plain, name) == more
    assert products.issue_to_psum == plain.issue_to_psum
    assert ArrayConfig(4, 4, **MAGNITUDES, weight_magnitudes=(1, 2), products=True).products


@pytest.mark.parametrize("code_bits", range(2, 9))
def test_a_residual_is_not_read_before_its_issue(code_bits: int) -> None:
    array = ArrayConfig(2, 2, code_bits=code_bits, products=True)
    assert array.issue_to_residual >= plane_cycles(array.planes)


@pytest.mark.parametrize("products", [False, True])
def test_attention_takes_three_cycles_and_an_earlier_residual(products: bool) -> None:
    plain = ArrayConfig(4, 4, products=products)
    attention = ArrayConfig(4, 4, products=products, attention=True)
    earlier = 0 if products else -3
    for name, more in (
        ("lane_latency", 3), ("issue_to_write", 3), ("issue_to_residual", earlier),
        ("issue_to_psum", 0),
    ):  # fmt: skip
        assert getattr(attention, name) - getattr(plain, name) == more


@pytest.mark.parametrize("code_bits", range(2, 9))
@pytest.mark.parametrize("products", [False, True])
def test_a_wide_residual_is_not_read_before_its_issue(code_bits: int, products: bool) -> None:
    array = ArrayConfig(4, 4, code_bits=code_bits, products=products, attention=True)
    assert array.residual_planes == -(-16 // code_bits)
    assert array.issue_to_residual >= array.residual_pairs == plane_cycles(array.residual_planes)
