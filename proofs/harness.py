"""The harness: a block, its specification, and what is claimed of both, as one Amaranth design."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module, Signal, Value
from amaranth.lib import wiring

from proofs.netlist import Netlist

__all__ = ["Harness", "netlists"]


OUTPUT = "is__"
"""What the names of output ports begin with: claims may be named as inputs are."""


@dataclass
class Harness:
    """A design with free inputs, assumptions and claims.

    A claim must hold in each cycle if all assumptions held in it and in every one before. Claims
    are proven together by induction over ``depth`` cycles. ``block`` says what is examined;
    ``bound`` is 0, or how many cycles from reset are examined if there is no induction.
    """

    name: str
    depth: int = 1
    block: str = ""
    bound: int = 0
    module: Module = field(default_factory=Module)
    inputs: dict[str, Signal] = field(default_factory=dict)
    claims: dict[str, Signal] = field(default_factory=dict)
    assumptions: dict[str, Signal] = field(default_factory=dict)
    shown: dict[str, Signal] = field(default_factory=dict)
    probes: dict[str, str] = field(default_factory=dict)

    def free(self, name: str, shape: Any) -> Any:
        """Return an input: any value in every cycle."""
        signal = Signal(shape, name=name)
        self.inputs[name] = signal
        return signal

    def fixed(self, name: str, shape: Any) -> Signal:
        """Return a value that is any, but the same in every cycle: a register that keeps itself."""
        signal = Signal(shape, name=name, reset_less=True)
        self.module.d.sync += signal.eq(signal)
        return signal

    def drive(self, block: wiring.Component, **given: Any) -> None:
        """Add the block as submodule ``dut``; drive its inputs with what is given, by the name
        that Verilog gives them, and with free inputs of that name."""
        self.module.submodules.dut = block
        for path, member, value in block.signature.flatten(block):
            name = "__".join(map(str, path))
            if member.flow == wiring.In and len(Value.cast(value)):
                source = given.pop(name) if name in given else self.free(name, member.shape)
                self.module.d.comb += Value.cast(value).eq(Value.cast(source))
            elif member.flow == wiring.Out and len(Value.cast(value)):
                self.show(f"output__{name}", value)
        assert not given, f"{block} must have inputs {sorted(given)}"

    def assume(self, value: Any, name: str = "") -> None:
        """Take something for granted in every cycle."""
        name = name or f"assumption_{len(self.assumptions)}"
        self.assumptions[name] = self._output(name, value)

    def claim(self, name: str, value: Any) -> None:
        """Claim that something holds in every cycle."""
        self.claims[name] = self._output(name, value)

    def show(self, name: str, value: Any) -> None:
        """Let simulations read a value."""
        self.shown[name] = self._output(name, value)

    def probe(self, inner: str, shape: Any) -> Any:
        """Return what a signal inside the block is, by its name there, such as ``dut.taken``."""
        name = f"probe_{len(self.probes)}"
        self.probes[name] = inner
        signal = Signal(shape, name=name)
        self.inputs[name] = signal
        return signal

    def entry(self, memory: str, address: Value, width: int) -> Signal:
        """Return the entry of a memory inside the block at an address, in this cycle."""
        name = f"address_{len(self.shown)}"
        self.show(name, address)
        return self.probe(f"{memory}[{OUTPUT}{name}]", width)

    def _output(self, name: str, value: Any) -> Signal:
        assert name not in self.outputs, f"{name} must be the name of one claim of {self.name}"
        value = Value.cast(value)
        signal = Signal(len(value), name=OUTPUT + name)
        self.module.d.comb += signal.eq(value)
        return signal

    @property
    def outputs(self) -> dict[str, Signal]:
        """All outputs of the design by their names."""
        return {**self.claims, **self.assumptions, **self.shown}


class Design(Elaboratable):
    """A module as a design, elaborated once."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def elaborate(self, platform: object) -> Module:
        return self.module


def netlists(harnesses: Sequence[Harness], optimize: bool = False) -> dict[str, Netlist]:
    """Return the netlists of harnesses by their names; one run of Yosys makes all of them."""
    texts, probes = {}, {}
    for harness in harnesses:
        assert harness.name not in texts, f"{harness.name} must be the name of one harness"
        ports = [Value.cast(signal) for signal in harness.inputs.values()]
        ports += harness.outputs.values()
        names = [*harness.inputs, *(OUTPUT + name for name in harness.outputs)]
        design = Design(harness.module)
        named = {name: (port, None) for name, port in zip(names, ports, strict=True)}
        texts[harness.name] = rtlil.convert(design, name=harness.name, ports=named, emit_src=False)
        probes[harness.name] = harness.probes
    loaded = Netlist.load(texts, probes, optimize)
    for harness in harnesses:
        netlist = loaded[harness.name]
        driven = {name for name in netlist.inputs if name not in ("clk", "rst")}
        assert driven == set(harness.inputs) - set(harness.probes), "inputs must be ports"
        netlist.outputs = {
            name.removeprefix(OUTPUT): vector for name, vector in netlist.outputs.items()
        }
    return loaded
