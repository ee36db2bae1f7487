"""The token stage of a lane against the model, every cycle a value."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.model.token_stage import scale_tokens
from nupes.rtl.datapath.token_stage import TokenStage
from tests.rtl.testbench import signed, simulate

VALUES = st.tuples(
    st.integers(-(2**30), 2**30 - 1), st.integers(-(2**30), 2**30 - 1),
    st.integers(1, 65535), st.integers(1, 31),
)  # fmt: skip
ONE = [(-(2**31), 0, 32768, 15), (2**31 - 1, 0, 32768, 15), (-1, 0, 32768, 15)]


@settings(max_examples=30)
@given(st.lists(VALUES, min_size=1, max_size=30))
def test_values_are_scaled(values: list[tuple[int, int, int, int]]) -> None:
    fitting = []
    for value, offset, mantissa, shift in values:
        result = scale_tokens(np.array(value - offset), np.array(mantissa), np.array(shift))
        if -(2**31) <= result < 2**31:
            fitting.append((value, offset, mantissa, shift))
    fitting += ONE
    cycles = [
        {"value": value, "factor": {"offset": offset, "mantissa": mantissa, "shift": shift}}
        for value, offset, mantissa, shift in fitting
    ]
    seen = simulate(TokenStage(), cycles, ("result",), idle=3)["result"][3:]
    want = [
        int(scale_tokens(np.array(value - offset), np.array(mantissa), np.array(shift)))
        for value, offset, mantissa, shift in fitting
    ]
    assert [signed(value, 32) for value in seen] == want


def test_minus_infinity_is_far_from_any_offset() -> None:
    factor = {"mantissa": 32768, "shift": 15}
    cycles = [
        {"value": -32768, "masked": masked, "factor": factor | {"offset": offset}}
        for masked in (0, 1)
        for offset in (-32768, -7, 32767)
    ]
    seen = simulate(TokenStage(), cycles, ("result",), idle=3)["result"][3:]
    assert [signed(value, 32) for value in seen] == [0, -32761, -65535, *[-65536] * 3]
