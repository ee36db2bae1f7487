"""Memory bits: those of the Verilog, for every kind of cell."""

import re
from typing import Any

import pytest

from nupes.arch.config import ArrayConfig
from nupes.arch.costs import memory_bits
from nupes.rtl import verilog

MODULE = re.compile(r"^module (\S+?) ?\(.*?^endmodule", re.DOTALL | re.MULTILINE)
MEMORY = re.compile(r"^  reg \[(\d+):0\] \S+ +\[(\d+):0\];", re.MULTILINE)
INSTANCE = re.compile(r"^  (\\?nupes_\S+) +\\?\S+ +\(", re.MULTILINE)

SMALL: dict[str, Any] = {"acc_depth": 16, "act_depth": 101, "param_slots": 4, "tensor_bits": 5}
PRODUCT: dict[str, Any] = {
    "mac": "product",
    "weight_magnitudes": (1, 3, 10),
    "activation_magnitudes": (1, 5, 14, 41, 255),
}
ARRAYS = [
    ArrayConfig(2, 6, code_bits=3, **SMALL),
    ArrayConfig(4, 2, code_bits=4, mac="uniform", **SMALL),
    ArrayConfig(2, 2, code_bits=2, mac="square", **SMALL),
    ArrayConfig(2, 4, code_bits=3, mac="pair", **SMALL),
    ArrayConfig(3, 3, code_bits=4, **PRODUCT, **SMALL),
    ArrayConfig(4, 4, code_bits=4, attention=True, **SMALL),
    ArrayConfig(3, 3, code_bits=4, spills=True, **SMALL),
]
MORE = [
    ArrayConfig(4, 2, code_bits=8, acc_depth=64, act_depth=100),
    ArrayConfig(2, 4, code_bits=5, mac="uniform", weight_operand_bits=6, **SMALL),
    ArrayConfig(4, 4, code_bits=3, mac="square", activation_operand_bits=3, act_depth=7),
    ArrayConfig(4, 2, code_bits=5, mac="pair", weight_level_bits=6, **SMALL),
    ArrayConfig(6, 3, code_bits=2, **PRODUCT, act_depth=4096, fetch_depth=64),
]


@pytest.mark.parametrize(
    "array",
    [*ARRAYS, *(pytest.param(array, marks=pytest.mark.slow) for array in MORE)],
    ids=lambda array: f"{array.mac}-{array}-{array.code_bits}",
)
def test_memory_bits_are_those_of_the_verilog(array: ArrayConfig) -> None:
    modules = {match[1]: match[0] for match in MODULE.finditer(verilog(array))}

    def bits(name: str) -> int:
        sizes = MEMORY.findall(modules[name])
        # Queues of addresses are not counted.
        own = sum((int(width) + 1) * (int(last) + 1) for width, last in sizes)
        own *= not name.endswith((".places", "residual_reader.queue"))
        return own + sum(bits(part) for part in INSTANCE.findall(modules[name]))

    assert bits("nupes_accelerator") == memory_bits(array)
