"""The token memory: a factor for each address, or the one that changes nothing."""

import random

from nupes.arch.config import ArrayConfig
from nupes.rtl.interface import TokenFactor
from nupes.rtl.memory.tokens import TokenMemory
from tests.rtl.testbench import simulate


def test_factors_are_read_a_cycle_later() -> None:
    chance, layout = random.Random(0), TokenFactor()
    config = ArrayConfig(4, 4, acc_depth=8, attention=True)
    kept: dict[int, int] = {}
    one = layout.const({"mantissa": 32768, "shift": 15}).as_bits()
    cycles, want = [], [one]
    for cycle in range(200):
        written, token = chance.getrandbits(layout.size), chance.randrange(8)
        valid = cycle < 8 or chance.random() < 0.3
        token = cycle if cycle < 8 else token
        address = chance.choice(sorted(kept) or [0])
        used = int(bool(kept) and chance.random() < 0.7)
        cycles.append({"valid": int(valid), "token": token, "written": written,
                       "used": used, "address": address})  # fmt: skip
        if valid and token == address:  # nobody reads what is being written
            cycles[-1]["used"] = used = 0
        want.append(kept[address] if used else one)
        if valid:
            kept[token] = written
    seen = simulate(TokenMemory(config), cycles, ("factor",), idle=1)["factor"]
    assert seen[1:] == want[1:]
