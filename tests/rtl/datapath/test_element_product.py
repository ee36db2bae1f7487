"""The multiplier of a lane."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.element_product import ElementProduct
from tests.rtl.strategies import configs, signed_integers
from tests.rtl.testbench import signed, simulate

NAMES = ("psum", "level", "multiply")


def run(config: ArrayConfig, operations: list[tuple[int, int, int]]) -> list[int]:
    """Return the addends of operations (psum, level, multiply), one per cycle."""
    cycles = [dict(zip(NAMES, operation, strict=True)) for operation in operations]
    return simulate(ElementProduct(config), cycles, ("addend",), idle=1)["addend"][1:]


def test_extremes() -> None:
    """A digit in place may be one more than the largest level: 256."""
    config = ArrayConfig(rows=2, cols=2, products=True)
    assert config.factor_bits == 10
    operations = [(p, q, 1) for p in (-256, -1, 0, 255, 256) for q in (-256, -1, 0, 255)]
    assert run(config, operations) == [p * q for p, q, _ in operations]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_multiplies_or_passes(data: st.DataObject) -> None:
    config = data.draw(configs())
    psum = signed_integers(config.psum_bits)
    operation = st.tuples(psum, signed_integers(config.activation_level_bits), st.integers(0, 1))
    operations = data.draw(st.lists(operation, min_size=1, max_size=60))
    assert run(config, operations) == [
        signed(psum, config.factor_bits) * level if multiply else psum
        for psum, level, multiply in operations
    ]
