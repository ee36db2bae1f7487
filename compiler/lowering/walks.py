"""Walks: the address arithmetic with which a tile reads a stored map, window by window."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property

from nupes.arch.isa import ADDRESS_BITS
from nupes.compiler.place.layout import TensorLayout
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer
from nupes.model.operators import Window
from nupes.model.tensor import Shape

__all__ = [
    "MOST_KERNEL",
    "BatchWalk",
    "ColumnWalk",
    "Start",
    "Walk",
    "grid_walk",
    "line_walk",
    "pair_walk",
    "phase_walk",
    "window_walk",
]

MOST_COORDINATE = (1 << 13) - 1
MOST_STRIDE = (1 << 6) - 1
MOST_KERNEL = (1 << 10) - 1


@dataclass(slots=True)
class Start:
    """Where a walk begins: fields of an instruction; a value, as the instruction is."""

    address: int
    row_address: int
    column: int = 0
    x: int = 0
    row_x: int = 0
    y: int = 0


@dataclass(frozen=True)
class Walk:
    """How a walk goes on: fields of a descriptor."""

    step_x: int
    width: int
    height: int
    stride_x: int
    out_width: int
    step_y: int = 0
    stride_y: int = 0
    kernel_w: int = 1
    kernel_h: int = 1
    dilation_x: int = 0
    dilation_y: int = 0
    step_kx: int = 0
    step_ky: int = 0
    planes: int = 1
    step_plane: int = 0

    @cached_property
    def words(self) -> int:
        """Words that are read for each output pixel."""
        return self.kernel_h * self.kernel_w * self.planes

    def start(
        self, layout: TensorLayout, plane: int, group: int, y: int, x: int, first: int
    ) -> Start:
        """Return the start at output pixel ``first`` of a walk whose pixel 0 begins at (y, x)."""
        return self.begin(layout.address(plane, group, y, x), y, x, first)

    def begin(self, address: int, y: int, x: int, first: int) -> Start:
        """Return the start at output pixel ``first``; of pixel 0 the address is given."""
        row, column = divmod(first, self.out_width)
        address += row * self.step_y
        y += row * self.stride_y
        return Start(
            wrap(address + column * self.step_x),
            wrap(address),
            column,
            x + column * self.stride_x,
            x,
            y,
        )

    def rows(self, y: int, first: int, count: int, warm_up: int) -> tuple[int, int]:
        """Return the first map row, and the one after the last, that a block of a walk from row
        ``y`` on reads, with so many steps before the pixels of each row of the block."""
        steps = first // self.out_width, (first + count - 1) // self.out_width
        ends = [y + step * self.step_y // self.width for step in steps]
        return min(ends), max(ends) + (self.kernel_h - 1) * self.dilation_y + 1


@dataclass(frozen=True)
class ColumnWalk(Walk):
    """A walk down one column of the result after the other: in its fields x and y are
    exchanged."""

    @classmethod
    def of(cls, walk: Walk, rows: int) -> "ColumnWalk":
        """Return the walk over the pixels of another one, single words, down ``rows`` rows."""
        return cls(
            step_x=walk.step_y,
            width=walk.height,
            height=walk.width,
            stride_x=walk.stride_y,
            out_width=rows,
            step_y=walk.step_x,
            stride_y=walk.stride_x,
        )

    def start(
        self, layout: TensorLayout, plane: int, group: int, y: int, x: int, first: int
    ) -> Start:
        """Return the start at output pixel ``first`` of a walk whose pixel 0 begins at (y, x)."""
        return self.begin(layout.address(plane, group, y, x), x, y, first)

    def rows(self, y: int, first: int, count: int, warm_up: int) -> tuple[int, int]:
        """Return the first map row, and the one after the last, that whole columns of a walk from
        row ``y`` on read, with so many steps before the pixels of each column."""
        return y, y + (warm_up + self.out_width - 1) * self.stride_x + 1


@dataclass(frozen=True)
class BatchWalk(Walk):
    """A walk over one image of a batch after the other, single words of each: in its fields the
    kernel's rows are those of the result of an image."""

    @classmethod
    def of(cls, walk: Walk, rows: int, step: int) -> "BatchWalk":
        """Return the walk over the pixels of another one, single words, of images of ``rows`` rows
        whose words lie ``step`` from each other."""
        return cls(**asdict(walk) | {"planes": 0, "kernel_h": rows, "step_ky": step})

    @cached_property
    def words(self) -> int:
        """Words that are read for each output pixel."""
        return 1

    def start(
        self, layout: TensorLayout, plane: int, group: int, y: int, x: int, first: int
    ) -> Start:
        """Return the start at output pixel ``first``, with which an image begins."""
        image = first // (self.out_width * self.kernel_h)
        return self.begin(layout.address(plane, group, y, x) + image * self.step_ky, y, x, 0)

    def rows(self, y: int, first: int, count: int, warm_up: int) -> tuple[int, int]:
        """Return the first row, and the one after the last, of the images of a block, all of them
        below one another."""
        pixels, height = self.out_width * self.kernel_h, self.step_ky // self.width
        return first // pixels * height, -(-(first + count) // pixels) * height


def window_walk(
    layer: Layer, window: Window, shape: Shape, layout: TensorLayout, whole: bool
) -> Walk:
    """Return the walk of an operator over a map of some shape; each tile reads one tap, or the
    ``whole`` window of a pixel. Refuse, by name, what the fields cannot describe."""
    kernel = window.kernel if whole else (1, 1)
    stride = taken(window.stride, layer.output.shape[:2])
    dilation = taken(window.dilation, kernel) if whole else [0, 0]
    for axis, name in enumerate(("rows", "columns")):
        reach = shape[axis] + sum(window.padding[2 * axis : 2 * axis + 2])
        for what, value, most in (
            (f"padded input {name}", reach, MOST_COORDINATE),
            (f"stride over {name}", stride[axis], MOST_STRIDE),
            (f"dilation over {name}", dilation[axis], MOST_STRIDE),
            (f"kernel {name}", kernel[axis], MOST_KERNEL),
        ):
            if value > most:
                raise UnsupportedError(
                    f"layer {layer.name!r}: {what} must be at most {most} on the array, not {value}"
                )
    return Walk(
        step_x=stride[1],
        step_y=stride[0] * layout.width,
        width=layout.width,
        height=layout.height,
        stride_x=stride[1],
        stride_y=stride[0],
        out_width=layer.output.shape[1],
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        dilation_y=dilation[0],
        dilation_x=dilation[1],
        step_ky=dilation[0] * layout.width,
        step_kx=dilation[1],
    )


def taken(steps: tuple[int, int], counts: tuple[int, int]) -> list[int]:
    """Return the steps between ``counts`` things; one that is never taken always fits its field."""
    pairs = zip(steps, counts, strict=True)
    return [step if count > 1 else min(step, MOST_STRIDE) for step, count in pairs]


def phase_walk(
    layer: Layer,
    columns: int,
    stride: tuple[int, int],
    starts: Iterable[tuple[int, int]],
    layout: TensorLayout,
) -> Walk:
    """Return the walk over every ``stride``-th pixel of a map, whose tiles begin at ``starts``.
    Refuse, by name, what the fields cannot describe."""
    reach = layout.height, layout.width
    for start in starts:
        reach = tuple(max(size, abs(first)) for size, first in zip(reach, start, strict=True))
    for axis, name in enumerate(("rows", "columns")):
        for what, value, most in (
            (f"padded input {name}", reach[axis], MOST_COORDINATE),
            (f"stride over {name}", stride[axis], MOST_STRIDE),
        ):
            if value > most:
                raise UnsupportedError(
                    f"layer {layer.name!r}: {what} must be at most {most} on the array, not {value}"
                )
    return Walk(
        step_x=stride[1],
        step_y=stride[0] * layout.width,
        width=layout.width,
        height=layout.height,
        stride_x=stride[1],
        stride_y=stride[0],
        out_width=columns,
    )


def grid_walk(layer: Layer, columns: int, steps: tuple[int, int], layout: TensorLayout) -> Walk:
    """Return the walk over pixels of a map that lie any steps from each other, all inside: its
    coordinates stay where they begin. Refuse, by name, what the fields cannot describe."""
    for name, size in (("rows", layout.height), ("columns", layout.width)):
        if size > MOST_COORDINATE:
            raise UnsupportedError(
                f"layer {layer.name!r}: input {name} must be at most {MOST_COORDINATE} on the "
                f"array, not {size}"
            )
    return Walk(
        step_x=steps[1],
        step_y=steps[0] * layout.width,
        width=layout.width,
        height=layout.height,
        stride_x=0,
        stride_y=0,
        out_width=columns,
    )


def line_walk(count: int, step_plane: int = 0) -> Walk:
    """Return the walk over ``count`` consecutive words, maybe each with one ``step_plane``
    further."""
    walk = Walk(step_x=1, width=count, height=1, stride_x=1, out_width=count)
    return pair_walk(walk, step_plane)


@cache
def pair_walk(walk: Walk, step: int) -> Walk:
    """Return a walk each of whose words comes with another one, ``step`` words further."""
    return replace(walk, step_plane=step)


def wrap(address: int) -> int:
    """Return an address or address step modulo the width of its field."""
    return address & ((1 << ADDRESS_BITS) - 1)
