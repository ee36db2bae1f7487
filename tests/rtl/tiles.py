"""What an instruction means: the tiles of its run, and the words of each one's walk."""

from collections.abc import Iterator
from dataclasses import dataclass

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import (
    ADDRESS_BITS,
    INSTRUCTION,
    RUN,
    RUN_POSITION,
    STREAMED,
    STREAMED_POSITION,
    Opcode,
    unpack,
)

__all__ = ["Word", "run_of", "sensible", "tiles_of", "walk", "warm_up_of"]


@dataclass(frozen=True)
class Word:
    """One word of a block's walk."""

    address: int
    inside: bool
    first: bool
    last: bool
    top: bool
    early: bool
    end: bool
    pixel: int
    out_address: int
    residual_address: int


def walk(tile: dict[str, int], layer: dict[str, int]) -> Iterator[Word]:
    """Return the words of a block: output pixels in raster order, each row behind the steps of its
    chains, then taps, then planes; of one image behind the other, if there are 0 planes."""
    kernel_h, kernel_w = max(1, layer["kernel_h"]), max(1, layer["kernel_w"])
    image_rows, kernel_h = (kernel_h, 1) if layer["planes"] == 0 else (1 << 16, kernel_h)
    planes, wrap = max(1, layer["planes"]), 1 << ADDRESS_BITS
    warm_up = warm_up_of(tile)
    steps = [
        (pixel, step)
        for pixel in range(tile["count"])
        for step in range(-warm_up if not pixel or begins(tile, layer, pixel) else 0, 1)
    ]
    for pixel, step in steps:
        row, column = divmod(tile["column"] + pixel, layer["out_width"])
        image, line = divmod(row, image_rows)
        if row == 0:
            place = pixel + step + warm_up
            start, x = tile["address"] + place * layer["step_x"], tile["x"]
        else:
            place = column + step + warm_up
            start = tile["row_address"] + line * layer["step_y"] + place * layer["step_x"]
            start += image * layer["step_ky"]
            x = tile["row_x"]
        x += place * layer["stride_x"]
        y = tile["y"] + line * layer["stride_y"]
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
                early=step < 0,
                end=last and step == 0 and pixel == tile["count"] - 1,
                pixel=pixel,
                out_address=out_address % wrap,
                residual_address=residual_address % wrap,
            )


def warm_up_of(tile: dict[str, int]) -> int:
    """Return the steps of chains before a row's first pixel."""
    able = tile.get("opcode", Opcode.TILE) in (Opcode.TILE, Opcode.MULTIPLY)
    return unpack(STREAMED, tile.get("destination", 0))["warm_up"] if able else 0


def begins(tile: dict[str, int], layer: dict[str, int], pixel: int) -> bool:
    """Whether a pixel is the first one of its row."""
    return (tile["column"] + pixel) % layer["out_width"] == 0


def run_of(body: int) -> dict[str, int]:
    """Return the fields of the run of an instruction's low bits: none for those that have none."""
    opcode = unpack(INSTRUCTION, body)["opcode"]
    found = unpack(RUN, body >> RUN_POSITION)
    return found if opcode in (Opcode.TILE, Opcode.MULTIPLY) else dict.fromkeys(found, 0)


def tiles_of(body: int, config: ArrayConfig) -> Iterator[dict[str, int]]:
    """Yield every tile of a run as an instruction of its own."""
    tile, run = unpack(INSTRUCTION, body), run_of(body)
    tile |= unpack(STREAMED, body >> STREAMED_POSITION)
    parts = config.lanes // config.rows if run["run_slices"] else 1
    x, y = (0, run["run_x"]) if warm_up_of(tile) else (run["run_x"], 0)
    for number in range(run["more"] + 1):
        last = number == run["more"]
        steps, part = divmod(number if parts == 1 else tile["slice"] + number, parts)
        yield tile | {
            "first": tile["first"] & (number == 0),
            "last": tile["last"] & last,
            "gather": tile["gather"] & last,
            "address": tile["address"] + steps * run["run_step"],
            "row_address": tile["row_address"] + steps * run["run_step"],
            "x": tile["x"] + steps * x,
            "row_x": tile["row_x"] + steps * x,
            "y": tile["y"] + steps * y,
            "slice": tile["slice"] if parts == 1 else part,
        }


def sensible(body: int, config: ArrayConfig) -> bool:
    """Whether an array has what an instruction asks for."""
    tile, streamed = unpack(INSTRUCTION, body), unpack(STREAMED, body >> STREAMED_POSITION)
    known = {Opcode.LOAD, Opcode.TILE, Opcode.POOL, Opcode.END}
    known |= {Opcode.MULTIPLY} if config.products else set()
    known |= {Opcode.MATMUL, Opcode.MEASURE} if config.attention else set()
    unladen = tile["rows"] == 0 and run_of(body)["more"]
    streams = tile["opcode"] not in (Opcode.LOAD, Opcode.END)
    unladen |= streams and streamed["kept"] and run_of(body)["more"]
    unladen |= streams and streamed["joined"] and not config.joins
    unladen |= streams and streamed["weights_joined"] and not config.joins_weights
    return tile["opcode"] in known and not unladen
