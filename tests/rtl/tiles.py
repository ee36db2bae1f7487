"""What an instruction means: the tiles of its run, and the words of each one's walk."""

from collections.abc import Iterator
from dataclasses import dataclass

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import (
    ADDRESS_BITS,
    INSTRUCTION,
    JOIN,
    JOIN_POSITION,
    RUN,
    RUN_POSITION,
    Opcode,
    unpack,
)

__all__ = ["Word", "run_of", "tiles_of", "walk"]


@dataclass(frozen=True)
class Word:
    """One word of a block's walk."""

    address: int
    inside: bool
    first: bool
    last: bool
    top: bool
    end: bool
    pixel: int
    out_address: int
    residual_address: int


def walk(tile: dict[str, int], layer: dict[str, int]) -> Iterator[Word]:
    """Return the words of a block: output pixels in raster order, then taps, then planes."""
    kernel_h, kernel_w = max(1, layer["kernel_h"]), max(1, layer["kernel_w"])
    planes, wrap = max(1, layer["planes"]), 1 << ADDRESS_BITS
    for pixel in range(tile["count"]):
        row, column = divmod(tile["column"] + pixel, layer["out_width"])
        if row == 0:
            start, x = tile["address"] + pixel * layer["step_x"], tile["x"]
            x += pixel * layer["stride_x"]
        else:
            start = tile["row_address"] + row * layer["step_y"] + column * layer["step_x"]
            x = tile["row_x"] + column * layer["stride_x"]
        y = tile["y"] + row * layer["stride_y"]
        out_address, residual_address = (
            tile[f"{name}_address"]
            + (pixel - row) * layer[f"{name}_step"]
            + row * layer[f"{name}_row_step"]
            for name in ("out", "residual")
        )
        taps = [
            (ky, kx, q) for ky in range(kernel_h) for kx in range(kernel_w) for q in range(planes)
        ]
        for number, (ky, kx, q) in enumerate(taps):
            offset = ky * layer["step_ky"] + kx * layer["step_kx"] + q * layer["step_plane"]
            inside = 0 <= y + ky * layer["dilation_y"] < layer["height"]
            inside &= 0 <= x + kx * layer["dilation_x"] < layer["width"]
            last = number == len(taps) - 1
            yield Word(
                address=(start + offset) % wrap,
                inside=inside,
                first=number == 0,
                last=last,
                top=q == 0,
                end=last and pixel == tile["count"] - 1,
                pixel=pixel,
                out_address=out_address % wrap,
                residual_address=residual_address % wrap,
            )


def run_of(body: int) -> dict[str, int]:
    """Return the fields of the run of an instruction's low bits: none for those that have none."""
    opcode = unpack(INSTRUCTION, body)["opcode"]
    found = unpack(RUN, body >> RUN_POSITION)
    return found if opcode in (Opcode.TILE, Opcode.MULTIPLY) else dict.fromkeys(found, 0)


def tiles_of(body: int, config: ArrayConfig) -> Iterator[dict[str, int]]:
    """Yield every tile of a run as an instruction of its own."""
    tile, run = unpack(INSTRUCTION, body), run_of(body)
    tile |= unpack(JOIN, body >> JOIN_POSITION)
    parts = config.lanes // config.rows if run["run_slices"] else 1
    for number in range(run["more"] + 1):
        last = number == run["more"]
        steps, part = divmod(number if parts == 1 else tile["slice"] + number, parts)
        yield tile | {
            "first": tile["first"] & (number == 0),
            "last": tile["last"] & last,
            "gather": tile["gather"] & last,
            "address": tile["address"] + steps * run["run_step"],
            "row_address": tile["row_address"] + steps * run["run_step"],
            "x": tile["x"] + steps * run["run_x"],
            "row_x": tile["row_x"] + steps * run["run_x"],
            "slice": tile["slice"] if parts == 1 else part,
        }
