"""``nupes compile``: cycles, losses and the files of a program."""

import json
from pathlib import Path

import numpy as np
import pytest

import nupes
from nupes.cli import main
from tests.commands.run import ARRAY_TEXT, refused
from tests.small import ARRAY, small_network


def test_compile_predicts_cycles(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = nupes.compile(small_network(), ARRAY)
    assert main(["compile", "net.safetensors", "--array", ARRAY_TEXT, "-o", "p.npz"]) == 0
    total = next(line for line in capsys.readouterr().out.splitlines() if "total" in line)
    assert f"{program.cycles:,}" in total
    with np.load("p.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["image"], program.image)
        np.testing.assert_array_equal(saved["input_addresses"], program.holes)
        assert json.loads(str(saved["report"]))["cycles"] == program.cycles
    assert main(["compile", "net.safetensors", "--array", ARRAY_TEXT, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cycles"] == program.cycles == sum(layer["cycles"] for layer in report["layers"])


def test_compile_shows_where_the_cycles_go(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = nupes.compile(small_network(), ARRAY)
    assert main(["compile", "net.safetensors", "--array", ARRAY_TEXT, "--losses"]) == 0
    printed = capsys.readouterr().out
    assert "requant" in printed
    assert printed.count(f"{program.layers[0].tile_bound:,}") >= 1
    printed = " ".join(printed.split())
    for times in (2, 4):
        cycles = program.cycles_with_port(times)
        assert cycles < program.cycles
        assert f"{64 * times} bits: {cycles:,} cycles, {program.cycles - cycles:,} fewer" in printed


def test_compile_writes_hex_for_readmemh(folder: Path) -> None:
    assert main(["compile", "net.safetensors", "--array", ARRAY_TEXT, "-o", "p.hex"]) == 0
    start, *words = Path("p.hex").read_text().split()
    assert start == "@0"
    image = nupes.compile(small_network(), ARRAY).image
    assert [int(word, 16) for word in words] == image[:, 0].tolist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["compile", "net.safetensors", "--array", "16"],
            "array must be ROWSxCOLS, such as \"16x16\", not '16'",
        ),
        (
            ["compile", "net.safetensors", "--array", "6x4"],
            "ArrayConfig.rows and cols must divide one another, not 6x4",
        ),
        (
            ["compile", "net.safetensors", "--array", "4x4,depth=3"],
            "array setting must be one of code_bits,",
        ),
        (
            ["compile", "net.safetensors", "--array", "4x4,code_bits=x"],
            "array setting code_bits must be an integer, not 'x'",
        ),
        (
            ["compile", "net.safetensors", "--array", "4x4,products=yes"],
            "array setting products must be 0 or 1, not 'yes'",
        ),
        (
            ["compile", "net.safetensors", "-o", "p.bin"],
            "program must be saved as .npz or .hex, not 'p.bin'",
        ),
        (
            ["compile", "net.safetensors", "--latency", "0"],
            "latency must be an integer from 1 to 2**24 - 1 cycles, not 0",
        ),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert refused(capsys, *words).startswith(message)


def test_compile_takes_a_batch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = nupes.compile(small_network(), ARRAY, batch=3)
    words = ["compile", "net.safetensors", "--array", ARRAY_TEXT, "--batch", "3"]
    assert main([*words, "-o", "p.npz"]) == 0
    assert f"3 together: {program.cycles / 3:,.1f}" in capsys.readouterr().out
    with np.load("p.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["input_addresses"], program.holes)
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["batch"], report["cycles"]) == (3, program.cycles)
    assert report["cycles_per_image"] == program.cycles_per_image
    assert "batch must be an integer from 1 to 256" in refused(capsys, *words[:-1], "0")
