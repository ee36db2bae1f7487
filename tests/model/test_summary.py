"""What a network, a program and a result look like in a notebook."""

from html.parser import HTMLParser

import numpy as np

import nupes
from nupes.model.operators import AveragePool, Conv, MaxPool, Select
from nupes.model.summary import html_table
from nupes.sim import SimulationResult
from tests.small import ARRAY, small_network


class Cells(HTMLParser):
    """Collects the text of the cells of every row of a table, its caption first."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag in ("tr", "caption"):
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.rows[-1].append(data)


def conv(*shape: int, **options: object) -> Conv:
    """Return a convolution of zeros."""
    book = small_network().the_input.tensor.codebook
    return Conv(np.zeros(shape, np.uint8), book, np.ones(shape[0]), **options)  # type: ignore[arg-type]


def test_operators_in_words() -> None:
    assert conv(4, 3, 3, 3, stride=(2, 2)).words((8, 8, 3)) == "conv 3x3 stride 2"
    assert conv(4, 3, 1, 1).words((8, 8, 3)) == "conv 1x1"
    assert conv(4, 3, 8, 8).words((8, 8, 3)) == "linear"
    assert conv(4, 1, 3, 3, groups=4).words((8, 8, 4)) == "depthwise 3x3"
    assert conv(4, 2, 3, 3, groups=2).words((8, 8, 4)) == "conv groups 2 3x3"
    wide = conv(4, 3, 3, 1, dilation=(2, 1))
    assert wide.words((8, 8, 3)) == "conv 3x1 dilation 2x1"
    assert MaxPool((2, 2), (2, 2)).words((8, 8, 3)) == "max pool 2x2 stride 2"
    assert AveragePool((8, 8), (8, 8)).words((8, 8, 3)) == "average pool 8x8 stride 8"
    assert Select.every(3).words((8, 8, 3)) == "copy"
    cropped = Select((2, 0, 1), (2, 2), (-1, 0, 0, 0))
    assert cropped.words((8, 8, 3)) == "copy channels cropped stride 2"


def test_a_table_escapes_and_groups() -> None:
    text = html_table("a & b", ("<x>", "n"), [("<script>", 12345)])
    assert Cells(text).rows == [["a & b"], ["<x>", "n"], ["<script>", "12,345"]]
    assert "<script>" not in text


def test_a_network() -> None:
    network = small_network()
    assert repr(network) == "IntegerNetwork(2 layers, 1x4x4 -> 5, 1,344 MACs)"
    caption, titles, *rows = Cells(network._repr_html_()).rows
    assert caption == [repr(network)]
    assert len(titles) == 7
    assert rows == [
        ["conv", "conv 3x3", "x", "4x4x6", "4", "4", "864"],
        ["linear", "linear", "hidden", "1x1x5", "4", "4", "480"],
    ]


def test_a_program() -> None:
    program = nupes.compile(small_network(), ARRAY)
    assert repr(program).startswith(f"Program(4x4 array, {program.cycles:,} cycles, ")
    caption, _, *rows = Cells(program._repr_html_()).rows
    assert caption == [repr(program)]
    assert [row[:2] for row in rows] == [
        [layer.name, f"{layer.cycles:,}"] for layer in program.layers
    ]


def test_a_result() -> None:
    y = np.arange(60, dtype=np.int16).reshape(12, 5)
    same = SimulationResult(y * 0.5, y, [700] * 12, np.full((12, 1), 700))
    assert repr(same) == "SimulationResult(12 images, 700 cycles each)"
    rows = Cells(same._repr_html_()).rows
    assert len(rows) == 2 + 10
    assert rows[2] == ["0", "700", "[0 1 2 3 4]"]
    uneven = SimulationResult(y * 0.5, y, [*range(700, 712)], np.full((12, 1), 700))
    assert repr(uneven) == "SimulationResult(12 images, 700 to 711 cycles each)"
