"""Memories: what is read at an address is what was last written there, whichever it is."""

from amaranth.hdl import Cat, Mux, Signal, Value

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import BANKS, Destination
from nupes.model.token_stage import FRACTION_BITS
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.interface import TokenFactor
from nupes.rtl.memory.activation import ActivationMemory
from nupes.rtl.memory.tokens import TokenMemory
from proofs.harness import Harness
from proofs.parts import expected_entry, filled, past

__all__ = ["activation_memory", "decoder", "token_memory"]


def decoder(config: ArrayConfig, destination: Destination, width: int, name: str) -> Harness:
    """Claim that the level is what LOADs wrote for the code and the slot, or 0."""
    h = Harness(name, 1, "decoder")
    dut = Decoder(config, destination, width)
    h.drive(dut)
    m, inputs = h.module, h.inputs
    load = {key: inputs[f"load__{key}"] for key in ("valid", "destination", "address", "data")}
    bits = config.code_bits + clog2(config.table_slots)
    at = h.fixed("at", bits)
    entry, known = expected_entry(h, "dut.table", destination, at, width, load, bits)
    looked_up = known & (Cat(inputs["code"], inputs["slot"]) == at)
    asked, zero = past(m, looked_up, 1, "asked"), past(m, inputs["zero"], 1, "zero_past")
    level = past(m, entry, 1, "entry_past")
    ready = filled(m, 1)
    h.claim("level", ~ready | zero | ~asked | (dut.level == level.as_signed()))
    h.claim("zero", ~ready | ~zero | (dut.level == 0))
    return h


def token_memory(config: ArrayConfig, name: str) -> Harness:
    """Claim that a factor is the one that was written last, or the one that changes nothing."""
    h = Harness(name, 1, "token memory")
    dut = TokenMemory(config)
    h.drive(dut)
    m, inputs = h.module, h.inputs
    at, size = h.fixed("at", clog2(config.acc_depth)), TokenFactor().size
    known, entry = Signal(), Signal(size, reset_less=True)
    with m.If(inputs["valid"] & (inputs["token"] == at)):
        m.d.sync += [known.eq(1), entry.eq(inputs["written"])]
    h.claim("memory", ~known | (h.entry("dut.factors", at, size) == entry))
    asked = past(m, inputs["used"] & known & (inputs["address"] == at), 1, "asked")
    unused, ready = past(m, ~inputs["used"], 1, "unused")[0], filled(m, 1)
    factor, before = Value.cast(dut.factor), past(m, entry, 1, "entry_past")
    h.claim("factor", ~ready | ~asked | (factor == before))
    one = (dut.factor.offset == 0) & (dut.factor.mantissa == 1 << FRACTION_BITS)
    h.claim("one", ~ready | ~unused | (one & (dut.factor.shift == FRACTION_BITS)))
    return h


def activation_memory(config: ArrayConfig, name: str) -> Harness:
    """Claim that every reader sees each slice of a word as the write-back or LOAD left it.

    Assumed: the ports of a pair address different banks in a cycle in which both are used, and
    LOAD leaves a bank alone that is ``write_busy``.
    """
    h = Harness(name, 1, "activation memory")
    dut = ActivationMemory(config)
    h.drive(dut)
    m = h.module
    slices, bits = config.lanes // config.cols, config.cols * config.code_bits
    at = h.fixed("at", config.act_address_bits)
    part = h.fixed("part", range(slices)) if slices > 1 else Signal(1)
    h.assume(at < config.act_depth, "address_exists")
    if slices > 1:
        h.assume(part < slices, "slice_exists")

    first, second = dut.write
    both = first.valid & second.valid
    h.assume(~both | (first.address[0] != second.address[0]), "writes_to_two_banks")
    h.assume(~second.valid | first.valid | (first.address[0] != second.address[0]), "second_port")
    for pair, ports in (("residual", dut.residual), ("stream", stream_ports(dut, config))):
        if len(ports) == BANKS:
            crossed = ports[0].address[0] != ports[1].address[0]
            h.assume(crossed, f"{pair}_reads_two_banks")
    load = dut.load
    loading = load.valid & (load.destination == Destination.ACTIVATION)
    busy = Mux(load.address[0], dut.write_busy[1], dut.write_busy[0])
    h.assume(~loading | ~busy, "load_waits")

    known, code = Signal(), Signal(bits, reset_less=True)
    for port in (first, second):
        with m.If(port.valid & (port.address == at) & port.mask.bit_select(part, 1)):
            m.d.sync += [known.eq(1), code.eq(port.data.as_value().word_select(part, bits))]
    with m.If(loading & (load.address[: len(at)] == at)):
        m.d.sync += [known.eq(1), code.eq(load.data[: config.word_bits].word_select(part, bits))]
    stored = [h.entry(f"dut.{bank}.words", at[1:], config.word_bits) for bank in ("even", "odd")]
    holds = Mux(at[0], *reversed(stored)).word_select(part, bits) == code
    h.claim("memory", ~known | holds)

    ready, before = filled(m, 1), past(m, code, 1, "code_past")
    readers = {f"residual_{index}": port for index, port in enumerate(dut.residual)}
    readers |= {f"stream_{index}": port for index, port in enumerate(stream_ports(dut, config))}
    for reader, port in readers.items():
        asked = past(m, known & (port.address == at), 1, f"{reader}_asked")
        seen = port.data.as_value().word_select(part, bits)
        h.claim(reader, ~ready | ~asked | (seen == before))
    return h


def stream_ports(dut: ActivationMemory, config: ArrayConfig) -> list:
    """Return the ports of the stream: two in arrays with attention."""
    return [dut.stream, dut.second] if config.attention else [dut.stream]
