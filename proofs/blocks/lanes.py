"""The rest of a lane: accumulator, token stage."""

from amaranth.hdl import Const, Mux, Signal, signed

from nupes.arch.config import ArrayConfig, clog2
from nupes.model.operators.subtract_max import MASKED_DISTANCE
from nupes.model.token_stage import MANTISSA_MAX
from nupes.rtl.datapath.accumulator import Accumulator
from nupes.rtl.datapath.token_stage import TokenStage
from proofs.blocks.requantizer import rounded
from proofs.harness import Harness
from proofs.parts import filled, past, product

__all__ = ["accumulator", "token_stage"]


def accumulator(config: ArrayConfig, name: str) -> Harness:
    """Claim that a total is the sum since the latest ``first`` at its address, whichever it is."""
    h = Harness(name, 2, "accumulator")
    dut = Accumulator(config, config.psum_bits)
    h.drive(dut)
    m, inputs = h.module, h.inputs
    at = h.fixed("at", clog2(config.acc_depth))
    # The control comes a cycle before the sum that it is about.
    valid, first = (
        past(m, inputs["valid"], 1, "valid_past"),
        past(m, inputs["first"], 1, "first_past"),
    )
    shift, address = (
        past(m, inputs.get("shift", Const(0)), 1, "s_past"),
        past(m, inputs["address"], 1, "a_past"),
    )
    started, known = filled(m, 1), Signal()
    total = Signal(signed(config.acc_bits), reset_less=True)
    after = Signal(signed(config.acc_bits))
    here = started & valid & (address == at)
    m.d.comb += after.eq(Mux(first, 0, total) + (inputs["psum"] << shift))
    with m.If(here):
        m.d.sync += [total.eq(after), known.eq(known | first)]
    summed = past(m, here & (known | first), 1, "summed")
    h.claim("total", ~started | ~summed | (dut.total == total))
    stored = h.entry("dut.sums", at, config.acc_bits)
    h.claim("memory", ~known | (stored == total[: config.acc_bits]))
    return h


def token_stage(name: str) -> Harness:
    """Claim that the token stage is the contract's arithmetic of the difference."""
    h = Harness(name, 3, "token stage")
    dut = TokenStage()
    h.drive(dut)
    m, factor = h.module, h.inputs["factor"]
    difference = Signal(signed(33))
    m.d.comb += difference.eq(
        Mux(h.inputs["masked"], MASKED_DISTANCE, h.inputs["value"] - factor.offset)
    )
    top = 1 << 31
    fits = past(m, (difference >= -top) & (difference < top), 3, "fits_past")
    distance = past(m, difference[:32].as_signed(), 3, "distance_past")
    mantissa, shift = past(m, factor.mantissa, 3, "m_past"), past(m, factor.shift, 3, "s_past")
    exact = product(m, distance, mantissa, 48, ((-top, top - 1), (0, MANTISSA_MAX)))
    spec = rounded(exact, shift)
    h.show("spec", spec)
    allowed = fits & (shift != 0) & (spec >= -top) & (spec < top)
    h.claim("result", ~filled(m, 3) | ~allowed | (dut.result == spec))
    return h
