"""The page as text: what it holds, that it needs nothing else, and its drawings."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from nupes.arch.costs import access_bits
from nupes.compiler.report.trace import spans
from nupes.model.network import State
from nupes.report import charts
from nupes.report.diagram import choose_lanes, lay_out
from nupes.report.gather import gather_layers, gather_size
from nupes.report.page import Facts, render
from nupes.synthesis.tools import Area
from tests.assemble import coded
from tests.export.cases import several_ends
from tests.report.facts import AREA, full_facts, plain_facts
from tests.small import small_network
from tests.small_joins import small_joins


@pytest.fixture(scope="module")
def facts() -> Facts:
    """Return all that a page can show."""
    return full_facts()


@pytest.fixture(scope="module")
def page(facts: Facts) -> str:
    """Return the full page."""
    return render(facts)


def test_the_page_says_what_is_known(facts: Facts, page: str) -> None:
    assert facts.program is not None
    for text in (f"{facts.program.cycles:,}", "98.00 %", "float 99.00 %", "W4A4", "18.5 dB"):
        assert text in page
    assert "small &amp; &lt;fine&gt;" in page
    assert "<fine>" not in page


def test_every_memory_has_a_row(facts: Facts, page: str) -> None:
    assert facts.program is not None
    found = facts.program.total_accesses
    table = re.search(r'id="accesses".*?</table>', page, re.DOTALL)
    assert table is not None
    for name, bits in access_bits(facts.program.array).items():
        row = re.search(f"<tr><th[^>]*>{name.replace('_', ' ')}</th>.*", table[0])
        assert row is not None
        values = re.findall(r'data-value="(\d+)"', row[0])
        assert list(map(int, values)) == [bits, found.reads[name], found.writes[name]]
    assert f"{found.fetched:,} words" in page


def test_the_area_of_an_fpga_or_of_gates(facts: Facts, page: str) -> None:
    assert re.search(f"LUTs, xilinx<.*>{AREA.total.luts:,}<", page)
    assert f"{AREA.total.flops:,} flip-flops" in page
    gates = replace(AREA, target="asic", parts=dict.fromkeys(AREA.parts, Area(transistors=7)))
    page = render(replace(facts, area=gates))
    assert re.search(f"Transistors, asic<.*>{gates.total.transistors:,}<", page)


def test_the_page_needs_nothing_else(page: str) -> None:
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert "@import" not in page
    assert "url(http" not in page
    assert len(page.encode()) < 1 << 20


def test_the_same_facts_give_the_same_page(facts: Facts, page: str) -> None:
    assert render(facts) == page


def test_little_is_known() -> None:
    page = render(plain_facts())
    assert "Where the cycles go" not in page
    assert "Choices" not in page
    assert "Levels of stored values" in page


def test_drawings_are_xml_in_the_pages_colours(facts: Facts) -> None:
    assert facts.program is not None
    conv = facts.layers[0]
    assert conv.weights is not None
    drawings = [
        charts.draw_codes(conv.weights, 'a "title" & <more>'),
        charts.draw_waterfall(facts.program),
        charts.draw_timeline(facts.program),
        charts.draw_pareto(list(facts.points), "4x4"),
        charts.draw_accuracy(facts.results, 0.99),
    ]
    for text in drawings:
        root = ET.fromstring(text)
        assert root.get("aria-label")
        assert "var(--" in text
        assert not re.search(r"#0000[0-9a-f]{2}", text)
        assert "<style" not in text
    assert ET.fromstring(drawings[0]).get("aria-label") == 'a "title" & <more>'


def test_engines_are_busy_as_long_as_their_spans(facts: Facts) -> None:
    assert facts.program is not None
    for engine, share in charts.busy_shares(facts.program).items():
        busy = sum(
            span.last + 1 - span.first for span in spans(facts.program) if span.engine == engine
        )
        assert share.mean() * facts.program.cycles == pytest.approx(busy, rel=1e-6)


def test_an_array_that_is_beaten_is_no_step(facts: Facts) -> None:
    point = facts.points[0]
    slower = replace(point, cycles=point.cycles + 1)
    assert charts.staircase([slower, point]) == [point]


def test_arcs_that_overlap_lie_in_lanes_of_their_own() -> None:
    lanes = choose_lanes([(0, 4), (1, 3), (4, 6), (2, 5)])
    assert lanes[(1, 3)] == lanes[(4, 6)]
    assert len({lanes[(0, 4)], lanes[(1, 3)], lanes[(2, 5)]}) == 3


def test_every_layer_has_a_box_and_its_operands() -> None:
    layers = gather_layers(small_network())
    sources = {"x": ("input", "4x4x1")}
    diagram = lay_out(layers, sources)
    assert [box.title for box in diagram.boxes] == ["input", "conv", "linear"]
    assert len(diagram.arcs) == 2
    added = [layers[0], replace(layers[1], reads=("hidden", "x"))]
    assert [arc.skips for arc in lay_out(added, sources).arcs] == [False, False, True]
    twice = [layers[0], replace(layers[1], reads=("hidden", "hidden"))]
    assert [arc.skips for arc in lay_out(twice, sources).arcs] == [False, False]
    assert np.all([box.y + diagram.box_height <= diagram.height for box in diagram.boxes])


def test_layers_of_several_inputs_and_none_of_the_cycles() -> None:
    """A gate and a concatenation, which takes no cycles where its parts lie side by side."""
    network = small_joins()
    layers = gather_layers(network)
    costs = [{"cycles": 0 if layer.name == "both layer" else 10} for layer in layers]
    timed = [replace(layer, cost=cost) for layer, cost in zip(layers, costs, strict=True)]
    diagram = lay_out(timed, {"x": ("input", "4x4x2")})
    shares = {box.title: box.share for box in diagram.boxes}
    assert shares["both layer"] == 0
    assert sum(shares.values()) == pytest.approx(1)
    # The gate's product reads the map before the means; the concatenation reads what it passes.
    assert [arc.skips for arc in diagram.arcs].count(True) == 2
    page = render(Facts("joins", network, gather_size(network, 1), layers))
    for words in ("gate, map", "gated, deep", "product", "concat"):
        assert words in page


def test_several_inputs_outputs_and_state() -> None:
    network = several_ends()
    page = render(Facts("ends", network, gather_size(network, 1), gather_layers(network)))
    assert "input left/0" in page
    assert "input right */ 0" in page
    last = network.tensors["joined"]
    before = coded("before", last.shape, last.codebook)
    state = State(before, "joined", np.zeros(last.shape, np.uint8))
    network = replace(network, state=(state,))
    page = render(Facts("state", network, gather_size(network, 1), gather_layers(network)))
    assert "state before" in page
