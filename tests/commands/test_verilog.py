"""``nupes verilog``: the file, and where it cannot be written."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nupes.cli import main
from tests.commands.run import ARRAY_TEXT, refused


def test_verilog(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verilog", "--array", ARRAY_TEXT, "-o", "a.v"]) == 0
    text = Path("a.v").read_text()
    assert "module nupes_accelerator" in text
    assert f"{text.count(chr(10)):,} lines" in capsys.readouterr().out


@pytest.mark.slow
def test_a_bus(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["verilog", "--array", ARRAY_TEXT, "--bus", "axi4", "-o", "a.v"]
    assert main(words) == 0
    text = Path("a.v").read_text()
    assert "module nupes_accelerator(" in text
    assert "module nupes_axi(" in text
    line = capsys.readouterr().out
    assert "array on an axi4 bus of 64 bits, " in line
    assert main([*words, "--bus-bits", "128", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bus_bits"] == 128
    assert "input [127:0] m_axi_rdata;" in Path("a.v").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verilog", "--bus", "ahb"], "bus must be one of axi4, not 'ahb'"),
        (["verilog", "--bus-bits", "64"], "bus_bits must be given with a bus, not 64 without one"),
        (
            ["verilog", "-o", "none/a.v"],
            "output path none/a.v must be writable: No such file or directory",
        ),
        (["verilog", "-o", "x" * 300], f"output path {'x' * 300} must be writable: File name too"),
        (["verilog", "-o", "."], "output path . must be a file, not a directory"),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert refused(capsys, *words).startswith(message)


def test_links_stay_and_pipes_are_written_to(folder: Path) -> None:
    target, link, pipe = folder / "real.v", folder / "link.v", folder / "pipe.v"
    link.symlink_to("real.v")
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(pipe.read_text)
        for path in (link, pipe):
            assert main(["verilog", "--array", "2x2", "-o", str(path)]) == 0
        assert text.result() == target.read_text()
    assert link.is_symlink()
    assert pipe.is_fifo()
