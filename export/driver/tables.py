"""What a driver must know of a program: where codes go in the image, where results come from."""

from dataclasses import dataclass

import numpy as np

from nupes.compiler.program import Program
from nupes.model.errors import CapacityError, InputError

__all__ = ["CONSTANT", "DriverTables", "driver_tables"]

CONSTANT = 1 << 31
"""Of a source: the digit itself is in its low bits."""

ROW_BIT, MOST_ROWS = 24, 127


@dataclass(frozen=True, eq=False)
class DriverTables:
    """Tables of a program.

    ``holes`` (words,) uint32: the port words of the image that the input fills. ``sources`` (words,
    lanes) uint32: what each code of them is: ``CONSTANT`` and a digit, or ``row << 24 | index``:
    ``digits[row]`` of the code at ``index`` among the codes of all inputs, (h, w, c) each, one
    input after another. ``digits`` (rows, 256) uint8. ``places`` (values,) uint32: where each value
    of the outputs is among the 16-bit numbers of the results. ``results``: how many results, of
    ``cols`` numbers each, there are.
    """

    holes: np.ndarray
    sources: np.ndarray
    digits: np.ndarray
    places: np.ndarray
    results: int
    codes: int


def driver_tables(program: Program) -> DriverTables:
    """Return a program's tables; raise ``CapacityError`` for inputs that they cannot name,
    ``InputError`` for a program that takes a batch."""
    if program.batch > 1:
        raise InputError(
            f"a driver's program must take one image, not a batch of {program.batch}; "
            "compile it without batch"
        )
    sizes = [int(np.prod(item.tensor.shape)) for item in program.network.inputs]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows, parts = [], []
    order = sorted(range(len(sizes)), key=lambda index: program.inputs[index].base)
    for index in order:
        layout, size = program.inputs[index], sizes[index]
        planes = len(layout.zero)
        plane, code = np.divmod(layout.source, size)
        source = (len(rows) + plane) << ROW_BIT | starts[index] + code
        zero = layout.zero.astype(np.int64)[np.clip(layout.source - planes * size, 0, planes - 1)]
        parts.append(np.where(layout.source >= planes * size, CONSTANT | zero, source))
        tables = np.zeros((planes, 256), np.uint8)
        tables[:, : len(layout.digits)] = layout.digits.T
        rows += list(tables)
    if len(rows) > MOST_ROWS or starts[-1] > 1 << ROW_BIT:
        raise CapacityError(
            f"inputs must have at most {MOST_ROWS} planes and {1 << ROW_BIT} codes together for a "
            f"driver, not {len(rows)} and {starts[-1]}"
        )
    results = sum(tile.count for tile in program.schedule.results)
    numbers = np.arange(results * program.array.cols).reshape(results, -1)
    low = flat(program.outputs((numbers & 0x7FFF).astype(np.int16)))
    high = flat(program.outputs((numbers >> 15).astype(np.int16)))
    return DriverTables(
        holes=program.holes.astype(np.uint32),
        sources=np.concatenate(parts).astype(np.uint32),
        digits=np.stack(rows),
        places=(high << 15 | low).astype(np.uint32),
        results=results,
        codes=int(starts[-1]),
    )


def flat(outputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the values of all outputs, one after another."""
    return np.concatenate([y.reshape(-1).astype(np.int64) for y in outputs])
