"""The walk of a tile: addresses and coordinates as sums over nested loops."""

from amaranth.hdl import Mux, Shape, Signal, Value

from nupes.arch.isa import ADDRESS_BITS
from nupes.rtl.control.walk import Walk
from proofs.harness import Harness

__all__ = ["walk"]

COORDINATE = Shape(16, signed=True)


class Loops:
    """Six nested loops: planes, kernel columns, kernel rows, columns of the output, its rows, and
    images, of as many rows as the descriptor says kernel rows if it says 0 planes.

    ``goes[i]``: with the next word loop ``i`` goes on by one, and all inside it begin again.
    """

    def __init__(self, h: Harness, dut: Walk) -> None:
        m, inputs = h.module, h.inputs
        self.m, self.accept, self.tile, self.of = m, inputs["accept"], dut.tile, dut.descriptor
        counts = ("planes", "kernel_w", "kernel_h")
        at, ends = [], []
        for name in counts:
            count = self.of[name]
            counter = Signal.like(count, name=f"at_{name}")
            at.append(counter)
            ends.append(Mux(count == 0, 1, count) <= counter + 1)
        self.images = self.of.planes == 0
        ends[2] |= self.images
        self.column = Signal.like(self.of.out_width)
        self.warm_up = Signal.like(dut.warm_up)  # columns before each row's first pixel
        self.early = Signal.like(dut.warm_up)  # those still to come
        row_ends = (self.early == 0) & (
            Mux(self.of.out_width == 0, 1, self.of.out_width) <= self.column + 1
        )
        self.row = Signal.like(self.of.kernel_h)  # of the image
        rows = Mux(self.of.kernel_h == 0, 1, self.of.kernel_h)
        ends += [row_ends, self.images & (rows <= self.row + 1)]
        goes, carry = [], inputs["step"]
        for index, end in enumerate(ends):
            goes.append(self._named(f"goes_{index}", carry & ~end))
            carry = self._named(f"carry_{index}", carry & end)
        self.goes = [*goes, carry]
        for index, counter in enumerate(at):
            self.sum(counter, index, 1, 0)
        self.sum(self.row, 4, 1, 0)
        self.lines = self._named("lines", self.goes[4] | self.goes[5])
        self.at, self.ends = at, ends
        self.pixels = self._named(
            "pixels", (self.goes[3] | self.lines) & (self.early == 0)
        )  # the next word is of the next pixel
        with m.If(self.goes[3]):
            m.d.sync += self.early.eq(Mux(self.early == 0, 0, self.early - 1))
        with m.If(self.pixels):
            m.d.sync += self.column.eq(self.column + 1)
        with m.If(self.lines):
            m.d.sync += [self.column.eq(0), self.early.eq(self.warm_up)]
        with m.If(self.accept):
            m.d.sync += self.column.eq(self.tile.column)
            m.d.sync += [self.warm_up.eq(dut.warm_up), self.early.eq(dut.warm_up)]

    def _named(self, name: str, value: Value) -> Signal:
        signal = Signal(name=name)
        self.m.d.comb += signal.eq(value)
        return signal

    def sum(self, total: Signal, loop: int, step: Value | int, start: Value | int) -> None:
        """Drive a number that rises by ``step`` with a loop and is 0 when it begins again;
        ``start`` with a tile."""
        with self.m.If(self.goes[loop]):
            self.m.d.sync += total.eq(total + step)
        for outer in self.goes[loop + 1 :]:
            with self.m.If(outer):
                self.m.d.sync += total.eq(0)
        with self.m.If(self.accept):
            self.m.d.sync += total.eq(start)


def walk(name: str) -> Harness:
    """Claim that the address of each word is that of its tile plus the steps of each loop times its
    counter, its coordinates likewise, and what is said of its place in the loops; for any
    descriptor and tile.

    A product of step and counter is a sum to which the step is added whenever the counter rises.
    The first row of a tile may begin inside a row of the output: the next ones begin at
    ``row_address`` and ``row_x``. Images are ``step_ky`` apart.
    """
    h = Harness(name, 1, "walk")
    dut = Walk()
    h.drive(dut)
    m, position = h.module, dut.position
    loops = Loops(h, dut)
    of, tile, goes, at = loops.of, loops.tile, loops.goes, loops.at

    # Addresses: each loop's share, from the innermost one on, and where the row began.
    shares = []
    for loop, step in enumerate(("step_plane", "step_kx", "step_ky", "step_x")):
        share = Signal(ADDRESS_BITS, name=f"share_{loop}")
        loops.sum(share, loop, of[step], 0)
        shares.append(share)
    origin, row, image = (Signal(ADDRESS_BITS, name=f"spec_{i}") for i in ("pixel", "row", "image"))
    with m.If(goes[4]):
        m.d.sync += [origin.eq(row + of.step_y), row.eq(row + of.step_y)]
    with m.If(goes[5]):
        m.d.sync += [start.eq(image + of.step_ky) for start in (origin, row, image)]
    with m.If(loops.accept):
        m.d.sync += [origin.eq(tile.address), row.eq(tile.row_address), image.eq(tile.row_address)]
    place: Value = origin
    for base, share in zip(("pixel", "line", "tap", "word"), reversed(shares), strict=True):
        place = (place + share)[:ADDRESS_BITS]
        h.claim(f"{base}_address", h.probe(f"dut.{base}_address", ADDRESS_BITS) == place)
    h.claim("row_address", h.probe("dut.row_address", ADDRESS_BITS) == row)
    h.claim("image_address", h.probe("dut.image_address", ADDRESS_BITS) == image)
    h.claim("address", position.address == place)

    # Coordinates.
    def coordinate(name: str) -> Signal:
        return Signal(COORDINATE, name=f"spec_{name}")

    in_row, in_column = coordinate("in_row"), coordinate("in_column")  # inside the window
    loops.sum(in_row, 1, of.dilation_x, 0)
    loops.sum(in_column, 2, of.dilation_y, 0)
    left, top, row_x, image_y = map(coordinate, ("left", "top", "row_x", "image_y"))
    with m.If(goes[3]):
        m.d.sync += left.eq(left + of.stride_x)
    with m.If(goes[4]):
        m.d.sync += [left.eq(row_x), top.eq(top + of.stride_y)]
    with m.If(goes[5]):
        m.d.sync += [left.eq(row_x), top.eq(image_y)]
    with m.If(loops.accept):
        m.d.sync += [left.eq(tile.x), top.eq(tile.y), row_x.eq(tile.row_x), image_y.eq(tile.y)]
    x, y = coordinate("x"), coordinate("y")
    m.d.comb += [x.eq(left + in_row), y.eq(top + in_column)]
    for name_, value in (("x", x), ("y", y), ("pixel_x", left), ("pixel_y", top)):
        h.claim(name_, h.probe(f"dut.{name_}", COORDINATE) == value)
    for name_, value in (("row_x", row_x), ("image_y", image_y)):
        h.claim(name_, h.probe(f"dut.{name_}", tile[name_[-1]].shape()) == value)
    inside = (x >= 0) & (x < of.width) & (y >= 0) & (y < of.height)
    h.claim("inside", position.inside == inside)

    # Pixels.
    pixel, count = Signal(16), Signal(16)
    out, residual = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
    with m.If(loops.pixels):
        m.d.sync += [
            pixel.eq(pixel + 1),
            out.eq(out + Mux(loops.lines, of.out_row_step, of.out_step)),
            residual.eq(residual + Mux(loops.lines, of.residual_row_step, of.residual_step)),
        ]
    with m.If(loops.accept):
        m.d.sync += [pixel.eq(0), count.eq(tile.count)]
        m.d.sync += [out.eq(tile.out_address), residual.eq(tile.residual_address)]
    last = loops.ends[0] & loops.ends[1] & loops.ends[2]
    ends = last & (loops.early == 0) & ((pixel + 1)[:16] == count)
    told: dict[str, Value] = {
        "first": (at[0] == 0) & (at[1] == 0) & (at[2] == 0),
        "last": last,
        "top": at[0] == 0,
        "line_first": at[1] == 0,
        "line_last": loops.ends[1],
        "first_line": at[2] == 0,
        "last_line": loops.ends[2],
        "early": loops.early != 0,
        "end": ends,
        "pixel": pixel,
        "out_address": out,
        "residual_address": residual,
    }
    assert {*told, "address", "inside"} == set(position.shape().members), "all must be claimed"
    for name_, value in told.items():
        h.claim(f"is_{name_}", Value.cast(position[name_]) == value)
    registers = zip(("plane", "kx", "ky"), at, strict=True)
    counters = {**dict(registers), "column": loops.column, "early": loops.early}
    counters |= {"warm_up": loops.warm_up, "row": loops.row}
    for name_, value in counters.items():
        h.claim(f"counter_{name_}", h.probe(f"dut.{name_}", value.shape()) == value)
    h.claim("counter_left", h.probe("dut.left", 16) == (count - pixel)[:16])
    return h
