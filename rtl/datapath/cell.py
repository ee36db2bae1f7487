"""The processing elements: one multiply-accumulate each, with a double-buffered weight.

Every kind computes the same sum; ``arch.cells`` says what their operands are.
"""

from collections.abc import Callable, Sequence
from operator import mul

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig

__all__ = [
    "Cell",
    "PairCell",
    "ProductCell",
    "ProductWrite",
    "SignedCell",
    "SquareCell",
    "UniformCell",
    "lookup",
    "multiply",
    "tabulate",
]


LUT_INPUTS = 6
"""Inputs of an FPGA's look-up table."""

MOST_INDEX = 7
"""Bits of an index up to which a table is smaller than a multiplier."""


def lookup(m: Module, name: str, index: Value, entries: Sequence[int]) -> Value:
    """Return ``entries[index]`` as logic: unsigned entries, one for every index.

    Sixty-four entries are one look-up table for each of their bits; the upper bits of a wider index
    choose between two such tables, so that a mapper need not find that division by itself.
    """
    entry = Signal(max(max(entries).bit_length(), 1), name=name)
    if len(index) > LUT_INPUTS:
        half = len(entries) // 2
        low = lookup(m, f"{name}_0", index[:-1], entries[:half])
        high = lookup(m, f"{name}_1", index[:-1], entries[half:])
        m.d.comb += entry.eq(Mux(index[-1], high, low))
        return entry
    with m.Switch(index):
        for at, value in enumerate(entries):
            if value:
                with m.Case(at):
                    m.d.comb += entry.eq(value)
    return entry


def tabulate(
    m: Module, name: str, left: Value, right: Value, function: Callable[[int, int], int]
) -> Value:
    """Return a function of two unsigned values as a table of all pairs."""
    pairs = ((u, v) for v in range(1 << len(right)) for u in range(1 << len(left)))
    return lookup(m, name, Cat(left, right), [function(u, v) for u, v in pairs])


def multiply(m: Module, left: Value, right: Value) -> Value:
    """Return the product of two unsigned values, looked up if that is smaller."""
    small = len(left) + len(right) <= MOST_INDEX
    return tabulate(m, "multiple", left, right, mul) if small else left * right


class Cell(wiring.Component):
    """Compute ``psum_out = psum + weight * level``: latency 1 cycle, one product per cycle.

    ``level`` and ``swap`` move right through one register, partial sums move down through one.
    ``load`` writes ``weight`` to the shadow register and moves right as well; the column's weight
    bus must carry the weight in the cycle in which ``load`` is at the cell. ``swap`` makes the
    shadow weight, as it was in that cycle, the one that is used from the next cycle on.

    In arrays with chains the cell multiplies ``operand``, which is ``level`` unless a chain gives
    it another one; what moves right is ``level``.

    Operands are opaque bits to everything but ``add``: another kind of cell overrides that.
    """

    def __init__(self, config: ArrayConfig) -> None:
        level, weight = signed(config.level_entry_bits), signed(config.cell.weight_bits)
        super().__init__(
            {
                "level": In(level),
                "swap": In(1),
                "load": In(1),
                "weight": In(weight),
                "psum": In(signed(config.psum_bits)),
                "level_out": Out(level),
                "swap_out": Out(1),
                "load_out": Out(1),
                "psum_out": Out(signed(config.psum_bits)),
                **({"operand": In(level)} if config.chains else {}),
                **self.more_ports(config),
            }
        )
        self.level: Signal
        self.swap: Signal
        self.load: Signal
        self.weight: Signal
        self.psum: Signal
        self.level_out: Signal
        self.swap_out: Signal
        self.load_out: Signal
        self.psum_out: Signal
        self.operand: Signal
        self.config = config

    def more_ports(self, config: ArrayConfig) -> dict[str, wiring.Member]:
        """Return the ports that this kind of cell has besides."""
        return {}

    def add(self, m: Module, psum: Value, weight: Value, level: Value) -> Value:
        """Return the sum of a partial sum and the operands' product, which is 0 if one of them
        is."""
        return psum + weight * level

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shadow = Signal.like(self.weight, reset_less=True)
        active = Signal.like(self.weight, reset_less=True)
        level = Signal.like(self.level, reset_less=True)
        psum = Signal.like(self.psum, reset_less=True)
        operand = self.operand if self.config.chains else self.level
        m.d.comb += [self.level_out.eq(level), self.psum_out.eq(psum)]
        m.d.sync += [
            level.eq(self.level),
            psum.eq(self.add(m, self.psum, active, operand)),
            self.swap_out.eq(self.swap),
            self.load_out.eq(self.load),
        ]
        with m.If(self.load):
            m.d.sync += shadow.eq(self.weight)
        with m.If(self.swap):
            m.d.sync += active.eq(shadow)
        return m


class SignedCell(Cell):
    """A cell whose operands are a sign bit above a magnitude: ``magnitude`` says what to add.

    The product's sign turns the adder into a subtractor, so that only magnitudes are multiplied.
    """

    def magnitude(self, m: Module, weight: Value, level: Value, flag: Value) -> Value:
        """Return the unsigned product of two operands' magnitudes; ``flag`` are the bits above the
        level's sign."""
        raise NotImplementedError

    def add(self, m: Module, psum: Value, weight: Value, level: Value) -> Value:
        kind, width = self.config.cell, len(psum)
        top, sign = kind.weight_bits - 1, kind.activation_bits - 1
        product = self.magnitude(m, weight[:top], level[:sign], level[sign + 1 :])
        product = product[: self.config.largest_product.bit_length()]
        negative = Signal()
        m.d.comb += negative.eq(weight[top] ^ level[sign])
        # -product is ~product + 1; the 1 is the carry of a bit below both: a single carry chain.
        term = Cat(negative, product ^ negative.replicate(len(product)))
        term = Cat(term, negative.replicate(width + 1 - len(term)))
        return (Cat(1, psum) + term)[1 : width + 1].as_signed()


class UniformCell(SignedCell):
    """Multiply small integers: uniform codebooks, and digits of any."""

    def magnitude(self, m: Module, weight: Value, level: Value, flag: Value) -> Value:
        return multiply(m, weight, level)


class SquareCell(SignedCell):
    """Multiply square roots and square the product, or multiply (``flag``): exponent 1/2."""

    def magnitude(self, m: Module, weight: Value, level: Value, flag: Value) -> Value:
        product = multiply(m, weight, level)
        if len(weight) + len(level) <= LUT_INPUTS:
            square = tabulate(m, "square", weight, level, lambda u, v: (u * v) ** 2)
        elif len(product) <= MOST_INDEX:
            square = lookup(m, "square", product, [p * p for p in range(1 << len(product))])
        else:
            square = product * product
        return Mux(flag, product, square)


class ProductWrite(wiring.Signature):
    """A write to the product tables of all cells: ``valid``, ``address``, ``data``."""

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "address": Out(config.table_bits),
                "data": Out(config.product_bits),
            }
        )


class PairCell(SignedCell):
    """Look the product up in a table of all pairs of magnitudes, which ``table`` writes.

    An entry written in one cycle is used from the next cycle on.
    """

    table: wiring.PureInterface

    def more_ports(self, config: ArrayConfig) -> dict[str, wiring.Member]:
        return {"table": In(ProductWrite(config))}

    def magnitude(self, m: Module, weight: Value, level: Value, flag: Value) -> Value:
        config = self.config
        memory = Memory(shape=config.product_bits, depth=1 << config.table_bits, init=[])
        m.submodules.products = memory
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [
            read.addr.eq(Cat(level, weight)),
            write.addr.eq(self.table.address),
            write.data.eq(self.table.data),
            write.en.eq(self.table.valid),
        ]
        return read.data


class ProductCell(SignedCell):
    """The products of one pair of codebooks, as a function of the operands' magnitudes."""

    def magnitude(self, m: Module, weight: Value, level: Value, flag: Value) -> Value:
        kind = self.config.cell
        none = (0,) * (1 << max(len(weight), len(level)))
        left, right = kind.weight_magnitudes + none, kind.activation_magnitudes + none
        return tabulate(m, "product", weight, level, lambda u, v: left[u] * right[v])
