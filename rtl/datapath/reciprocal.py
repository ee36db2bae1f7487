"""The reciprocal unit: a factor for a token, as a mantissa and a shift, from its statistics."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.isa import Statistic
from nupes.model.token_stage import FRACTION_BITS, ROOT_BITS
from nupes.rtl.interface import TokenFactor, TokenSums

__all__ = ["Reciprocal"]

VARIANCE_BITS = 60
"""Bits of ``n * S2 - S1**2 + epsilon``, and of a sum."""

REST_BITS = 64
"""Bits of what is left of the dividend, and of what is compared with it."""

MANTISSA_BITS = 17
"""Digits that are found, one a cycle."""


class Reciprocal(wiring.Component):
    """Compute ``model.token_stage``'s reciprocal of a sum, or reciprocal root of a variance.

    ``start`` with ``sums`` in cycle s gives ``valid`` with ``factor`` in cycle s + 24, for one
    cycle; the next ``start`` may come in that cycle. ``statistic``, ``channels`` and ``epsilon``
    keep their values meanwhile.

    Both are digit recurrences. A quotient's digit of weight ``2**b`` is 1 if ``d << b`` still goes
    into the rest. A root's, with ``P = m * d`` for the digits ``m`` so far, if ``(m + 2**b)**2 * d
    - m**2 * d = (P << (b + 1)) + (d << 2 * b)`` does: ``twice`` and ``step`` hold the two summands,
    which only move down from digit to digit.
    """

    start: Signal
    statistic: Signal
    channels: Signal
    epsilon: Signal
    sums: data.View
    valid: Signal
    factor: data.View

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "statistic": In(Statistic),
                "channels": In(15),
                "epsilon": In(58),
                "sums": In(TokenSums()),
                "valid": Out(1),
                "factor": Out(TokenFactor()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        step = Signal(range(26))  # cycles since the start; 0: idle
        m.d.sync += step.eq(Mux(self.start, 1, Mux(step == 24, 0, step + (step != 0))))
        root, centered = Signal(), Signal()
        m.d.comb += [
            root.eq(self.statistic >= Statistic.SQUARES),
            centered.eq(self.statistic == Statistic.DEVIATION),
        ]

        # Steps 0 to 2: the number, and its bits.
        scaled = Signal(VARIANCE_BITS, reset_less=True)
        square = Signal(VARIANCE_BITS, reset_less=True)
        total = Signal(signed(32), reset_less=True)
        offset = Signal(signed(32), reset_less=True)
        with m.If(self.start):
            m.d.sync += [
                scaled.eq(self.channels * self.sums.squares),
                square.eq(Mux(centered, self.sums.total * self.sums.total, 0)),
                total.eq(self.sums.total),
                offset.eq(
                    Mux(
                        self.statistic == Statistic.LARGEST,
                        self.sums.largest,
                        Mux(centered, self.sums.total, 0),
                    )
                ),
            ]
        number = Signal(VARIANCE_BITS, reset_less=True)
        weight = Signal(VARIANCE_BITS)
        m.d.comb += weight.eq(total + self.epsilon)
        m.d.sync += number.eq(
            Mux(root, scaled - square + self.epsilon, Mux(weight < 2, Const(2), weight))
        )
        bits = Signal(range(VARIANCE_BITS + 1), reset_less=True)
        for bit in range(VARIANCE_BITS):
            with m.If(number[bit]):
                m.d.sync += bits.eq(bit + 1)

        # Steps 3 to 5: the divisor, the dividend.
        dropped = Signal(range(VARIANCE_BITS + 1), reset_less=True)
        excess = Signal(signed(8))
        m.d.comb += excess.eq(bits - ROOT_BITS)
        m.d.sync += dropped.eq(Mux(root & (excess > 0), excess + excess[0], 0))
        divisor = Signal(32, reset_less=True)
        kept = Signal(range(VARIANCE_BITS + 1), reset_less=True)
        m.d.sync += [divisor.eq(number >> dropped), kept.eq(bits - dropped)]
        half = Signal(range(ROOT_BITS))
        m.d.comb += half.eq((kept + 1) >> 1)
        rest = Signal(REST_BITS, reset_less=True)
        twice = Signal(REST_BITS, reset_less=True)
        part = Signal(REST_BITS, reset_less=True)
        digits = Signal(MANTISSA_BITS, reset_less=True)
        shift = Signal(range(VARIANCE_BITS), reset_less=True)
        power = Signal(range(REST_BITS))
        top = MANTISSA_BITS - 1
        m.d.comb += power.eq(Mux(root, 2 * FRACTION_BITS + (half << 1), FRACTION_BITS + bits))
        trial = Signal(REST_BITS + 1)
        fits = Signal()
        m.d.comb += [
            trial.eq(twice + part),
            fits.eq((trial <= rest) & ~(root & (step == 6))),  # a root has 16 digits
        ]
        with m.If(step == 5):
            m.d.sync += [
                rest.eq((Const(1) << power) + Mux(root, 0, number >> 1)),
                twice.eq(0),
                part.eq(Mux(root, divisor << (2 * top), divisor << top)),
                shift.eq(Mux(root, half + (dropped >> 1), bits)),
            ]
        with m.Else():
            # Steps 6 to 22: a digit each.
            m.d.sync += [
                digits.eq(digits << 1 | fits),
                rest.eq(Mux(fits, rest - trial, rest)),
                twice.eq(Mux(root, (twice >> 1) + Mux(fits, part, 0), 0)),
                part.eq(Mux(root, part >> 2, part >> 1)),
            ]

        # Step 23: a mantissa of 2**16 is one of 2**15, with a shift less by 1.
        factor = Signal(TokenFactor(), reset_less=True)
        whole = self.statistic == Statistic.LARGEST
        carry = digits[top]
        m.d.sync += [
            factor.offset.eq(offset),
            factor.mantissa.eq(Mux(whole | carry, 1 << FRACTION_BITS, digits)),
            factor.shift.eq(Mux(whole, FRACTION_BITS, shift - carry)),
        ]
        m.d.comb += [self.valid.eq(step == 24), self.factor.eq(factor)]
        return m
