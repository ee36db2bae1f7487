"""The reciprocal unit: a quotient and a root, digit by digit."""

from amaranth.hdl import Const, Mux, Signal, Value, signed

from nupes.arch.isa import Statistic
from nupes.model.token_stage import FRACTION_BITS, ROOT_BITS
from nupes.rtl.datapath.reciprocal import (
    DIVISOR_BITS,
    MULTIPLE_BITS,
    REST_BITS,
    TOP,
    VARIANCE_BITS,
    Reciprocal,
)
from proofs.harness import Harness
from proofs.parts import past

__all__ = ["digit_rule", "reciprocal"]

WIDE = 72
"""Bits of the numbers of the specification, in which nothing overflows."""


def digit_rule(name: str) -> Harness:
    """Claim of the digit 1 for any numbers of 60 bits: if the rest was less than ``2 * a + 4 * d``,
    what is left is less than ``(a + 2 * d) + d``."""
    h = Harness(name, 1, "digit of a root")
    bits = 64
    a, d, rest, step, double = (Signal(bits, name=name) for name in ("a", "d", "r", "s", "t"))
    m = h.module
    for number, source in ((a, "number_a"), (d, "number_d"), (rest, "rest")):
        m.d.comb += number.eq(h.free(source, bits - 4))
    m.d.comb += [step.eq(a + d), double.eq(d + d)]
    below, left, after = (Signal(bits, name=name) for name in ("below", "left", "after"))
    m.d.comb += [
        below.eq((step + step)[:bits] + double),
        left.eq(rest - step),
        after.eq(step + double),
    ]
    h.claim("less", ~((rest < below) & (step <= rest)) | (left < after))
    return h


class Stages:
    """Says from which cycle on a pipeline's stages hold what has come in since reset."""

    def __init__(self, h: Harness) -> None:
        self.h, self.ready = h, Const(1)

    def next(self, name: str) -> None:
        """Go on to the next stage."""
        ready = Signal(name=f"ready_{name}")
        self.h.module.d.sync += ready.eq(self.ready)
        self.ready = ready

    def claim(self, name: str, value: Value) -> None:
        """Claim something of the present stage."""
        self.h.claim(name, ~self.ready | value)


def reciprocal(name: str) -> Harness:
    """Claim that the mantissa is the quotient, or the largest root, that ``model.token_stage``
    defines, and the shift with it; for every number, stage by stage.

    With ``m`` the digits so far (in their place) the rest is the limit without ``m * d`` or ``m**2
    * d``, by what a digit adds to them: ``(m + 2**b) * d = m * d + (d << b)`` and ``(m + 2**b)**2
    * d = m**2 * d + (m * d << (b + 1)) + (d << 2 * b)``. So nothing wide is multiplied. A digit is
    1 if what it adds goes into the rest. That this leaves less than one more in its place would add
    is arithmetic: with ``A = m * d << (b + 1)`` and ``D = d << 2 * b`` a root's rest is below
    ``2 * A + 4 * D`` before, so below ``A + D`` after a 0, and below ``(A + 2 * D) + D`` after a 1,
    which ``digit_rule`` claims; a quotient's is below ``2 * (d << b)`` before, and below ``d << b``
    after.
    """
    h = Harness(name, 1, "reciprocal")
    dut = Reciprocal()
    m = h.module
    statistic = h.fixed("statistic", Statistic)
    channels, epsilon = h.fixed("channels", 15), h.fixed("epsilon", 58)
    h.drive(dut, statistic=statistic, channels=channels, epsilon=epsilon)
    h.assume(statistic <= max(Statistic), "statistic_exists")
    root, largest = Signal(), Signal()
    m.d.comb += [
        root.eq(statistic >= Statistic.SQUARES),
        largest.eq(statistic == Statistic.LARGEST),
    ]
    stages = Stages(h)
    number = claim_number(h, stages, root, statistic, channels, epsilon)

    def wide(value: Value, name: str) -> Signal:
        signal = Signal(WIDE, name=name)
        m.d.comb += signal.eq(value)
        return signal

    # Its bits, and what of it is the divisor.
    stages.next("bits")
    number = past(m, number, 1, "number_with_bits")
    bits = h.probe("dut.bits", 6)
    below = wide(number << 1 >> bits, "below")
    # A variance is at least 1, and a sum is taken for 2 at least.
    none = number == 0
    stages.claim("bits", none | ((number >> bits == 0) & below[0]))
    stages.claim("number_1", h.probe("dut.number_1", VARIANCE_BITS) == number)
    stages.next("dropped")
    number, bits = past(m, number, 1, "number_dropped"), past(m, bits, 1, "bits_dropped")
    none = past(m, none, 1, "none_dropped")[0]
    excess, even = Signal(7), Signal(7)
    m.d.comb += [
        excess.eq(Mux(root & (bits > ROOT_BITS), bits - ROOT_BITS, 0)),
        even.eq(excess + (excess & 1)),
    ]
    dropped = h.probe("dut.dropped", 6)
    stages.claim("dropped", dropped == even)
    below = wide(number << 1 >> bits, "below_dropped")
    stages.claim("bits_dropped", none | ((number >> bits == 0) & below[0]))
    stages.claim("bits_1", h.probe("dut.bits_1", 6) == bits)
    stages.claim("number_2", h.probe("dut.number_2", VARIANCE_BITS) == number)
    # A sum that is divided fits the divisor.
    fits_divisor = past(m, ~none & (root | (number >> DIVISOR_BITS == 0)), 1, "fits_divisor")[0]
    stages.next("divisor")
    d = wide(past(m, number >> dropped, 1, "number_divisor"), "divisor")
    kept = past(m, (bits - dropped)[:6], 1, "bits_divisor")
    dropped = past(m, dropped, 1, "dropped_divisor")
    stages.claim("divisor", ~fits_divisor | (h.probe("dut.divisor", DIVISOR_BITS) == d))
    stages.claim("kept", h.probe("dut.kept", 6) == kept)
    stages.claim("dropped_1", h.probe("dut.dropped_1", 6) == dropped)
    size = wide(d << 1 >> kept, "size")
    stages.claim("size", ~fits_divisor | ((d >> kept == 0) & size[0]))
    stages.claim("dropped_fits", ~fits_divisor | (dropped <= VARIANCE_BITS - ROOT_BITS))
    stages.claim("size_fits", ~fits_divisor | (kept <= Mux(root, ROOT_BITS, DIVISOR_BITS)))

    half = Signal(6)
    m.d.comb += half.eq((kept + 1) >> 1)
    limit = wide(
        Mux(root, Const(1, WIDE) << (2 * FRACTION_BITS + 2 * half)[:6],
            (Const(1, WIDE) << (FRACTION_BITS + kept)[:6]) + (d >> 1)), "limit_before",
    )  # fmt: skip
    shift = Signal(6)
    m.d.comb += shift.eq(Mux(root, half + (dropped >> 1), kept))
    usable = fits_divisor & (d != 0)
    stages.next("top")
    stages.claim(
        "limit_fits",
        ~past(m, usable, 1, "usable_limit")[0]
        | (past(m, limit >> REST_BITS == 0, 1, "limit_fits_past")[0]),
    )
    d = past(m, d[:DIVISOR_BITS], 1, "d_top")
    limit = past(m, limit[:REST_BITS], 1, "limit_top")
    shift, usable = past(m, shift, 1, "shift_of_top"), past(m, usable, 1, "usable_top")
    claim_digits(h, stages, dut, root, largest, (d, limit, shift, usable))
    return h


def claim_number(
    h: Harness, stages: Stages, root: Value, statistic: Value, channels: Value, epsilon: Value
) -> Value:
    """Claim what the factor is a reciprocal of; return it."""
    m, sums = h.module, h.inputs["sums"]
    centered = statistic == Statistic.DEVIATION
    stages.next("products")
    scaled = past(m, (channels * sums.squares)[:VARIANCE_BITS], 1, "scaled_past")
    square = past(m, (sums.total * sums.total)[:VARIANCE_BITS], 1, "square_past")
    total = past(m, sums.total, 1, "total_past").as_signed()
    stages.claim("scaled", h.probe("dut.scaled", VARIANCE_BITS) == scaled)
    held = h.probe("dut.square", VARIANCE_BITS) == Mux(centered, square, 0)
    stages.claim("square", held)
    stages.claim("total", h.probe("dut.total", signed(32)) == total)
    stages.next("number")
    weight = Signal(VARIANCE_BITS)
    variance = Signal(VARIANCE_BITS)
    m.d.comb += [
        weight.eq(total + epsilon),
        variance.eq(scaled - Mux(centered, square, 0) + epsilon),
    ]
    number = past(m, Mux(root, variance, Mux(weight < 2, 2, weight)), 1, "number_past")
    stages.claim("number", h.probe("dut.number", VARIANCE_BITS) == number)
    return number


def claim_digits(
    h: Harness, stages: Stages, dut: Reciprocal, root: Value, largest: Value, top: tuple
) -> None:
    """Claim digit by digit whether it goes into the rest, and what is left."""
    m = h.module
    d_top, rest_top, shift_top, usable = top

    def register(kind: str, label: str, bits: int) -> Signal:
        return h.probe(f"dut.{kind}_{label}", bits)

    d, rest = register("divisor", "top", DIVISOR_BITS), register("rest", "top", REST_BITS)
    shift = register("shift", "top", 5)
    stages.claim("top", ~usable | ((d == d_top) & (rest == rest_top) & (shift == shift_top)))
    digits: Value = Const(0, 1)
    multiple: Value = Const(0, MULTIPLE_BITS)
    for b in (None, *reversed(range(TOP + 1))):
        label = "top" if b is None else str(b)
        if b is not None:
            trial = Mux(root, (multiple << (b + 1)) + (d << 2 * b), d << b)
            # The first digit is one of quotients only.
            fits = Signal(name=f"goes_{b}")
            m.d.comb += fits.eq((trial <= rest) & ~(root & (b == TOP)))
            left = past(m, Mux(fits, rest - trial, rest)[:REST_BITS], 1, f"rest_of_{b}")
            more = multiple + Mux(fits & root, d << b, 0)
            after = past(m, more[:MULTIPLE_BITS], 1, f"multiple_of_{b}")
            found = past(m, (digits << 1 | fits)[: TOP + 1 - b], 1, f"digits_of_{b}")
            d_before, shift_before = past(m, d, 1, f"d_of_{b}"), past(m, shift, 1, f"shift_of_{b}")
            usable = past(m, usable, 1, f"use_{b}")
            stages.next(label)
            digits = register("digits", label, TOP + 1 - b)
            shift = register("shift", label, 5)
            moved = (digits == found) & (shift == shift_before)
            d, rest, multiple = d_before, left, after
            if b:  # nothing needs the last ones
                d = register("divisor", label, DIVISOR_BITS)
                rest = register("rest", label, REST_BITS)
                multiple = register("multiple", label, MULTIPLE_BITS)
                moved &= (d == d_before) & (rest == left) & (multiple == after)
            stages.claim(f"digit_{label}", moved)
    carry = digits[TOP]
    stages.next("result")
    mantissa = past(m, Mux(largest | carry, 1 << FRACTION_BITS, digits[:TOP]), 1, "mantissa_past")
    after = past(m, Mux(largest, FRACTION_BITS, shift - carry)[:5], 1, "shift_after")
    usable = past(m, usable | largest, 1, "use_result")
    stages.claim("mantissa", ~usable | (dut.mantissa == mantissa))
    stages.claim("shift", ~usable | (dut.shift == after))
