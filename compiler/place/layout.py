"""Where a tensor's words lie in the activation memory.

A stored tensor lies in memory plane by plane, channel group by channel group, pixels in raster
order; where a plane has an even number of words, an unused one keeps it from the next. A word holds
one digit of ``lanes`` consecutive channels of one pixel. A tensor may be a range of the channel
groups of another one. An input with few channels may be packed as patches instead: each word then
holds ``lanes`` consecutive (tap, channel) operands of one output pixel, so that the first
convolution becomes a 1x1 one that fills the rows of the array.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["PatchLayout", "Region", "Run", "TensorLayout", "blocks"]

Run = tuple[int, int]
"""Consecutive addresses: (first, stop)."""


@dataclass(frozen=True, slots=True)
class Region:
    """A grid of a map's pixels: ``rows`` by ``columns`` from (y, x) on, so far from each other. Its
    pixels follow one another in raster order, or down one column after the other."""

    rows: int
    columns: int
    y: int = 0
    x: int = 0
    step_y: int = 1
    step_x: int = 1
    by_columns: bool = False

    @property
    def pixels(self) -> int:
        """Pixels of the grid."""
        return self.rows * self.columns

    def offset(self, pixel: int, width: int) -> int:
        """Return the place in a map of some width, in raster order, of a pixel of the grid."""
        if self.by_columns:
            column, row = divmod(pixel, self.rows)
        else:
            row, column = divmod(pixel, self.columns)
        return (self.y + row * self.step_y) * width + self.x + column * self.step_x

    def step(self, width: int) -> int:
        """Return the distance in such a map from a pixel to the next one of its row or column."""
        return self.step_y * width if self.by_columns else self.step_x

    def row_step(self, width: int) -> int:
        """Return the distance in such a map from the last pixel of a row or column to the next
        one."""
        steps = self.step_y * width, self.step_x
        if self.by_columns:
            return steps[1] - (self.rows - 1) * steps[0]
        return steps[0] - (self.columns - 1) * steps[1]


@dataclass(frozen=True)
class TensorLayout:
    """A stored tensor of ``height * width`` pixels in ``groups`` words per pixel and plane, from
    ``base`` on.

    Of a batch of ``images`` these are the words of the first one; the others lie behind it in each
    channel group, ``image_step`` words from each other.

    ``plane_step`` is the distance of two planes of the same word: odd, so that they lie in
    different banks; ``group_step`` that of two channel groups: the pixels of the whole map where
    the tensor is some rows of another one.
    """

    base: int
    height: int
    width: int
    groups: int
    planes: int
    plane_step: int
    group_step: int
    images: int = 1
    image_step: int = 0

    @classmethod
    def whole(
        cls, base: int, height: int, width: int, groups: int, planes: int, images: int = 1
    ) -> "TensorLayout":
        """Return the layout of a tensor that is no part of another one."""
        pixels = height * width
        step = images * pixels
        image_step = pixels if images > 1 else 0
        plane_step = groups * step | 1
        return cls(base, height, width, groups, planes, plane_step, step, images, image_step)

    def image(self, index: int) -> "TensorLayout":
        """Return the layout of one image of a batch; of a tensor that all images share, itself."""
        return replace(self, base=self.base + index * self.image_step, images=1, image_step=0)

    def stacked(self) -> "TensorLayout | None":
        """Return the layout of all images as one map, one below the other; ``None`` if they do not
        follow one another."""
        if self.images == 1 or self.image_step != self.pixels:
            return None
        return replace(self, height=self.images * self.height, images=1, image_step=0)

    def part(self, first: int, groups: int) -> "TensorLayout":
        """Return the layout of ``groups`` channel groups from ``first`` on."""
        return replace(self, base=self.base + first * self.group_step, groups=groups)

    def lines(self, first: int, rows: int) -> "TensorLayout":
        """Return the layout of ``rows`` rows of the map from ``first`` on."""
        return replace(self, base=self.base + first * self.width, height=rows)

    @property
    def plane_words(self) -> int:
        """Words from the first to the last one of a plane."""
        images = (self.images - 1) * self.image_step
        return (self.groups - 1) * self.group_step + images + self.pixels

    @property
    def pixels(self) -> int:
        """Pixels of the map, or of its rows: words of one channel group of one plane of an
        image."""
        return self.height * self.width

    @property
    def words(self) -> int:
        """Words from the first to the last one of the tensor."""
        return (self.planes - 1) * self.plane_step + self.plane_words

    def address(self, plane: int, group: int, y: int = 0, x: int = 0) -> int:
        """Return the address of a word; coordinates outside the map are extrapolated."""
        return self.base + plane * self.plane_step + group * self.group_step + y * self.width + x

    def pixel_runs(self, group: int, first: int, count: int) -> Iterator[Run]:
        """Yield the addresses of some pixels of a channel group, plane by plane."""
        for plane in range(self.planes):
            start = self.address(plane, group) + first
            yield start, start + count

    def region_runs(self, group: int, region: Region, first: int, count: int) -> Iterator[Run]:
        """Yield what holds some pixels of a region of a channel group, plane by plane."""
        ends = [region.offset(pixel, self.width) for pixel in (first, first + count - 1)]
        return self.pixel_runs(group, min(ends), max(ends) + 1 - min(ends))

    def row_run(self, plane: int, group: int, top: int, bottom: int) -> Run:
        """Return the addresses of map rows ``top`` to ``bottom``, clipped to the map."""
        base = self.address(plane, group)
        top, bottom = max(top, 0), min(bottom, self.height)
        return base + top * self.width, base + max(top, bottom) * self.width


@dataclass(frozen=True)
class PatchLayout:
    """A packed input: for each block of ``block`` pixels, ``words_per_plane`` runs of one word per
    pixel and plane.

    ``held`` pixels have their place in memory, whole blocks or all: later blocks overwrite them.
    With ``joined`` planes, two of them are one run, the lower one first; a word that nobody reads
    keeps them in different banks where each has an even number of words. The last one of an odd
    number is alone.
    """

    base: int
    pixels: int
    words_per_plane: int
    planes: int
    block: int
    held: int
    joined: bool = False

    @property
    def words(self) -> int:
        """Words of memory that the packed input takes."""
        held = min(self.held, self.pixels)
        return sum(self.block_words(count) for _, count in blocks(held, self.block))

    def block_words(self, size: int) -> int:
        """Return the words of a block of ``size`` pixels."""
        return self.words_per_plane * self.place(self.planes, size)

    def place(self, plane: int, size: int) -> int:
        """Return the words of a block of ``size`` pixels before a plane of a word."""
        gaps = (plane + 1 if plane < self.planes else plane) // 2 * self.joined
        return plane * size + gaps * (1 - size % 2)

    def size(self, first: int) -> int:
        """Return the pixels of the block whose first pixel is ``first``."""
        return min(self.block, self.pixels - first)

    def lower(self, first: int) -> int:
        """Return the words from a plane of a block to the upper one that is joined with it."""
        return self.size(first) | 1

    def address(self, plane: int, word: int, first: int) -> int:
        """Return the address of a plane's run for the block whose first pixel is ``first``.

        Runs lie in the order in which the passes first read them, so that streaming may chase the
        transfer.
        """
        size = self.size(first)
        earlier = first % self.held // self.block * self.block_words(self.block)
        within = word * self.place(self.planes, size) + self.place(plane, size)
        return self.base + earlier + within


def blocks(pixels: int, depth: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of the blocks of at most ``depth`` pixels."""
    for first in range(0, pixels, depth):
        yield first, min(depth, pixels - first)
