"""The processing elements: every kind and width, against tables of products."""

from collections.abc import Iterator

import numpy as np
from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, signed

from nupes.arch.cells import CellKind, Operands, product_table
from nupes.arch.config import ArrayConfig
from nupes.model.errors import InputError
from nupes.rtl.datapath.kinds import cell_of
from proofs.harness import Harness
from proofs.parts import past

__all__ = ["cell", "cell_configs", "magnitudes"]

PRODUCT = {"weight_magnitudes": (1, 2, 4, 9, 17), "activation_magnitudes": (1, 3, 9, 20, 54, 255)}


def cell_configs() -> Iterator[tuple[str, ArrayConfig]]:
    """Yield an array for every kind of cell and every pair of widths that its operands can have."""
    for weight in range(2, 9):
        for level in range(2, 10):
            sizes = {"weight_level_bits": weight, "activation_level_bits": level}
            yield f"decode {weight}x{level}", ArrayConfig(2, 2, **sizes)
    seen = set()
    for mac in ("uniform", "square", "pair"):
        for bits in range(2, 9):
            for more_weight in (bits, bits + 1):
                for more_level in (bits, bits + 1):
                    try:
                        config = ArrayConfig(
                            2, 2, code_bits=bits, mac=mac,
                            weight_operand_bits=more_weight, activation_operand_bits=more_level,
                        )  # fmt: skip
                    except InputError:
                        continue  # its table would be larger than a multiplier
                    name = f"{mac} {config.cell.weight_bits}x{config.cell.activation_bits}"
                    if name not in seen:
                        seen.add(name)
                        yield name, config
    yield "product", ArrayConfig(2, 2, mac="product", **PRODUCT)


def magnitudes(kind: CellKind) -> list[list[int]]:
    """Return the product of each pair of magnitudes, by ``arch.cells``: rows are weights."""

    def own(fixed: tuple[int, ...], limit: int) -> Operands:
        values = {"square": np.arange(limit + 1) ** 2, "product": np.array(fixed or (0,))}
        found = values.get(kind.mac, np.arange(limit + 1)).astype(np.int64)
        return Operands((0,), np.zeros((1, 1), np.int16), (0,), found)

    return product_table(
        kind,
        own(kind.weight_magnitudes, kind.weight_limit),
        own(kind.activation_magnitudes, kind.activation_limit),
    ).tolist()


def cell(config: ArrayConfig, name: str) -> Harness:
    """Claim what ``Cell`` says: the product of the resident weight and the level is added to the
    partial sum, weights load and swap, and everything else moves on by one cycle."""
    kind = config.cell
    h = Harness(name, 1, "cell")
    dut = cell_of(config)(config)
    h.drive(dut)
    m, inputs = h.module, h.inputs
    level = inputs["level"]
    shadow = Signal(kind.weight_bits, reset_less=True)
    weight = Signal(kind.weight_bits, reset_less=True)
    loaded, resident = Signal(), Signal()
    with m.If(inputs["load"]):
        m.d.sync += [shadow.eq(inputs["weight"]), loaded.eq(1)]
    with m.If(inputs["swap"]):
        m.d.sync += [weight.eq(shadow), resident.eq(loaded)]
    active = h.probe("dut.active", kind.weight_bits)
    h.claim("shadow", ~loaded | (h.probe("dut.shadow", kind.weight_bits) == shadow))
    h.claim("resident", ~resident | (active == weight))

    value = term(h, config, active, level)
    total = Signal(signed(config.psum_bits))
    # Sums of ``rows`` products fit; of any others the low bits are claimed.
    m.d.comb += total.eq(inputs["psum"] + value)
    h.show("term", Cat(value))
    started = Signal()
    m.d.sync += started.eq(1)
    h.claim("sum", ~started | (dut.psum_out == past(m, total, 1, "total_past")))
    for port in ("level", "swap", "load"):
        before = past(m, inputs[port], 1, f"{port}_past")
        h.claim(f"{port}_out", ~started | (Value.cast(getattr(dut, f"{port}_out")) == before))
    return h


def term(h: Harness, config: ArrayConfig, weight: Value, level: Value) -> Value:
    """Return the product that two operands stand for."""
    kind, m = config.cell, h.module
    if kind.mac == "decode":
        return weight.as_signed() * level
    u, v = weight[: kind.weight_bits - 1], level[: kind.activation_bits - 1]
    size = Signal(config.largest_product.bit_length())
    if kind.mac == "uniform":
        m.d.comb += size.eq(u * v)
    elif kind.mac == "pair":
        entry = h.entry("dut.products", Cat(v, u), config.product_bits)
        m.d.comb += size.eq(entry)
    else:
        table = Array(value for row in magnitudes(kind) for value in row)
        linear = level[-1] if kind.mac == "square" else Const(0)
        m.d.comb += size.eq(Mux(linear, u * v, table[Cat(v, u)]))
    negative = weight[-1] ^ level[kind.activation_bits - 1]
    return Mux(negative, -size, size)
