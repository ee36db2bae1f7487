"""The token stage of a lane: one offset and factor for all channels of a token."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from nupes.model.operators.subtract_max import MASKED_DISTANCE
from nupes.rtl.interface import TokenFactor

__all__ = ["TokenStage"]


class TokenStage(wiring.Component):
    """Compute ``((value - offset) * mantissa + 2**(shift - 1)) >> shift``: latency 3 cycles, one
    per cycle.

    ``model.token_stage.scale_tokens`` of the difference, which fits 32 bits with its sign; so does
    the result. With ``masked`` the difference is that of minus infinity. ``value``, ``masked`` and
    ``factor`` arrive in one cycle.
    """

    value: Signal
    masked: Signal
    factor: data.View
    result: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "value": In(signed(32)),
                "masked": In(1),
                "factor": In(TokenFactor()),
                "result": Out(signed(32)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        difference = Signal(signed(32), reset_less=True)
        mantissa = Signal.like(self.factor.mantissa, reset_less=True)
        shift_1 = Signal.like(self.factor.shift, reset_less=True)
        m.d.sync += [
            difference.eq(Mux(self.masked, MASKED_DISTANCE, self.value - self.factor.offset)),
            mantissa.eq(self.factor.mantissa),
            shift_1.eq(self.factor.shift),
        ]
        product = Signal(signed(49), reset_less=True)
        shift_2 = Signal.like(shift_1, reset_less=True)
        m.d.sync += [
            product.eq(difference * mantissa + ((Const(1) << shift_1) >> 1)),
            shift_2.eq(shift_1),
        ]
        result = Signal(signed(32), reset_less=True)
        m.d.sync += result.eq(product >> shift_2)
        m.d.comb += self.result.eq(result)
        return m
