"""The netlist: words, the cells that compute them, registers and memories, as Yosys has them.

Amaranth's built-in Yosys flattens the design, so what is examined is what becomes Verilog.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import Any

from amaranth._toolchain.yosys import find_yosys

__all__ = ["CONSTANT", "Cell", "Memory", "Netlist", "Part", "Read", "Register", "Vector", "Write"]

CONSTANT = -1
"""The word of a part that is a constant; its ``low`` is the value."""

PASSES = ("proc", "memory_collect", "flatten", "opt_clean")
"""What makes a flat netlist of processes, memories and submodules; nothing is optimized."""

OPTIMIZE = ("opt -full", "wreduce", "opt_clean")
"""What removes logic that does nothing."""

SILENT = ("$scopeinfo", "$print", "$check")
"""Cells that compute nothing."""


@dataclass(frozen=True)
class Part:
    """``width`` bits of a word from bit ``low`` on, or a constant."""

    word: int
    low: int
    width: int


Vector = tuple[Part, ...]
"""Parts side by side, the lowest first."""


@dataclass(frozen=True)
class Cell:
    """One operator: ``output`` is a word; ``inputs`` by the port names of Yosys.

    A "$read" is an asynchronous read of ``memory``.
    """

    kind: str
    inputs: Mapping[str, Vector]
    output: int
    signed: bool = False
    memory: int = -1
    name: str = ""


@dataclass(frozen=True)
class Register:
    """``word`` takes ``data`` at the end of each cycle; ``init`` is its value after power-up."""

    word: int
    data: Vector
    init: int
    name: str = ""


@dataclass(frozen=True)
class Read:
    """A synchronous read: ``word`` takes the entry at ``address`` if ``enable``; with the data of
    the write ports that it is ``transparent`` for."""

    word: int
    address: Vector
    enable: Vector
    transparent: tuple[bool, ...]


@dataclass(frozen=True)
class Write:
    """A write port; ``enable`` has one bit for each bit of ``data``. Later ports win."""

    address: Vector
    data: Vector
    enable: Vector


@dataclass(frozen=True)
class Memory:
    """``size`` entries of ``width`` bits from address 0 on, and the synchronous ports."""

    name: str
    width: int
    size: int
    address_bits: int
    init: tuple[int, ...]
    reads: tuple[Read, ...]
    writes: tuple[Write, ...]


@dataclass
class Netlist:
    """A flat design with one clock.

    ``widths`` of all words; ``inputs`` and ``outputs`` by port, ``names`` of everything that has
    one, with dots between the levels of the hierarchy; ``cells`` in an order in which each comes
    after those it depends on.
    """

    widths: list[int] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Vector] = field(default_factory=dict)
    names: dict[str, Vector] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)

    @staticmethod
    def load(
        rtlil: Mapping[str, str],
        probes: Mapping[str, Mapping[str, str]] | None = None,
        optimize: bool = False,
    ) -> dict[str, "Netlist"]:
        """Return the netlists of top modules, by name, from the RTLIL of each.

            ``probes``: for each top, input ports and the inner names that they show instead; or
        ``memory[port]``, the entry of a memory at the address that a port has, or
        ``memory(index)``, what a synchronous read port of a memory shows.
        """
        passes = (*PASSES, *OPTIMIZE) if optimize else PASSES
        # Where one module is the top, Yosys drops all that are not below it.
        texts = [text.replace("attribute \\top 1\n", "") for text in rtlil.values()]
        script = ["read_rtlil <<rtlil", *texts, "rtlil", *passes, "write_json"]
        modules = json.loads(find_yosys(lambda _: True).run(["-q", "-"], "\n".join(script)))
        return {top: build(modules["modules"][top], (probes or {}).get(top, {})) for top in rtlil}


def number(text: str | int) -> int:
    """Return the number of a parameter; unknown bits are 0."""
    if isinstance(text, int):
        return text
    return int("".join("1" if bit == "1" else "0" for bit in text) or "0", 2)


class Builder:
    """Gathers a netlist; ``places`` says of each net which bit of which word it is."""

    def __init__(self) -> None:
        self.netlist = Netlist()
        self.places: dict[int, tuple[int, int]] = {}
        self.aliases: dict[int, int | str] = {}

    def word(self, bits: list[Any]) -> int:
        """Return a new word that drives some nets."""
        self.netlist.widths.append(len(bits))
        for index, bit in enumerate(bits):
            if isinstance(bit, int):
                self.places[bit] = (len(self.netlist.widths) - 1, index)
        return len(self.netlist.widths) - 1

    def vector(self, bits: Iterable[Any]) -> Vector:
        """Return the parts that some nets are."""
        parts: list[Part] = []
        for net in bits:
            bit = self.aliases.get(net, net)
            if not isinstance(bit, int):
                word, low, one = CONSTANT, 0, int(bit == "1")
            else:
                (word, low), one = self.places[bit], 0
            last = parts[-1] if parts else None
            if last and last.word == word == CONSTANT:
                parts[-1] = Part(CONSTANT, last.low | one << last.width, last.width + 1)
            elif last and last.word == word and last.low + last.width == low:
                parts[-1] = replace(last, width=last.width + 1)
            else:
                parts.append(Part(word, one if word == CONSTANT else low, 1))
        return tuple(parts)


def build(module: Mapping[str, Any], probes: Mapping[str, str]) -> Netlist:
    """Return the netlist of a module of Yosys's JSON."""
    builder = Builder()
    netlist, nets = builder.netlist, module["netnames"]
    entries: dict[tuple[str, str], int] = {}
    shown_reads: dict[str, tuple[str, int]] = {}
    ports = module["ports"]
    cells = {name: cell for name, cell in module["cells"].items() if cell["type"] not in SILENT}
    for port, inner in probes.items():
        if inner.endswith(")"):
            memory, _, index = inner[:-1].partition("(")
            shown_reads[port] = memory, int(index)
            continue
        if inner.endswith("]"):
            memory, _, address = inner[:-1].partition("[")
            entries[memory, address] = builder.word(ports[port]["bits"])
            continue
        if inner not in nets:
            close = [name for name in nets if name.rpartition(".")[2] == inner.rpartition(".")[2]]
            raise KeyError(f"{inner} must be a name of the netlist; like it: {close}")
        shown, bits = ports[port]["bits"], nets[inner]["bits"]
        if len(shown) != len(bits):
            raise ValueError(f"{inner} must have {len(shown)} bits, not {len(bits)}")
        builder.aliases.update(zip(shown, bits, strict=True))
    for name, port in ports.items():
        if port["direction"] == "input" and name not in probes:
            netlist.inputs[name] = builder.word(port["bits"])

    # Every word gets its nets first, so that what uses them can come in any order.
    inits = {}
    for net in nets.values():
        if "init" in net["attributes"]:
            init = str(net["attributes"]["init"])[::-1]
            inits.update(zip(net["bits"], init, strict=False))
    built: list[tuple[str, Mapping[str, Any], int | list[int]]] = []
    for name, cell in cells.items():
        connections = cell["connections"]
        if cell["type"] == "$mem_v2":
            width = number(cell["parameters"]["WIDTH"])
            data = connections["RD_DATA"]
            words = [builder.word(data[at : at + width]) for at in range(0, len(data), width)]
            built.append((name, cell, words))
            memory = memory_name(cell)
            for port, (of, index) in shown_reads.items():
                if of == memory:
                    bits = enumerate(ports[port]["bits"])
                    builder.places.update({bit: (words[index], at) for at, bit in bits})
        else:
            built.append(
                (name, cell, builder.word(connections["Q" if "Q" in connections else "Y"]))
            )

    unordered: list[Cell] = []
    for label, cell, words in built:
        connections = {name: builder.vector(bits) for name, bits in cell["connections"].items()}
        if isinstance(words, list):
            unordered += add_memory(builder, cell, words)
        elif cell["type"] == "$dff":
            bits = cell["connections"]["Q"]
            init = number("".join(inits.get(bit, "0") for bit in reversed(bits)))
            if number(cell["parameters"]["CLK_POLARITY"]) != 1:
                raise ValueError("registers must take their value at the rising edge")
            netlist.registers.append(Register(words, connections["D"], init, label))
        else:
            parameters = cell["parameters"]
            signed = [number(v) for k, v in parameters.items() if k in ("A_SIGNED", "B_SIGNED")]
            inputs = {k: v for k, v in connections.items() if k != "Y"}
            is_signed = number(parameters.get("A_SIGNED", 0)) == 1
            if cell["type"] not in ("$shl", "$shr", "$sshr", "$sshl", "$shift"):
                is_signed = bool(signed) and all(signed)
            elif cell["type"] == "$shift" and len(signed) == 2 and signed[1]:
                raise ValueError("$shift must shift by an unsigned amount")
            unordered.append(Cell(cell["type"], inputs, words, is_signed, name=label))
    numbers = {memory.name: index for index, memory in enumerate(netlist.memories)}
    for (memory, address), word in entries.items():
        if memory not in numbers:
            raise KeyError(f"{memory} must be a memory of the netlist: {sorted(numbers)}")
        read = {"A": builder.vector(ports[address]["bits"])}
        unordered.append(Cell("$read", read, word, memory=numbers[memory]))
    netlist.cells = ordered(unordered)
    netlist.names = {name.strip("\\"): builder.vector(net["bits"]) for name, net in nets.items()
                     if all(known(builder, bit) for bit in net["bits"])}  # fmt: skip
    for name, port in ports.items():
        if port["direction"] == "output":
            netlist.outputs[name] = builder.vector(port["bits"])
    return netlist


def memory_name(cell: Mapping[str, Any]) -> str:
    """Return a memory's name, without the number that it has beside a signal of that name."""
    return re.sub(r"\$\d+$", "", str(cell["parameters"]["MEMID"]).strip("\\"))


def known(builder: Builder, net: int | str) -> bool:
    """Return whether something drives a net."""
    net = builder.aliases.get(net, net) if isinstance(net, int) else net
    return not isinstance(net, int) or net in builder.places


def add_memory(builder: Builder, cell: Mapping[str, Any], words: list[int]) -> list[Cell]:
    """Add a memory; return its asynchronous reads."""
    netlist, connections = builder.netlist, cell["connections"]
    get = {name: number(value) for name, value in cell["parameters"].items() if name != "MEMID"}
    width, size, address_bits = get["WIDTH"], get["SIZE"], get["ABITS"]
    if get["OFFSET"]:
        raise ValueError("memories must begin at address 0")

    def port(name: str, index: int, bits: int) -> Vector:
        return builder.vector(connections[name][index * bits : (index + 1) * bits])

    writes = tuple(
        Write(
            port("WR_ADDR", index, address_bits),
            port("WR_DATA", index, width),
            port("WR_EN", index, width),
        )
        for index in range(get["WR_PORTS"])
    )
    reads, cells = [], []
    for index, word in enumerate(words):
        address = port("RD_ADDR", index, address_bits)
        if get["RD_CLK_ENABLE"] >> index & 1:
            mask = get["RD_TRANSPARENCY_MASK"] >> (index * len(writes))
            transparent = tuple(bool(mask >> at & 1) for at in range(len(writes)))
            reads.append(Read(word, address, port("RD_EN", index, 1), transparent))
        else:
            cells.append(Cell("$read", {"A": address}, word, memory=len(netlist.memories)))
    init = get["INIT"]
    entries = tuple(init >> (width * at) & ((1 << width) - 1) for at in range(size))
    netlist.memories.append(
        Memory(
            memory_name(cell),
            width, size, address_bits, entries, tuple(reads), writes,
        )
    )  # fmt: skip
    return cells


def ordered(cells: list[Cell]) -> list[Cell]:
    """Return cells so that each comes after what drives its inputs."""
    driver = {cell.output: index for index, cell in enumerate(cells)}
    graph = {
        index: {
            driver[part.word]
            for vector in cell.inputs.values()
            for part in vector
            if part.word in driver
        }
        for index, cell in enumerate(cells)
    }
    return [cells[index] for index in TopologicalSorter(graph).static_order()]
