"""Verilog with shared modules: a block that occurs many times is emitted once and instantiated.

Amaranth emits one module per submodule, so a thousand equal cells become a thousand modules. A
structural component therefore creates its repeated parts with ``place``: without a library they are
ordinary submodules (for the Python simulator), with one they are instances of a shared definition.
"""

import re
from collections.abc import Mapping
from typing import Any

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring

__all__ = ["Library", "modules", "place", "verilog"]

PREFIX = "nupes_"

YOSYS = (0, 40)
"""The oldest one that writes what Amaranth makes, as Amaranth itself asks."""

ATTRIBUTES = ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")
"""Those that say something about Amaranth and nothing about the hardware."""

EMPTY = re.compile(r"^ *wire \[-1:0\] .*;\n", re.MULTILINE)
"""A name without bits, which nothing refers to; Verilog would give it two."""

MODULE = re.compile(r"^module \\?(\w+)[\s\S]*?^endmodule\n", re.MULTILINE)
"""A module and, before a dot, the name of the design that it is part of."""


class Library:
    """The shared modules of one design: one definition per class and arguments."""

    def __init__(self) -> None:
        self.definitions: dict[tuple, tuple[str, wiring.Component]] = {}

    def define(self, kind: type[wiring.Component], *args: Any) -> tuple[str, wiring.Component]:
        """Return module name and component of ``kind(*args)``; the same arguments, the same module.

        The arguments must be hashable. The component must have at least one register.
        """
        key = (kind, *args)
        if key not in self.definitions:
            name = PREFIX + re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
            others = sum(other is kind for other, *_ in self.definitions)
            name += f"_{others}" if others else ""
            self.definitions[key] = name, kind(*args)
        return self.definitions[key]


def place(
    m: Module, library: Library | None, name: str, kind: type[wiring.Component], *args: Any
) -> Any:
    """Add ``kind(*args)`` to ``m`` as submodule ``name`` and return an object with its ports.

    With a library the submodule is an instance of a shared module in the ``sync`` domain.
    """
    if library is None:
        m.submodules[name] = component = kind(*args)
        return component
    module, definition = library.define(kind, *args)
    ports = definition.signature.create(path=(name,))
    m.submodules[name] = Instance(
        module,
        ("i", "clk", ClockSignal()),
        ("i", "rst", ResetSignal()),
        *(
            ("i" if member.flow == wiring.In else "o", "__".join(map(str, path)), Value.cast(value))
            for path, member, value in definition.signature.flatten(ports)
        ),
    )
    return ports


def modules(top: wiring.Component, library: Library | None, name: str) -> dict[str, str]:
    """Return the Verilog of ``top`` without its shared modules, and of each of those, by name."""
    designs = {name: elaborated(top, name)}
    while library is not None and len(designs) <= len(library.definitions):
        # Elaborating a definition may add further ones.
        module, component = list(library.definitions.values())[len(designs) - 1]
        designs[module] = elaborated(component, module)
    return translate(designs)


def verilog(top: wiring.Component, library: Library | None, name: str = "nupes") -> str:
    """Return the Verilog of ``top`` and of every module in the library that it was built with."""
    return "\n".join(modules(top, library, name).values())


def elaborated(component: wiring.Component, name: str) -> str:
    """Return the RTLIL of one component, without source locations."""
    return rtlil.convert(component, name=name, emit_src=False)


def translate(designs: Mapping[str, str]) -> dict[str, str]:
    """Return the Verilog of each RTLIL design by its name, as ``amaranth.back.verilog`` makes it.

    One run of Yosys, whose start takes longer than most designs, translates them all.
    """
    removed = " ".join(f"-remove {name}" for name in ATTRIBUTES)
    script = [f"read_rtlil <<rtlil\n{text}\nrtlil" for text in designs.values()]
    script += ["proc -nomux -norom", "memory_collect"]
    script += [f"attrmap {removed}", f"attrmap -modattr {removed}", "write_verilog -norename"]
    # It warns of processes that it cannot write; Amaranth makes none of those.
    yosys = find_yosys(lambda version: version >= YOSYS)
    text = yosys.run(["-q", "-"], "\n".join(script), ignore_warnings=True)
    header, _, text = text.partition("\n")
    texts = dict.fromkeys(designs, f"{header}\n")
    for match in MODULE.finditer(EMPTY.sub("", text)):
        texts[match[1]] += f"\n{match[0]}"
    return texts
