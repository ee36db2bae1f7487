"""The requantizer, the residual term and the product path of a lane."""

from amaranth.hdl import Const, Mux, Value

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination
from nupes.model.arithmetic import MULT_MAX, Y_RANGE
from nupes.rtl.datapath.element_product import ElementProduct
from nupes.rtl.datapath.requantizer import Requantizer
from nupes.rtl.datapath.residual_term import ResidualTerm
from proofs.harness import Harness
from proofs.parts import expected_entry, filled, past, product

__all__ = ["element_product", "requantized", "requantizer", "residual", "rounded"]


def requantized(product: Value, bias: Value, shift: Value, term: Value) -> Value:
    """Return ``sat16(((product + bias) >> shift) + term)``, in numbers of any width."""
    low, high = Y_RANGE
    y = ((product + bias) >> shift) + term
    return Mux(y < low, low, Mux(y > high, high, y))


def rounded(product: Value, shift: Value) -> Value:
    """Return ``(product + 2**(shift - 1)) >> shift``, in numbers of any width."""
    return (product + (Const(1) << (shift - 1)[:5].as_unsigned())) >> shift


def requantizer(config: ArrayConfig, name: str) -> Harness:
    """Claim that the requantizer is the contract's arithmetic, for every operand."""
    h = Harness(name, 4, "requantizer")
    dut = Requantizer(config)
    h.drive(dut)
    m, scale, total = h.module, h.inputs["scale"], h.inputs["total"]
    mult, lowest = scale.mult, 0
    if config.attention:
        mult, lowest = Mux(h.inputs["negative"], -mult, mult), -MULT_MAX
    total_past, mult_past = past(m, total, 4, "total_past"), past(m, mult, 4, "mult_past")
    top = 1 << (len(total) - 1)
    exact = product(
        m, total_past, mult_past, len(total) + 16, ((-top, top - 1), (lowest, MULT_MAX))
    )
    spec = requantized(
        exact,
        past(m, scale.bias, 4, "bias_past"),
        past(m, h.inputs["shift"], 4, "shift_past"),
        past(m, h.inputs["term"], 1, "term_past"),
    )
    h.show("spec", spec[:16])
    h.claim("y", ~filled(m, 4) | (dut.y == spec))
    return h


def residual(config: ArrayConfig, name: str) -> Harness:
    """Claim that the level is what LOADs wrote or the digits' distance from the offset, and the
    term the contract's arithmetic of it."""
    h = Harness(name, 4, "residual term")
    dut = ResidualTerm(config)
    h.drive(dut)
    m, parameters = h.module, h.inputs["parameters"]
    load = {key: h.inputs[f"load__{key}"] for key in ("valid", "destination", "address", "data")}
    # The entry at one address, whichever it is.
    bits, level_bits = config.code_bits + clog2(config.table_slots), config.activation_level_bits
    at = h.fixed("at", bits)
    entry, known = expected_entry(
        h, "dut.decoder.table", Destination.RESIDUAL_TABLE, at, level_bits, load, bits
    )
    joined, ready = h.inputs["joined"], filled(m, 4)
    slot = parameters.residual_slot[: clog2(config.table_slots)]
    code = joined[: config.code_bits]
    wide = h.inputs["wide"] if config.attention else Const(0)
    linear = parameters.linear | wide
    straight = joined + Mux(wide, Y_RANGE[0], parameters.residual_offset)
    # What a sum of digits and offset stands for is a level: the compiler sees to that.
    wanted = straight[: config.residual_level_bits].as_signed()
    looked_up = (code == at[: config.code_bits]) & (slot == at[config.code_bits :]) & known
    level = Mux(past(m, linear, 1, "was_linear"), past(m, wanted, 1, "straight_past"),
                past(m, entry.as_signed(), 1, "entry_past"))  # fmt: skip
    named = past(m, linear | looked_up, 1, "named")
    h.claim("level", ~ready | ~named | (dut.level == level))

    mult = past(m, parameters.residual_mult, 3, "mult_past")
    shift = past(m, parameters.residual_shift, 3, "shift_past")
    level_past = past(m, dut.level, 2, "level_past")
    top = 1 << (config.residual_level_bits - 1)
    exact = product(m, level_past, mult, len(level_past) + 16, ((-top, top - 1), (0, MULT_MAX)))
    h.show("spec", rounded(exact, shift))
    h.claim("term", ~ready | (shift == 0) | (dut.term == rounded(exact, shift)))
    h.claim("no_residual", ~ready | (mult != 0) | (dut.term == 0))
    return h


def element_product(config: ArrayConfig, name: str) -> Harness:
    """Claim that a sum is multiplied, or passes as it is."""
    h = Harness(name, 1, "product of a lane")
    dut = ElementProduct(config)
    h.drive(dut)
    m, psum, multiply = h.module, h.inputs["psum"], h.inputs["multiply"]
    level = h.inputs["level"]
    bits, level_bits = config.factor_bits, config.activation_level_bits
    # Both are a level, or a digit of one in its place.
    fits = (psum >= -(1 << (bits - 1))) & (psum < 1 << (bits - 1))
    fits &= (level >= -(1 << (level_bits - 1))) & (level < 1 << (level_bits - 1))
    factor, of_codes = psum[:bits].as_signed(), level[:level_bits].as_signed()
    h.claim("factors", ~fits | ((factor == psum) & (of_codes == level)))
    exact = factor * of_codes
    spec = past(m, Mux(multiply, exact, psum), 1, "spec_past")
    held = past(m, ~multiply | fits, 1, "fits_past")
    h.show("spec", exact)
    h.claim("addend", ~filled(m, 1) | ~held | (dut.addend == spec))
    return h
