"""The max-pool unit: the largest of the complete taps of a window."""

from amaranth.hdl import Cat, Const, Mux, Signal

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.max_pool import PoolUnit
from proofs.harness import Harness
from proofs.parts import past

__all__ = ["max_pool"]


def max_pool(config: ArrayConfig, name: str) -> Harness:
    """Claim that the result of each lane is the maximum over the taps, each with all its digits.

    Assumed of the walk: a pixel's first word is the top plane of its first tap, and a tap has no
    more planes than joined codes have digits.
    """
    h = Harness(name, 2, "max-pool")
    dut = PoolUnit(config)
    h.drive(dut)
    m, control, word = h.module, dut.control, dut.word
    bits, digit_bits = config.joined_bits, config.code_bits
    # The control comes a cycle before its word.
    valid = past(m, control.valid, 1, "valid_past", reset=True)
    names = ("first", "last", "top", "pad", "end")
    first, last, top, pad, end = (past(m, control[n], 1, f"{n}_past", reset=True) for n in names)
    h.assume(~valid | ~first | top, "a_pixel_begins_with_a_tap")
    planes = Signal(range(bits // digit_bits + 2))
    count = Mux(top, 1, planes + 1)
    h.assume(~valid | (count <= bits // digit_bits), "planes_fit")
    with m.If(valid):
        m.d.sync += planes.eq(count)
    delayed = past(m, Cat(valid, first, last, end), 1, "delayed", reset=True)
    inner = h.probe("dut.tapped", len(control.as_value()))
    order = ("valid", "first", "last", "end")
    layout = control.shape()
    places = [layout[n].offset for n in order]
    h.claim("tapped", Cat(inner[place] for place in places) == delayed)
    read = h.probe("dut.read", len(control.as_value()))
    for n, value in zip(("valid", *names), (valid, first, last, top, pad, end), strict=True):
        h.claim(f"read_{n}", read[layout[n].offset] == value)

    seen = Signal()  # a pixel has begun
    with m.If(valid & first):
        m.d.sync += seen.eq(1)
    began = past(m, seen & valid, 1, "began", reset=True)
    for lane in range(config.lanes):
        # The tap so far; the largest one of those before it in the window.
        tap = Signal(bits, name=f"spec_tap_{lane}", reset_less=True)
        done = Signal(bits, name=f"spec_done_{lane}", reset_less=True)
        digit = Mux(pad, Const(0, digit_bits), word[lane])
        with m.If(valid):
            m.d.sync += tap.eq((Mux(top, 0, tap) << digit_bits | digit)[:bits])
            with m.If(first):
                m.d.sync += done.eq(0)
            with m.Elif(top):
                m.d.sync += done.eq(Mux(tap > done, tap, done))
        most = Signal(bits, name=f"spec_most_{lane}")
        m.d.comb += most.eq(Mux(tap > done, tap, done))
        before = past(m, most, 1, f"most_past_{lane}")
        sure = past(m, seen, 1, f"sure_{lane}", reset=True)
        h.claim(f"tap_{lane}", ~seen | (h.probe(f"dut.tap_{lane}", bits) == tap))
        best = h.probe(f"dut.best_{lane}", bits)
        h.claim(f"best_{lane}", ~sure | (best == before))
        h.claim(f"joined_{lane}", ~sure | (dut.joined[lane] == before))
        # A tap has as many digits as planes, so it only grows.
        high = tap >> (digit_bits * planes)[:8]
        h.claim(f"small_{lane}", ~seen | (planes * digit_bits >= bits) | (high == 0))
    h.claim("bounds", planes <= bits // digit_bits)
    h.claim("began", ~began | seen)
    told = past(m, Cat(delayed[0] & delayed[2], delayed[0] & delayed[3]), 1, "told", reset=True)
    h.claim("valid", dut.valid == told[0])
    h.claim("end", dut.end == told[1])
    return h
