"""Delays: a shift register, and the two triangles that skew and align the columns of the array."""

from amaranth.hdl import Cat, Module, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Deskew", "Skew", "delay"]


def delay(m: Module, value: Value, cycles: int, name: str, reset_less: bool = False) -> Value:
    """Return the bits of ``value``, ``cycles`` cycles later: one shift register called ``name``."""
    value = Value.cast(value)
    width = len(value)
    if cycles == 0:
        return value.as_unsigned()
    line = Signal(width * cycles, name=name, reset_less=reset_less)
    m.d.sync += line.eq(Cat(value, line[: width * (cycles - 1)]))
    return line[width * (cycles - 1) :]


class Triangle(wiring.Component):
    """Delay entry ``i`` of ``count`` by ``cycles(i)`` cycles; one vector per cycle; no reset."""

    def __init__(self, width: int, count: int) -> None:
        layout = data.ArrayLayout(Shape(width), count)
        super().__init__({"i": In(layout), "o": Out(layout)})
        self.i: data.View
        self.o: data.View
        self.count = count

    def cycles(self, index: int) -> int:
        """Return the delay of one entry."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index in range(self.count):
            line = delay(m, self.i[index], self.cycles(index), f"line_{index}", reset_less=True)
            m.d.comb += self.o[index].eq(line)
        return m


class Skew(Triangle):
    """Delay entry ``i`` by ``i`` cycles: what arrives together meets a wave that moves by one."""

    def cycles(self, index: int) -> int:
        return index


class Deskew(Triangle):
    """Delay entry ``i`` by ``count - 1 - i`` cycles: align what ``Skew`` has spread."""

    def cycles(self, index: int) -> int:
        return self.count - 1 - index
