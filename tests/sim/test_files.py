"""Hexadecimal files and reports."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.errors import InputError, SimulationError
from nupes.sim.files import image_text, patch_text, port_words, read_report

WIDTHS = st.sampled_from([64, 66, 96, 128, 130, 256])


@given(data=st.data(), bits=WIDTHS)
def test_image_text_holds_every_bit(data: st.DataObject, bits: int) -> None:
    words = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=5))
    lines = image_text(port_words(words, bits), bits).decode().split("\n")
    assert lines[0] == "@0"
    assert lines[-1] == ""
    assert [int(line, 16) for line in lines[1:-1]] == words
    assert {len(line) for line in lines[1:-1]} == {-(-bits // 4)}


@given(data=st.data(), bits=WIDTHS)
def test_patch_text_holds_addresses(data: st.DataObject, bits: int) -> None:
    patch = data.draw(
        st.dictionaries(st.integers(0, 2**32 - 1), st.integers(0, 2**bits - 1), min_size=1)
    )
    addresses = np.array(list(patch), np.int64)
    text = patch_text(addresses, port_words(list(patch.values()), bits), bits).decode()
    pairs = [line[1:].split(" ") for line in text.splitlines()]
    assert {int(address, 16): int(word, 16) for address, word in pairs} == patch


def test_words_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="image must have words of 64 bits, not 0x10000000000000"):
        port_words([1 << 64], 64)
    with pytest.raises(InputError, match="image must have words of 64 bits, not -0x1"):
        port_words([-1], 64)
    with pytest.raises(InputError, match="a higher bit is set"):
        port_words(np.array([[0, 4]], np.uint64), 66)
    with pytest.raises(
        InputError, match=r"must be uint64 of shape \(words, 2\), not int64 \(1, 2\)"
    ):
        port_words(np.array([[0, 1]]), 66)


def write_report(folder: Path, report: str, marks: str = "", results: str = "") -> None:
    """Write what the bench writes."""
    for name, text in (("report", report), ("marks", marks), ("results", results)):
        (folder / f"{name}.txt").write_text(text)


def test_report(tmp_path: Path) -> None:
    write_report(tmp_path, "1 90 1 2 1 0\n", "7\n80\n", "ffff0002\n")
    result = read_report(tmp_path, 2)
    assert (result.status, result.cycles) == (1, 90)
    assert result.marks.tolist() == [7, 80]
    assert result.outputs.dtype == np.int16
    assert result.outputs.tolist() == [[2, -1]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("0 9 1 0 0 0\n",), "the run did not end within 9 cycles"),
        (("1 9 0 0 0 0\n",), "did not become idle"),
        (("x 9 1 0 0 0\n",), "status has undefined bits"),
        (("1 9 1 0 1 0\n", "", "xxxx0002\n"), "results have undefined bits"),
        (("",), "the simulator must write its report to .*, but could not; make room or set"),
        (("1 9 1 1 0 0\n",), "the simulator must write its report to "),
        (("1 9 1 0 2 0\n", "", "ffff0002\nffff"), "the simulator must write its report to "),
    ],
)
def test_runs_without_a_result(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    write_report(tmp_path, *files)
    with pytest.raises(SimulationError, match=message):
        read_report(tmp_path, 2)


def test_a_report_that_was_not_written(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="the simulator must write its report to "):
        read_report(tmp_path, 2)
