"""Counters in the Verilog of an accelerator: every read and write of its memories, where it happens
in the hardware, and every word at its port."""

from collections.abc import Callable
from pathlib import Path

from amaranth.lib import data

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination
from nupes.compiler.report.accesses import Accesses
from nupes.rtl import verilog
from nupes.rtl.interface import (
    FeedControl,
    MeasureConstants,
    MeasureControl,
    WordControl,
)
from nupes.rtl.memory.residual_reader import Tag

__all__ = ["counting_verilog", "read_counts"]

PORT = ("fetched", "results", "stored")
ENGINE, DATAPATH = "accelerator.stream_engine", "accelerator.datapath"
STATISTICS, WRITEBACK = "accelerator.statistics", "accelerator.writeback"


def field(path: str, layout: data.StructLayout, name: str) -> str:
    """Return a field of a packed signal."""
    found = layout[name]
    return f"{path}[{found.offset + found.width - 1}:{found.offset}]"


def both(*conditions: str) -> str:
    """Return 1 where all conditions hold, else 0, wide enough to be added up."""
    return "(" + " && ".join(f"({item})" for item in conditions) + " ? 1 : 0)"


def add(terms: list[str]) -> str:
    """Return the sum of some terms."""
    return " + ".join(terms) or "0"


def loads(path: str, destination: Destination, *conditions: str) -> str:
    """Return 1 where a LOAD writes an entry of a memory."""
    here = f"{path}.load__destination == {int(destination)}"
    return both(f"{path}.load__valid", here, *conditions)


def expressions(config: ArrayConfig) -> tuple[dict[str, tuple[str, str]], list[str], str]:
    """Return the reads and the writes of each memory in a cycle, the words at the port, and whether
    a word is issued to the array."""
    rows, cols = range(config.rows), range(config.cols)
    feed, control = FeedControl(config), WordControl(config)

    def word(name: str) -> str:
        return field(f"{ENGINE}.control", control, name)

    def fed(name: str) -> str:
        return field(f"{ENGINE}.feed", feed, name)

    def lanes(count: Callable[[str], str]) -> str:
        return add([count(f"{DATAPATH}.lane_{col}") for col in cols])

    def queue(path: str) -> tuple[str, str]:
        return both(f"{path}.r_en", f"{path}.r_rdy"), both(f"{path}.w_en")

    measures = f"{ENGINE}.is_measure" if config.attention else "1'b0"
    stores = f"{ENGINE}.is_store" if config.spills else "1'b0"
    issue, is_in = f"{ENGINE}.issue", f"!{fed('pad')}"
    to_array = f"{issue} && !{ENGINE}.is_pool && !{measures} && !{stores}"
    result = both(word("valid"), word("last"))
    tag = "accelerator.residual_reader.tag"
    reads = [both(issue, f"!{measures}", is_in)]
    valid = field(tag, Tag(), "valid")
    reads += [f"({valid} == 3 ? 2 : {valid} == 0 ? 0 : 1)"]
    offsets = "0", "0"
    decoders = [f"{DATAPATH}.row_feeder.decoder_{row}" for row in rows]
    decodes = [
        both(f"issued[{row}]", f"!{path}.zero") for row, path in zip(rows, decoders, strict=True)
    ]
    tables = decoders
    if config.joins:
        joined = both(to_array, is_in, fed("joined"))
        reads.append(joined)
        low = f"{DATAPATH}.row_feeder.offsets.load__address[{config.code_bits - 1}:0] == 0"
        path = f"{DATAPATH}.row_feeder.offsets"
        offsets = joined, loads(path, Destination.ACTIVATION_TABLE, low)
        decodes = [
            both(f"issued[{row}]", f"!{path}.zero", f"!{path}.joined")
            for row, path in zip(rows, decoders, strict=True)
        ]
        tables = [f"{path}.decoder" for path in decoders]
    weights = [f"{DATAPATH}.weight_feeder.decoder_{col}" for col in cols]
    if config.joins_weights:
        weights = [f"{path}.decoder" for path in weights]
    cells = [f"{DATAPATH}.array.row_{row}.cell_{col}" for row in rows for col in cols]
    given = [both(f"{DATAPATH}.weight_feeder.row_load[{row}]") for row in rows]
    index = clog2(config.cols) - 1

    def parameter(path: str, destination: Destination) -> str:
        return loads(path, destination, f"{path}.load__address[{index}:0] == {path}.index")

    banks = [f"accelerator.activation_memory.{name}.mask" for name in ("even", "odd")]
    found = {
        "activations": (add(reads), add([both(f"{bank} != 0") for bank in banks])),
        "weights": (
            add([both(f"{cell}.swap") for cell in cells]),
            add([both(f"{cell}.load") for cell in cells]),
        ),
        "accumulators": (
            lanes(lambda path: both(f"{path}.accumulator.valid", f"!{path}.accumulator.first")),
            lanes(lambda path: both(f"{path}.accumulator.valid")),
        ),
        "activation_tables": (
            add([*decodes, offsets[0]]),
            add([*(loads(path, Destination.ACTIVATION_TABLE) for path in tables), offsets[1]]),
        ),
        "weight_tables": (
            f"{config.cols} * ({add(given)})",
            add([loads(path, Destination.WEIGHT_TABLE) for path in weights]),
        ),
        "residual_tables": (
            f"{config.cols} * {both(f'{valid} == 1', field(tag, Tag(), 'pair') + ' == 0')}",
            lanes(lambda path: loads(f"{path}.residual_term.decoder", Destination.RESIDUAL_TABLE)),
        ),
        "scales": (
            f"{config.cols} * {both(f'{WRITEBACK}.places.r_en', '!accelerator.pool_unit.valid')}",
            lanes(lambda path: parameter(path, Destination.SCALE)),
        ),
        "shifts": (
            f"{config.cols} * {both(f'{ENGINE}.residuals__valid')}",
            lanes(lambda path: parameter(path, Destination.SHIFT)),
        ),
        "thresholds": (
            f"{config.cols} * {result} * {word('encoder_depth')}",
            lanes(lambda path: loads(f"{path}.encoder", Destination.THRESHOLD)),
        ),
        "codes": (
            f"{config.cols} * {both(result, word('encoder_depth') + ' != 0')}",
            lanes(lambda path: loads(f"{path}.encoder", Destination.MAP)),
        ),
        "fetch_buffer": queue("accelerator.fetcher.buffer"),
        "result_queue": queue(f"{WRITEBACK}.queue"),
    }
    if config.mac == "pair":
        found["product_tables"] = (
            f"{config.cols} * ({add(decodes)})",
            add([both(f"{cell}.table__valid") for cell in cells]),
        )
    if config.attention:
        attend(config, found, word)
    if config.spills:
        found["store_queue"] = queue("accelerator.store_queue.queue")
    stored = both("store_valid", "store_ready") if config.spills else "0"
    port = [both("response_valid", "response_ready"), both("result_valid", "result_ready"), stored]
    return found, port, both(to_array)


def attend(
    config: ArrayConfig, found: dict[str, tuple[str, str]], word: Callable[[str], str]
) -> None:
    """Add what arrays with attention have besides."""
    constants, control = MeasureConstants(config), MeasureControl(config)

    def constant(name: str) -> str:
        return field(f"{STATISTICS}.constants", constants, name)

    def measured(name: str, signal: str = "measured") -> str:
        return field(f"{STATISTICS}.{signal}", control, name)

    pair = f"({measured('top')} && {constant('odd')} ? 1 : 2)"
    reads, writes = found["activations"]
    reads += f" + ({measured('valid')} ? {pair} : 0)"
    found["activations"] = f"{reads} + {both('accelerator.stationary_reader.busy')}", writes
    summed = measured("valid", "control_4"), measured("whole", "control_4")
    tables = f"({measured('valid', 'gathered')} ? {config.cols} : {measured('valid')} ? "
    tables += f"{config.lanes} : 0)"
    decoders = [f"{STATISTICS}.decoder_{lane}" for lane in range(config.lanes)]
    found["token_tables"] = (
        f"({constant('linear')} ? 0 : {tables})",
        add([loads(path, Destination.ACTIVATION_TABLE) for path in decoders]),
    )
    found["token_sums"] = (
        both(*summed, f"!{measured('first', 'control_4')}"),
        both(*summed),
    )
    found["token_factors"] = (
        both(word("valid"), word("last"), word("token")),
        both("accelerator.token_memory.valid"),
    )
    found["token_tags"] = both(f"{STATISTICS}.tags.r_en"), both(f"{STATISTICS}.tags.w_en")


def counting_verilog(config: ArrayConfig) -> str:
    """Return the Verilog of an accelerator that writes ``accesses.txt`` at the end of a run: a line
    for each memory with its name, reads and writes, and one for the port."""
    found, port, issued = expressions(config)
    counts = [count for pair in found.values() for count in pair] + port
    declared = [f"  integer count_{number};" for number in range(len(counts))]
    # Row r decodes a word r + 1 cycles after its issue.
    declared += [f"  reg [{config.rows}:0] issued = 0;"]
    cleared = [f"      count_{number} = 0;" for number in range(len(counts))]
    counted = [
        f"    count_{number} = count_{number} + {count};" for number, count in enumerate(counts)
    ]
    lines = [
        f'      $fdisplay(counts, "{name} %0d %0d", count_{2 * number}, count_{2 * number + 1});'
        for number, name in enumerate(found)
    ]
    numbers = ", ".join(f"count_{2 * len(found) + number}" for number in range(len(PORT)))
    monitor = "\n".join(
        [
            "  /* verilator lint_off WIDTH */",
            "  /* verilator lint_off BLKSEQ */",
            "  integer counts;",
            *declared,
            "  always @(posedge clk) begin",
            "    if (start) begin",
            *cleared,
            "    end",
            *counted,
            f"    issued = {{issued[{config.rows - 1}:0], {issued} == 1}};",
            "    if (done) begin",
            '      counts = $fopen("accesses.txt", "w");',
            *lines,
            f'      $fdisplay(counts, "port %0d %0d %0d", {numbers});',
            "      $fclose(counts);",
            "    end",
            "  end",
            "endmodule",
        ]
    )
    text = verilog(config)
    top, rest = text.split("endmodule", 1)
    assert top.rstrip().count("module nupes_accelerator(") == 1
    return top + monitor + rest


def read_counts(directory: Path) -> Accesses:
    """Return what the counters of the latest run in a simulator's directory say."""
    *memories, port = (
        line.split() for line in (directory / "accesses.txt").read_text().splitlines()
    )
    return Accesses(
        {name: int(reads) for name, reads, _ in memories},
        {name: int(writes) for name, _, writes in memories},
        *map(int, port[1:]),
    )
