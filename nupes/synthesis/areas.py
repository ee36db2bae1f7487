"""Area: what the parts of an array take, measured by synthesis.

An accelerator is the sum of its parts: cells, decoders at both edges, lanes of the post-processor,
banks of the activation memory, what attention adds, and the control around them. Each is
synthesized once, whatever their number.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.cells import CELLS
from nupes.arch.config import ArrayConfig
from nupes.arch.isa import BANKS, Destination
from nupes.model.codebook import power_levels
from nupes.model.errors import InputError
from nupes.rtl import emit
from nupes.rtl.datapath.array import Array
from nupes.rtl.datapath.cell import Cell
from nupes.rtl.datapath.chain import Chain
from nupes.rtl.datapath.corner_turn import CornerTurn
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.datapath.feeder import RowFeeder, WeightFeeder
from nupes.rtl.datapath.joining import JoiningLevels, JoiningWeights
from nupes.rtl.datapath.kinds import cell_of
from nupes.rtl.datapath.lane import Lane
from nupes.rtl.datapath.reciprocal import Reciprocal
from nupes.rtl.datapath.token_stage import TokenStage
from nupes.rtl.emit import Library
from nupes.rtl.interface import FeedControl, LoadBus, WeightBus
from nupes.rtl.memory.activation import Bank
from nupes.rtl.memory.tokens import TokenMemory
from nupes.rtl.top import TOP, Pins
from nupes.sim.builds import Progress, report_to_stderr
from nupes.sim.sources import hash_sources
from nupes.synthesis.tools import Area, cached, fmax, recipe, synthesize

__all__ = [
    "PARTS",
    "TOKEN_PARTS",
    "ArrayArea",
    "array_area",
    "array_fmax",
    "cell_area",
    "cell_config",
    "compare_cells",
    "luts_of",
]

SOURCES = hash_sources(__name__)
"""Hash of the sources that this process loads: parts depend on them."""

CHAIN_PART = "chain"

PARTS = ("cell", CHAIN_PART, "row decoder", "weight decoder", "lane", "bank", "control")
"""The parts of an array, as they are synthesized; "control" is everything that is none of the
others. Small arrays have no chains; elsewhere the usual kind, whose cells lie one below the other,
stands for all."""

TOKEN_PARTS = ("token stage", "token memory", "reciprocal", "corner turn")
"""The parts that only arrays with attention have; their row decoders are those of the statistics
unit, too."""

DEPTHS = {"acc_depth": 512, "act_depth": 2048}
"""Depths of the memories of arrays whose LUTs are compared: block memories, whose bits are another
cost."""

KINDS = {
    Cell: "cell",
    Lane: "lane",
    Bank: "bank",
    TokenStage: "token stage",
    TokenMemory: "token memory",
    Reciprocal: "reciprocal",
    CornerTurn: "corner turn",
}
"""The parts by the classes of their modules; a decoder's edge is not told by its class."""

EXPONENT = 0.5
"""Power exponent of the codebooks that a measured product cell is designed for."""


@dataclass(frozen=True)
class FixedSum(ArrayConfig):
    """An array whose cells add to ``sum_bits`` bits, whatever they need."""

    sum_bits: int = 24

    @property
    def psum_bits(self) -> int:
        """Bits of a partial sum."""
        return self.sum_bits


@dataclass(frozen=True)
class ArrayArea:
    """The area of an array: one of each part, and their sum."""

    array: ArrayConfig
    target: str
    parts: dict[str, Area]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each part the array has."""
        array = self.array
        rows, cols = array.rows, array.cols
        decoders = rows + array.lanes * array.attention
        numbers = (rows * cols, array.lanes, decoders, cols, cols, BANKS, 1)
        found: dict[str, int] = dict(zip(PARTS, numbers, strict=True))
        if not array.chains:
            del found[CHAIN_PART]
        if array.attention:
            found |= zip(TOKEN_PARTS, (cols, 1, 1, 1), strict=True)
        return found

    @property
    def total(self) -> Area:
        """Area of all parts together."""
        return sum((self.parts[name] * count for name, count in self.counts.items()), Area())

    def as_dict(self) -> dict:
        """Return everything as JSON data."""
        return {
            "array": str(self.array),
            "mac": self.array.mac,
            "code_bits": self.array.code_bits,
            "target": self.target,
            "parts": {name: area.as_dict() for name, area in self.parts.items()},
            "counts": self.counts,
            "total": self.total.as_dict(),
        }


class Edged(wiring.Component):
    """An array with its edge decoders: where the longest paths of a cell begin and end."""

    load: wiring.PureInterface
    weights: wiring.PureInterface
    control: data.View
    word: data.View
    link: Signal
    psums: data.View

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        self.config, self.library = config, library
        self.array = Array(config, library)
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "weights": In(WeightBus(config)),
                "control": In(FeedControl(config)),
                "word": In(data.ArrayLayout(config.code_bits, config.lanes)),
                "link": In(int(config.chains)),
                "psums": Out(self.array.psums.shape()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.row_feeder = rows = RowFeeder(self.config, self.library)
        m.submodules.weight_feeder = columns = WeightFeeder(self.config, self.library)
        m.submodules.array = array = self.array
        for part in (rows, columns, array):
            connect(m, flipped(self.load), part.load)
        connect(m, flipped(self.weights), columns.row)
        m.d.comb += [
            rows.control.eq(self.control),
            rows.word.eq(self.word),
            array.levels.eq(rows.levels),
            array.swap.eq(rows.swap),
            array.weights.eq(columns.weights),
            array.row_load.eq(columns.row_load),
            array.link.eq(self.link),
        ]
        m.d.sync += self.psums.eq(array.psums)
        return m


def cell_config(mac: str, code_bits: int, signed: bool, base: ArrayConfig) -> ArrayConfig:
    """Return an array with cells of a kind for ``code_bits``-bit codes, of signed activations only
    or of unsigned ones too.

    Decoded levels have 8 bits, 9 if unsigned; a product cell gets power codebooks of exponent 1/2
    whose outermost levels are 127 and 255.
    """
    config = replace(
        base,
        mac="decode",
        code_bits=code_bits,
        activation_level_bits=8 if signed else 9,
        weight_operand_bits=0,
        activation_operand_bits=0,
        weight_magnitudes=(),
        activation_magnitudes=(),
    )
    if mac == "decode":
        return config
    if mac == "product":
        sides = (True, 127), (signed, 127 if signed else 255)
        weights, activations = (
            tuple(int(v) for v in power_levels(code_bits, side, top, EXPONENT) if v > 0)
            for side, top in sides
        )
        return replace(
            config, mac=mac, weight_magnitudes=weights, activation_magnitudes=activations
        )
    return replace(config, mac=mac, activation_operand_bits=code_bits if signed else 0)


def part_of(component: wiring.Component) -> str:
    """Return the part that a shared module of an accelerator is, or ""."""
    if isinstance(component, Decoder):
        rows = component.destination == Destination.ACTIVATION_TABLE
        return "row decoder" if rows else "weight decoder"
    if isinstance(component, Chain):
        return CHAIN_PART if component.direct == 0 else ""
    return next((name for kind, name in KINDS.items() if isinstance(component, kind)), "")


def part_verilogs(config: ArrayConfig) -> tuple[dict[str, str], str]:
    """Return the Verilog of every part of an accelerator, and of all modules that "control" has
    instances of; a lane has one of the token stage. What joins digits goes with "control"."""
    library = Library()
    texts = emit.modules(Pins(config, library), library, TOP)
    parts = {"control": texts.pop(TOP)}
    for module, component in library.definitions.values():
        if part := part_of(component):
            parts[part] = texts[module]
        elif isinstance(component, JoiningLevels | JoiningWeights):
            parts["control"] += texts.pop(module)
    counts = ArrayArea(config, "", {}).counts
    return {name: parts[name] for name in counts}, "\n".join(texts.values())


def cell_area(
    config: ArrayConfig,
    target: str,
    sum_bits: int = 0,
    reference: bool = False,
    liberty: Path | None = None,
) -> Area:
    """Return the area of one cell.

    ``sum_bits`` fixes the width of the partial sums (0: what the cell needs for the array's rows).
    ``reference`` replaces the cell of an array of uniform ones by the plain multiplier of two's
    complement operands.
    """
    if reference and config.mac != "uniform":
        raise InputError(f"the reference must be of mac 'uniform', not {config.mac!r}")
    if sum_bits:
        config = FixedSum(**vars(config), sum_bits=sum_bits)
    cell = Cell(config) if reference else cell_of(config)(config)
    return synthesize(emit.verilog(cell, None, "part"), target, liberty)


def compare_cells(
    base: ArrayConfig,
    target: str,
    liberty: Path | None = None,
    progress: Progress = report_to_stderr,
    sum_bits: int = 0,
) -> list[dict]:
    """Return one row for each kind of cell, for codes of ``base.code_bits`` bits.

    The row "uniform *" is the plain multiplier of two's complement operands; ``sum_bits`` is that
    of ``cell_area``. Kinds that do not exist at these bits have no row.
    """
    rows = []
    for signed in (True, False):
        for mac in CELLS:
            try:
                config = cell_config(mac, base.code_bits, signed, base)
            except InputError:
                continue
            for reference in (False, True) if mac == "uniform" else (False,):
                name, kind = mac + " *" * reference, "signed" if signed else "unsigned"
                progress(f"synthesizing a {mac} cell for {kind} activations")
                area = cell_area(config, target, sum_bits, reference, liberty)
                width = sum_bits or config.psum_bits
                row = {"cell": name, "activations": kind, "sum_bits": width}
                rows.append(row | area.as_dict())
    return rows


def array_area(
    config: ArrayConfig,
    target: str,
    liberty: Path | None = None,
    progress: Progress = report_to_stderr,
) -> ArrayArea:
    """Return the area of an array, part by part; ``liberty`` is a library for target "asic"."""

    def work(_: Path) -> dict:
        progress(f"generating the Verilog of the {config} array")
        texts, boxes = part_verilogs(config)
        areas, around = {}, {"control": boxes, "lane": texts.get("token stage", "")}
        for name, text in texts.items():
            progress(f"synthesizing: {name}")
            inside = around.get(name, "")
            areas[name] = part_area(name, text, target, liberty, inside).as_dict()
        return areas

    found = cached((repr(config), SOURCES, *recipe(target, liberty)), work)
    return ArrayArea(config, target, {name: Area(**area) for name, area in found.items()})


def part_area(
    name: str, text: str, target: str, liberty: Path | None = None, boxes: str = ""
) -> Area:
    """Return the area of a part."""
    # ABC9 fails on a corner turn for 7-series LUTs: two wires of the same name.
    return synthesize(text, target, liberty, boxes, abc9=name != "corner turn")


def luts_of(
    arrays: Iterable[ArrayConfig], target: str, progress: Callable[[int, int], None]
) -> list[int]:
    """Return the LUTs of every array on an FPGA, its memories of depths ``DEPTHS``.

    ``progress`` is called with (sizes done, sizes): a size takes a minute once, then nothing.
    """
    arrays = [replace(array, **DEPTHS) for array in arrays]
    sizes = dict.fromkeys(arrays)
    luts: dict[ArrayConfig, int] = {}
    for array in sizes:
        luts[array] = array_area(array, target, progress=lambda _: None).total.luts
        progress(len(luts), len(sizes))
    return [luts[array] for array in arrays]


def array_fmax(config: ArrayConfig) -> float:
    """Return the clock in MHz of an array with its edge decoders on an ECP5."""
    library = Library()
    return fmax(emit.verilog(Edged(config, library), library, "part"))
