"""The emitted Verilog: names, no traces of this machine, the same text every time."""

import os
import re
import subprocess
import sys

import pytest

from nupes.arch.isa import BANKS
from nupes.rtl import ArrayConfig, verilog
from nupes.rtl.top import TOP

CONFIG = ArrayConfig(rows=4, cols=2, act_depth=64, acc_depth=16)

WIDTHS = {
    **dict.fromkeys(("clk", "rst", "start", "idle", "done", "mark"), 1),
    "length": 32,
    "status": 2,
    "request_valid": 1,
    "request_ready": 1,
    "request_address": 32,
    "request_length": 8,
    "response_valid": 1,
    "response_ready": 1,
    "response_data": CONFIG.port_bits,
    "result_valid": 1,
    "result_ready": 1,
    "result_data": 16 * CONFIG.cols,
}
"""The ports of docs/hardware.md."""

PRINT = "import nupes.rtl as r; print(r.verilog(r.ArrayConfig(4, 2, act_depth=64, acc_depth=16)))"


@pytest.fixture(scope="module")
def text() -> str:
    """Return the Verilog of ``CONFIG``."""
    return verilog(CONFIG)


def test_ports(text: str) -> None:
    top = text[text.index(f"module {TOP}(") :]
    top = top[: top.index("endmodule")]
    names = re.findall(r"\w+", top[: top.index(";")])[2:]
    assert sorted(names) == sorted(WIDTHS)
    for direction in ("input", "output"):
        assert re.search(rf"^  {direction} ", top, re.MULTILINE)
    found = re.findall(r"^  (?:input|output) (?:\[(\d+):0\] )?(\w+);", top, re.MULTILINE)
    assert {name: int(high or 0) + 1 for high, name in found} == WIDTHS


def test_text_is_the_same_in_every_process_and_names_no_source_file(text: str) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", PRINT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == text.strip()
    assert ".py" not in text


def test_memories_are_cleared_in_a_loop(text: str) -> None:
    assert f"for (i = 0; i < {CONFIG.act_depth // BANKS}; i = i + 1) words[i] = 0;" in text
    assert not re.search(r"^ *\w+\[1\] = ", text, re.MULTILINE)


def test_configuration_needs_no_amaranth() -> None:
    code = "import sys, nupes.rtl, nupes.arch.isa; sys.exit('amaranth' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
