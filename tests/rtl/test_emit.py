"""Verilog with shared modules."""

import re
from dataclasses import replace

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.cell import Cell
from nupes.rtl.datapath.datapath import Datapath
from nupes.rtl.emit import Library, place, verilog

CONFIG = ArrayConfig(rows=2, cols=4, code_bits=2, acc_depth=4, act_depth=8, param_slots=2)


@pytest.fixture(scope="module")
def text() -> str:
    """Verilog of a small datapath."""
    library = Library()
    return verilog(Datapath(CONFIG, library), library, "datapath")


def ports_of(text: str, module: str) -> set[str]:
    """Return the ports of a module, from its header."""
    header = re.search(rf"^module {module}\((.*?)\);", text, re.MULTILINE | re.DOTALL)
    assert header
    return {port.strip() for port in header[1].split(",")}


def test_repeated_blocks_are_defined_once(text: str) -> None:
    defined = re.findall(r"^module (nupes_\w+)\(", text, re.MULTILINE)
    parts = ["cell", "decoder", "decoder_1", "joining_levels", "joining_weights", "lane", "row"]
    assert sorted(defined) == [f"nupes_{part}" for part in parts]
    placed = re.findall(r"^  (nupes_\w+) (\w+) \(", text, re.MULTILINE)
    for module, name, number in (
        ("nupes_row", "row", CONFIG.rows),
        ("nupes_cell", "cell", CONFIG.cols),
        ("nupes_lane", "lane", CONFIG.cols),
    ):
        found = [place for kind, place in placed if kind == module]
        assert sorted(found) == [f"{name}_{index}" for index in range(number)]


@pytest.mark.parametrize("module", ["nupes_cell", "nupes_decoder", "nupes_lane", "nupes_row"])
def test_instances_connect_every_port(text: str, module: str) -> None:
    instances = re.findall(rf"^  {module} \w+ \((.*?)\);", text, re.MULTILINE | re.DOTALL)
    assert instances
    for instance in instances:
        assert set(re.findall(r"\.(\w+)\(", instance)) == ports_of(text, module)


def test_the_same_configuration_gives_the_same_text(text: str) -> None:
    library = Library()
    assert verilog(Datapath(CONFIG, library), library, "datapath") == text


def test_other_arguments_are_another_module() -> None:
    library = Library()
    narrow = replace(CONFIG, weight_level_bits=2, activation_level_bits=2)

    class Pair(wiring.Component):
        def __init__(self) -> None:
            super().__init__({})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            small = place(m, library, "small", Cell, narrow)
            large = place(m, library, "large", Cell, CONFIG)
            m.d.comb += [small.level.eq(1), large.level.eq(small.level_out)]
            return m

    text = verilog(Pair(), library, "pair")
    assert re.findall(r"^module (nupes_\w+)\(", text, re.MULTILINE) == [
        "nupes_cell",
        "nupes_cell_1",
    ]
    assert len(library.define(Cell, narrow)[1].level) == 2
