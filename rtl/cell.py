"""The processing elements: one multiply-accumulate each, with a double-buffered weight.

Every kind computes the same sum; ``model.cells`` says what their operands are.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from nupes.rtl.config import ArrayConfig

__all__ = [
    "Cell",
    "PairCell",
    "ProductCell",
    "ProductWrite",
    "SignedCell",
    "SquareCell",
    "UniformCell",
    "cell_of",
]


class Cell(wiring.Component):
    """Compute ``psum_out = psum + weight * level``: latency 1 cycle, one product per cycle.

    ``level`` and ``swap`` move right through one register, partial sums move down through one.
    ``load`` writes ``weight`` to the shadow register and moves right as well; the column's weight
    bus must carry the weight in the cycle in which ``load`` is at the cell. ``swap`` makes the
    shadow weight, as it was in that cycle, the one that is used from the next cycle on.

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
        m.d.comb += [self.level_out.eq(level), self.psum_out.eq(psum)]
        m.d.sync += [
            level.eq(self.level),
            psum.eq(self.add(m, self.psum, active, self.level)),
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
        return weight * level


class SquareCell(SignedCell):
    """Multiply square roots and square the product, or multiply (``flag``): exponent 1/2."""

    def magnitude(self, m: Module, weight: Value, level: Value, flag: Value) -> Value:
        product = Signal(unsigned(len(weight) + len(level)))
        m.d.comb += product.eq(weight * level)
        return Mux(flag, product, product * product)


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
        product = Signal(unsigned(self.config.largest_product.bit_length()))
        with m.Switch(Cat(level, weight)):
            for i, left in enumerate(kind.weight_magnitudes):
                for j, right in enumerate(kind.activation_magnitudes):
                    if left * right:
                        with m.Case(i << len(level) | j):
                            m.d.comb += product.eq(left * right)
        return product


KINDS: dict[str, type[Cell]] = {
    "decode": Cell,
    "uniform": UniformCell,
    "square": SquareCell,
    "pair": PairCell,
    "product": ProductCell,
}


def cell_of(config: ArrayConfig) -> type[Cell]:
    """Return the class of an array's cells."""
    return KINDS[config.mac]
