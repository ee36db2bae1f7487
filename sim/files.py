"""The files between Python and the bench: hexadecimal images and patches in, reports out.

A port word is a row of ``k`` uint64, least significant first, ``k = ceil(port_bits / 64)``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nupes.model.errors import InputError, SimulationError

__all__ = ["RawResult", "image_text", "patch_text", "port_words", "read_report"]


@dataclass(frozen=True, eq=False)
class RawResult:
    """What the accelerator's ports said in one run.

    ``status``: ``nupes.arch.isa.Status``; ``cycles``: from ``start`` to ``done``; ``marks`` (m,)
    int64: the cycle of each ``mark``, counted from ``start``; ``outputs`` (r, cols) int16: accepted
    results, lane 0 first.
    """

    status: int
    cycles: int
    marks: np.ndarray
    outputs: np.ndarray


def port_words(words: object, port_bits: int, name: str = "image") -> np.ndarray:
    """Return port words as uint64 (n, k) from such an array, a (n,) array if k is 1, or a list of
    Python integers.

    Raise ``InputError`` if a word does not fit ``port_bits``.
    """
    limbs = -(-port_bits // 64)
    if isinstance(words, np.ndarray) and words.ndim == 2:
        if words.dtype != np.uint64 or words.shape[1] != limbs:
            raise InputError(
                f"{name} must be uint64 of shape (words, {limbs}), not {words.dtype} {words.shape}"
            )
        result = np.ascontiguousarray(words)
    else:
        values = [int(word) for word in np.asarray(words, dtype=object).reshape(-1)]
        low, high = min(values, default=0), max(values, default=0)
        if low < 0 or high >> port_bits:
            raise InputError(
                f"{name} must have words of {port_bits} bits, not {low if low < 0 else high:#x}"
            )
        raw = b"".join(value.to_bytes(8 * limbs, "little") for value in values)
        result = np.frombuffer(raw, "<u8").reshape(len(values), limbs).astype(np.uint64)
    spare = 64 * limbs - port_bits
    if spare and result.size and int(result[:, -1].max()) >> (64 - spare):
        raise InputError(f"{name} must have words of {port_bits} bits; a higher bit is set")
    return result


def hex_digits(words: np.ndarray, port_bits: int) -> np.ndarray:
    """Return words (n, k) as ASCII hexadecimal digits, uint8 (n, ceil(port_bits / 4))."""
    raw = words[:, ::-1].astype(">u8").tobytes().hex().encode()
    digits = -(-port_bits // 4)
    return np.frombuffer(raw, np.uint8).reshape(len(words), 16 * words.shape[1])[:, -digits:]


def image_text(words: np.ndarray, port_bits: int) -> bytes:
    """Return a program image (n, k) for ``$readmemh``: one word a line from address 0."""
    digits = hex_digits(words, port_bits)
    lines = np.full((len(digits), digits.shape[1] + 1), ord("\n"), np.uint8)
    lines[:, :-1] = digits
    return b"@0\n" + lines.tobytes()


def patch_text(addresses: np.ndarray, words: np.ndarray, port_bits: int) -> bytes:
    """Return words (n, k) at ``addresses`` (n,) for ``$readmemh``: one address and word a line."""
    places = hex_digits(addresses.astype(np.uint64).reshape(-1, 1), 32)
    digits = hex_digits(words, port_bits)
    at, gap = 1 + places.shape[1], 2 + places.shape[1]
    lines = np.empty((len(digits), gap + digits.shape[1] + 1), np.uint8)
    lines[:, 0] = ord("@")
    lines[:, 1:at] = places
    lines[:, at] = ord(" ")
    lines[:, gap:-1] = digits
    lines[:, -1] = ord("\n")
    return lines.tobytes()


def incomplete(directory: Path) -> SimulationError:
    """Return the error of a report that is not all there."""
    return SimulationError(
        f"the simulator must write its report to {directory}, but could not; "
        "make room or set TMPDIR to another directory"
    )


def read_text(path: Path) -> str:
    """Return what the bench has written to a file; raise ``SimulationError`` if there is none."""
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise incomplete(path.parent) from error


def read_report(directory: Path, cols: int) -> RawResult:
    """Return a job's result from the files that the bench has written; raise ``SimulationError`` if
    the run did not end, or not cleanly."""
    head = read_text(directory / "report.txt").rstrip("\n")
    if not head:
        raise incomplete(directory)
    try:
        status, cycles, idle, marks, results, _ = (int(field) for field in head.split(" "))
    except ValueError as error:
        raise SimulationError(
            f"the accelerator's status has undefined bits: {head!r} ({directory})"
        ) from error
    if status == 0:
        raise SimulationError(
            f"the run did not end within {cycles} cycles (no status, no watchdog)"
        )
    if not idle:
        raise SimulationError("the accelerator ended its run but did not become idle")
    stamps = np.array(read_text(directory / "marks.txt").split(), np.int64)
    digits = read_text(directory / "results.txt").replace("\n", "")
    if len(stamps) != marks or len(digits) != 4 * cols * results:
        raise incomplete(directory)
    try:
        raw = bytes.fromhex(digits)
    except ValueError as error:
        raise SimulationError(f"the results have undefined bits ({directory})") from error
    lanes = np.frombuffer(raw, ">i2").reshape(results, cols)[:, ::-1]
    return RawResult(status, cycles, stamps, lanes.astype(np.int16))
