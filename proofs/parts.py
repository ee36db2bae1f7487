"""Parts of specifications: values some cycles ago, exact products, entries of tables."""

from amaranth.hdl import Module, Signal, Value, signed

from nupes.arch.isa import Destination
from proofs.harness import Harness

__all__ = ["expected_entry", "filled", "past", "product"]


def past(m: Module, value: Value, cycles: int, name: str, reset: bool = False) -> Value:
    """Return a value some cycles ago: registers one by one, with ``reset`` 0 after reset."""
    value = Value.cast(value)
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{cycle + 1}", reset_less=not reset)
        m.d.sync += later.eq(value)
        value = later
    return value


def filled(m: Module, cycles: int) -> Value:
    """Return whether that many cycles have passed since reset."""
    age = Signal(range(cycles + 1), name="age")
    with m.If(age != cycles):
        m.d.sync += age.eq(age + 1)
    return age == cycles


def product(
    m: Module, a: Value, b: Value, width: int, ranges: tuple[tuple[int, int], tuple[int, int]]
) -> Signal:
    """Return a product as a signed number of ``width`` bits.

    A wide product is a cut: solvers do not compare multipliers of different widths. That none of
    its bits is lost is proven here instead. Each factor has a range, a product of two factors is
    extreme at the ends of their ranges, and those fit.
    """
    ends = [left * right for left in ranges[0] for right in ranges[1]]
    assert -(1 << (width - 1)) <= min(ends) <= max(ends) < 1 << (width - 1), "the product must fit"
    cut = Signal(signed(width), name="product")
    m.d.comb += cut.eq(a * b)
    return cut


def expected_entry(
    h: Harness,
    memory: str,
    destination: Destination,
    address: Value,
    width: int,
    load: dict,
    address_bits: int,
) -> tuple[Signal, Signal]:
    """Return what a table holds at a fixed address by what LOADs wrote, and whether they did.

    The claim that the memory agrees comes with it.
    """
    m = h.module
    name = memory.rpartition(".")[2]
    known = Signal(name=f"{name}_known")
    entry = Signal(width, name=f"{name}_entry", reset_less=True)
    here = (
        load["valid"]
        & (load["destination"] == destination)
        & (load["address"][:address_bits] == address)
    )
    with m.If(here):
        m.d.sync += [known.eq(1), entry.eq(load["data"])]
    stored = h.entry(memory, address, width)
    h.claim(f"{name}_holds_what_was_loaded", ~known | (stored == entry))
    return entry, known
