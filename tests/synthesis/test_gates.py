"""Blocks as gates: what synthesis makes of a block does what the block does, cycle by cycle."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring

from nupes.arch.config import ArrayConfig
from nupes.rtl.bus.gearbox import Gearbox
from nupes.rtl.control.walk import Walk
from nupes.rtl.datapath.cell import Cell
from nupes.rtl.datapath.corner_turn import CornerTurn
from nupes.rtl.datapath.requantizer import Requantizer
from nupes.synthesis.tools import run_yosys
from proofs.mutants import draw
from proofs.netlist import Netlist, build
from proofs.vectors import Simulation

STREAMS, CYCLES = 32, 40

GATES = {
    "$_AND_": "$and", "$_OR_": "$or", "$_XOR_": "$xor", "$_XNOR_": "$xnor", "$_NOT_": "$not",
    "$_MUX_": "$mux", "$_DFF_P_": "$dff",
}  # fmt: skip
"""What gates compute, as the operators of words that do the same with one bit."""

BLOCKS = {
    "requantizer": lambda: Requantizer(ArrayConfig(2, 2)),
    "cell": lambda: Cell(ArrayConfig(2, 2)),
    "corner_turn": lambda: CornerTurn(4, 4, 4),
    "walk": Walk,
    "gearbox": lambda: Gearbox(96, 64),
}


def design(block: wiring.Component, name: str) -> str:
    """Return the RTLIL of a block with one port for each signal."""
    module, ports = Module(), {}
    module.submodules.dut = block
    for path, member, value in block.signature.flatten(block):
        if not len(Value.cast(value)):
            continue
        port = Signal(len(Value.cast(value)), name="__".join(map(str, path)))
        ports[port.name] = port, None
        pair = (Value.cast(value), port) if member.flow == wiring.In else (port, value)
        module.d.comb += pair[0].eq(Value.cast(pair[1]))
    return rtlil.convert(module, name=name, ports=ports, emit_src=False)


def gates(text: str, name: str, folder: Path) -> Netlist:
    """Return what Yosys synthesizes, with gates of one bit only."""
    (folder / "design.il").write_text(text)
    script = f"""read_rtlil design.il
        synth -flatten -noabc -top {name}
        dfflegalize -cell $_DFF_P_ 01
        opt_clean
        write_json gates.json"""
    run_yosys(script.replace("\n", ";"), folder)
    module = json.loads((folder / "gates.json").read_text())["modules"][name]
    for cell in module["cells"].values():
        if cell["type"] in GATES:
            cell["type"] = GATES[cell["type"]]
            cell["parameters"] = {"CLK_POLARITY": "1"} if cell["type"] == "$dff" else {}
            if "C" in cell["connections"]:
                cell["connections"]["CLK"] = cell["connections"].pop("C")
    assert {cell["type"] for cell in module["cells"].values()} <= {*GATES.values(), "$scopeinfo"}
    return build(module, {})


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("pyosys") is None,
    reason="pyosys is not installed: pip install nupes[area]",
)
@pytest.mark.parametrize("name", BLOCKS)
def test_gates_do_what_the_block_does(name: str, tmp_path: Path) -> None:
    """All outputs in all cycles, for random inputs from reset."""
    text = design(BLOCKS[name](), name)
    words, bits = Netlist.load({name: text})[name], gates(text, name, tmp_path)
    assert words.inputs.keys() == bits.inputs.keys()
    assert words.outputs.keys() == bits.outputs.keys()
    assert len(bits.cells) > 3 * len(words.cells), "a word must have become gates"
    rng = np.random.default_rng(0)
    pair = Simulation(words, STREAMS), Simulation(bits, STREAMS)
    compared = 0
    for cycle in range(CYCLES):
        inputs = {
            port: draw(rng, words.widths[word], STREAMS)
            for port, word in words.inputs.items()
            if port != "clk"
        }
        inputs["rst"] = np.full(STREAMS, int(cycle == 0), np.uint64)
        for simulation in pair:
            simulation.settle(inputs)
        for port in words.outputs:
            expected, found = (simulation.output(port) for simulation in pair)
            assert (expected == found).all(), f"{port} must be {expected}, not {found}, at {cycle}"
            compared += len(np.unique(expected.astype(object))) > 1
        for simulation in pair:
            simulation.tick()
    assert compared > CYCLES // 2, "outputs must change"
