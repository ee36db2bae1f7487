"""The walk: which word comes next, as sums of counters."""

from amaranth.hdl import Array, Module, Mux, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.isa import ADDRESS_BITS
from nupes.rtl.isa_layouts import DESCRIPTOR_LAYOUT, INSTRUCTION_LAYOUT, STREAMED_LAYOUT

__all__ = ["Walk", "WalkPosition"]

COORDINATE = Shape(16, signed=True)

WARM_UP_BITS = STREAMED_LAYOUT["warm_up"].width


class WalkPosition(data.StructLayout):
    """One word of the walk.

    ``address`` of the word; ``inside``: it lies in the input, else it is a structural zero;
    ``first``, ``last``: first and last word of its pixel; ``top``: first plane of its tap;
    ``line_first``, ``line_last``: in the first, the last kernel column; ``first_line``,
    ``last_line``: in the first, the last kernel row; ``early``: it precedes its row's first pixel;
    ``end``: last word of the tile; ``pixel``: index in the block; ``out_address``,
    ``residual_address``: first words of the pixel's output and residual.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "address": ADDRESS_BITS,
                "inside": 1,
                "first": 1,
                "last": 1,
                "top": 1,
                "line_first": 1,
                "line_last": 1,
                "first_line": 1,
                "last_line": 1,
                "early": 1,
                "end": 1,
                "pixel": 16,
                "out_address": ADDRESS_BITS,
                "residual_address": ADDRESS_BITS,
            }
        )


class Walk(wiring.Component):
    """Walk the words of a block: planes, kernel columns, kernel rows, output columns, output rows.

    Each row of a block begins with ``warm_up`` columns more, which are no pixels. With 0 planes the
    kernel rows of the descriptor are output rows of an image instead, outermost: images follow one
    another, each from the walk's first row on.

    ``position`` is the present word, from registers and ``descriptor``. ``accept`` takes the start
    of ``tile`` for the next cycle, ``step`` goes to the next word. Any other count of 0 in the
    descriptor means 1. Latency and throughput: one word per cycle.
    """

    accept: Signal
    tile: data.View
    warm_up: Signal
    step: Signal
    descriptor: data.View
    position: data.View

    def __init__(self) -> None:
        super().__init__(
            {
                "accept": In(1),
                "tile": In(INSTRUCTION_LAYOUT),
                "warm_up": In(WARM_UP_BITS),
                "step": In(1),
                "descriptor": In(DESCRIPTOR_LAYOUT),
                "position": Out(WalkPosition()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tile, descriptor, position = self.tile, self.descriptor, self.position
        plane = Signal.like(descriptor.planes)
        kx = Signal.like(descriptor.kernel_w)
        ky = Signal.like(descriptor.kernel_h)
        column = Signal.like(descriptor.out_width)
        pixel = Signal.like(tile.count)
        left = Signal.like(tile.count)  # pixels, the present one included
        out_address = Signal(ADDRESS_BITS)
        residual_address = Signal(ADDRESS_BITS)
        warm_up = Signal.like(self.warm_up)  # of every row
        early = Signal.like(self.warm_up)  # columns before the row's first pixel, still

        last_plane, last_kx, last_ky, last_column = (Signal(name=f"last_{i}") for i in range(4))
        images = Signal()  # kernel rows are rows of an image
        row = Signal.like(descriptor.kernel_h)  # of the image
        last_row = Signal()
        level = Signal(range(6))  # the innermost loop that goes on
        m.d.comb += [
            last_plane.eq(plane + 1 >= descriptor.planes),
            last_kx.eq(kx + 1 >= descriptor.kernel_w),
            images.eq(descriptor.planes == 0),
            last_ky.eq(images | (ky + 1 >= descriptor.kernel_h)),
            last_row.eq(images & (row + 1 >= descriptor.kernel_h)),
            last_column.eq((column + 1 >= descriptor.out_width) & ~position.early),
            level.eq(
                Mux(
                    ~last_plane,
                    0,
                    Mux(~last_kx, 1, Mux(~last_ky, 2, Mux(~last_column, 3, 4 + last_row))),
                )
            ),
            position.top.eq(plane == 0),
            position.line_first.eq(kx == 0),
            position.line_last.eq(last_kx),
            position.first_line.eq(ky == 0),
            position.last_line.eq(last_ky),
            position.first.eq((plane == 0) & (kx == 0) & (ky == 0)),
            position.last.eq(last_plane & last_kx & last_ky),
            position.early.eq(early != 0),
            position.end.eq(position.last & (left == 1) & ~position.early),
            position.pixel.eq(pixel),
            position.out_address.eq(out_address),
            position.residual_address.eq(residual_address),
        ]

        with m.If(self.step):
            m.d.sync += plane.eq(plane + 1)
            with m.If(level >= 1):
                m.d.sync += [plane.eq(0), kx.eq(kx + 1)]
            with m.If(level >= 2):
                m.d.sync += [kx.eq(0), ky.eq(ky + 1)]
            with m.If(level >= 3):
                m.d.sync += [ky.eq(0), early.eq(early - 1)]
            with m.If((level >= 3) & ~position.early):
                m.d.sync += [
                    early.eq(0),
                    column.eq(column + 1),
                    pixel.eq(pixel + 1),
                    left.eq(left - 1),
                    out_address.eq(
                        out_address + Mux(last_column, descriptor.out_row_step, descriptor.out_step)
                    ),
                    residual_address.eq(
                        residual_address
                        + Mux(last_column, descriptor.residual_row_step, descriptor.residual_step)
                    ),
                ]
            with m.If(level >= 4):
                m.d.sync += [column.eq(0), early.eq(warm_up), row.eq(row + 1)]
            with m.If(level >= 5):
                m.d.sync += row.eq(0)
        with m.If(self.accept):
            m.d.sync += [
                plane.eq(0),
                kx.eq(0),
                ky.eq(0),
                column.eq(tile.column),
                row.eq(0),
                pixel.eq(0),
                left.eq(tile.count),
                warm_up.eq(self.warm_up),
                early.eq(self.warm_up),
                out_address.eq(tile.out_address),
                residual_address.eq(tile.residual_address),
            ]
        self._address(m, level)
        self._coordinates(m, level)
        return m

    def _address(self, m: Module, level: Signal) -> None:
        """Keep the address of the present word and where each enclosing loop began."""
        descriptor = self.descriptor
        steps = Array(
            (
                descriptor.step_plane,
                descriptor.step_kx,
                descriptor.step_ky,
                descriptor.step_x,
                descriptor.step_y,
                descriptor.step_ky,
            )
        )
        names = ("word", "tap", "line", "pixel", "row", "image")
        bases = Array(Signal(ADDRESS_BITS, name=f"{name}_address") for name in names)
        following = Signal(ADDRESS_BITS)
        m.d.comb += [
            following.eq(bases[level] + steps[level]),
            self.position.address.eq(bases[0]),
        ]
        with m.If(self.step):
            m.d.sync += bases[0].eq(following)
            for index, base in enumerate(bases[1:], start=1):
                with m.If(level >= index):
                    m.d.sync += base.eq(following)
        with m.If(self.accept):
            m.d.sync += [base.eq(self.tile.address) for base in bases[:4]]
            m.d.sync += [base.eq(self.tile.row_address) for base in bases[4:]]

    def _coordinates(self, m: Module, level: Signal) -> None:
        """Keep the input coordinates of the present word and of its pixel."""
        tile, descriptor = self.tile, self.descriptor
        x, y, pixel_x, pixel_y = (
            Signal(COORDINATE, name=name) for name in ("x", "y", "pixel_x", "pixel_y")
        )
        row_x = Signal.like(tile.row_x)
        image_y = Signal.like(tile.y)
        next_x = Mux(level == 4, row_x, pixel_x + descriptor.stride_x)
        next_y = Mux(level == 4, pixel_y + descriptor.stride_y, pixel_y)
        with m.If(self.step):
            with m.Switch(level):
                with m.Case(1):
                    m.d.sync += x.eq(x + descriptor.dilation_x)
                with m.Case(2):
                    m.d.sync += [x.eq(pixel_x), y.eq(y + descriptor.dilation_y)]
                with m.Case(3, 4):
                    m.d.sync += [x.eq(next_x), pixel_x.eq(next_x)]
                    m.d.sync += [y.eq(next_y), pixel_y.eq(next_y)]
                with m.Case(5):
                    m.d.sync += [x.eq(row_x), pixel_x.eq(row_x), y.eq(image_y), pixel_y.eq(image_y)]
        with m.If(self.accept):
            m.d.sync += [x.eq(tile.x), pixel_x.eq(tile.x), row_x.eq(tile.row_x)]
            m.d.sync += [y.eq(tile.y), pixel_y.eq(tile.y), image_y.eq(tile.y)]
        inside_x = (x >= 0) & (x < descriptor.width)
        inside_y = (y >= 0) & (y < descriptor.height)
        m.d.comb += self.position.inside.eq(inside_x & inside_y)
