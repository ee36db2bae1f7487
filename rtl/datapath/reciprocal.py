"""The reciprocal unit: a factor for a token, as a mantissa and a shift, from its statistics."""

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.isa import Statistic
from nupes.model.token_stage import FRACTION_BITS, MANTISSA_MAX, ROOT_BITS
from nupes.rtl.interface import TokenSums

__all__ = ["Reciprocal"]

VARIANCE_BITS = 60
"""Bits of ``n * S2 - S1**2 + epsilon``, and of a sum."""

DIVISOR_BITS = 31

TOP = MANTISSA_MAX.bit_length()
"""Weight of the first of 17 digits: a quotient may be 2**16, a root has 16."""

REST_BITS = 2 * (FRACTION_BITS + ROOT_BITS // 2) + 1
"""Bits of what is left of the dividend."""

MULTIPLE_BITS = TOP + ROOT_BITS
"""Bits of the digits so far times a root's number."""


class Reciprocal(wiring.Component):
    """Compute ``model.token_stage``'s reciprocal of a sum, or reciprocal root of a variance:
    latency ``RECIPROCAL_CYCLES``, one per cycle.

    ``statistic``, ``channels`` and ``epsilon`` keep their values as long as anything is on its way;
    for the largest level the factor is 1.

    Both are digit recurrences, a digit in each stage. A quotient's digit of weight ``2**b`` is 1 if
    ``d << b`` still goes into the rest. A root's, with ``multiple = m * d`` for the digits ``m`` so
    far, if ``(m + 2**b)**2 * d - m**2 * d = (multiple << (b + 1)) + (d << 2 * b)`` does.
    """

    statistic: Signal
    channels: Signal
    epsilon: Signal
    sums: data.View
    mantissa: Signal
    shift: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "statistic": In(Statistic),
                "channels": In(15),
                "epsilon": In(58),
                "sums": In(TokenSums()),
                "mantissa": Out(16),
                "shift": Out(5),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        largest, root, centered = Signal(), Signal(), Signal()
        m.d.comb += [
            largest.eq(self.statistic == Statistic.LARGEST),
            root.eq(self.statistic >= Statistic.SQUARES),
            centered.eq(self.statistic == Statistic.DEVIATION),
        ]
        digits, shift = self._digits(m, root, self._number(m, root, centered))

        # A mantissa of 2**16 is one of 2**15, with a shift less by 1.
        mantissa = Signal.like(self.mantissa, reset_less=True)
        shift_after = Signal.like(self.shift, reset_less=True)
        carry = digits[TOP]
        m.d.sync += [
            mantissa.eq(Mux(largest | carry, 1 << FRACTION_BITS, digits)),
            shift_after.eq(Mux(largest, FRACTION_BITS, shift - carry)),
        ]
        m.d.comb += [self.mantissa.eq(mantissa), self.shift.eq(shift_after)]
        return m

    def _number(self, m: Module, root: Value, centered: Value) -> Signal:
        """Return what the factor is a reciprocal of, two cycles after the sums."""
        sums = self.sums
        scaled = Signal(VARIANCE_BITS, reset_less=True)
        square = Signal(VARIANCE_BITS, reset_less=True)
        total = Signal(signed(32), reset_less=True)
        number = Signal(VARIANCE_BITS, reset_less=True)
        weight = Signal(VARIANCE_BITS)
        m.d.sync += [
            scaled.eq(self.channels * sums.squares),
            square.eq(Mux(centered, sums.total * sums.total, 0)),
            total.eq(sums.total),
            number.eq(Mux(root, scaled - square + self.epsilon, Mux(weight < 2, Const(2), weight))),
        ]
        m.d.comb += weight.eq(total + self.epsilon)
        return number

    def _digits(self, m: Module, root: Value, number: Signal) -> tuple[Signal, Signal]:
        """Return the digits and the shift, 21 cycles after the number."""
        # Its bits; how many of them are dropped; the divisor.
        later = Signal.like(number, name="number_1", reset_less=True)
        last = Signal.like(number, name="number_2", reset_less=True)
        bits = Signal(range(VARIANCE_BITS + 1), reset_less=True)
        bits_1 = Signal.like(bits, reset_less=True)
        dropped = Signal.like(bits, reset_less=True)
        dropped_1 = Signal.like(bits, reset_less=True)
        kept = Signal.like(bits, reset_less=True)
        divisor = Signal(DIVISOR_BITS, reset_less=True)
        excess = Signal(signed(8))
        for bit in range(VARIANCE_BITS):
            with m.If(number[bit]):
                m.d.sync += bits.eq(bit + 1)
        m.d.comb += excess.eq(bits - ROOT_BITS)
        m.d.sync += [
            later.eq(number),
            last.eq(later),
            bits_1.eq(bits),
            dropped.eq(Mux(root & (excess > 0), excess + excess[0], 0)),
            dropped_1.eq(dropped),
            divisor.eq(last >> dropped),
            kept.eq(bits_1 - dropped),
        ]

        # The dividend, a power of two.
        half = Signal(range(ROOT_BITS))
        power = Signal(range(REST_BITS))
        d = Signal.like(divisor, name="divisor_top", reset_less=True)
        shift = Signal(range(DIVISOR_BITS + 1), name="shift_top", reset_less=True)
        rest = Signal(REST_BITS, name="rest_top", reset_less=True)
        m.d.comb += [
            half.eq((kept + 1) >> 1),
            power.eq(Mux(root, 2 * FRACTION_BITS + (half << 1), FRACTION_BITS + kept)),
        ]
        m.d.sync += [
            d.eq(divisor),
            shift.eq(Mux(root, half + (dropped_1 >> 1), kept)),
            rest.eq((Const(1) << power) + Mux(root, 0, divisor >> 1)),
        ]
        multiple, digits = Const(0, MULTIPLE_BITS), Const(0, 0)
        for b in reversed(range(TOP + 1)):
            trial = Mux(root, (multiple << (b + 1)) + (d << 2 * b), d << b)
            fits = Signal(name=f"fits_{b}")
            m.d.comb += fits.eq((trial <= rest) & ~(root & (b == TOP)))
            after = Signal.like(d, name=f"divisor_{b}", reset_less=True)
            shift_after = Signal.like(shift, name=f"shift_{b}", reset_less=True)
            rest_after = Signal.like(rest, name=f"rest_{b}", reset_less=True)
            multiple_after = Signal(MULTIPLE_BITS, name=f"multiple_{b}", reset_less=True)
            digits_after = Signal(TOP + 1 - b, name=f"digits_{b}", reset_less=True)
            m.d.sync += [
                after.eq(d),
                shift_after.eq(shift),
                rest_after.eq(Mux(fits, rest - trial, rest)),
                multiple_after.eq(multiple + Mux(fits & root, d << b, 0)),
                digits_after.eq(digits << 1 | fits),
            ]
            d, shift, rest = after, shift_after, rest_after
            multiple, digits = multiple_after, digits_after
        return digits, shift
