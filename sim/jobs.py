"""One run of a simulator: what it is asked, as the files that the bench reads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nupes.compiler.program import check_latency
from nupes.model.errors import InputError, SimulationError
from nupes.sim.files import RawResult, image_text, patch_text, port_words, read_report

__all__ = [
    "MOST_WORDS",
    "NO_STALLS",
    "Job",
    "JobFiles",
    "Patch",
    "Stalls",
    "check_patch",
    "program_words",
]

MOST_WORDS = 1 << 31
"""Port words of the largest program that the bench counts."""

JOB_WORDS = 16

Patch = tuple[np.ndarray, np.ndarray]
"""Addresses (n,) and port words (n, k) written over an image."""


@dataclass(frozen=True)
class Stalls:
    """Random back-pressure on the external ports: the probability of a stall per cycle, in steps of
    1/256.

    ``response`` = 1 is a memory that never answers. The same ``seed`` (1 to 2**32 - 1) gives the
    same stalls. No port stalls before cycle ``since`` of a run.
    """

    request: float = 0.0
    response: float = 0.0
    result: float = 0.0
    seed: int = 1
    since: int = 0

    def __post_init__(self) -> None:
        for name in ("request", "response", "result"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"Stalls.{name} must be a probability from 0 to 1, not {value}")
        if not 1 <= self.seed < 1 << 32:
            raise InputError(f"Stalls.seed must be 1 to 2**32 - 1, not {self.seed}")
        if not 0 <= self.since < 1 << 32:
            raise InputError(f"Stalls.since must be 0 to 2**32 - 1, not {self.since}")


NO_STALLS = Stalls()


@dataclass(frozen=True)
class Job:
    """How a run goes: see ``Simulator.execute``; ``length``: port words of the program."""

    latency: int
    stalls: Stalls = NO_STALLS
    reset_cycle: int = 0
    cycle_limit: int = 1 << 30
    length: int = 0

    def __post_init__(self) -> None:
        check_latency(self.latency)
        for name in ("reset_cycle", "cycle_limit"):
            value = getattr(self, name)
            if not 0 <= value < 1 << 32:
                raise InputError(f"{name} must be 0 to 2**32 - 1, not {value}")

    def text(self, loads: bool, patches: bool, image_words: int) -> str:
        """Return the file of the job: JOB_* of ``testbench.v``."""
        stalls = self.stalls
        words = [
            int(loads),
            int(patches),
            image_words,
            self.latency,
            stalls.seed,
            *(round(256 * value) for value in (stalls.request, stalls.response, stalls.result)),
            self.reset_cycle,
            self.cycle_limit,
            stalls.since,
            self.length,
        ]
        words += [0] * (JOB_WORDS - len(words))
        return "\n".join(f"{word:x}" for word in words) + "\n"


def program_words(image: np.ndarray | Sequence[int], port_bits: int) -> np.ndarray:
    """Return an image as port words, uint64 (n, k); raise ``InputError`` if they do not fit."""
    words = port_words(image, port_bits)
    if not 0 < len(words) < MOST_WORDS:
        raise InputError(f"image must have 1 to 2**31 - 1 words, not {len(words)}")
    return words


def check_patch(patch: Patch | None, image_words: int, port_bits: int) -> Patch:
    """Return a patch as int64 (n,) and uint64 (n, k); raise ``InputError`` if it is none of an
    image of so many words."""
    if patch is None:
        return np.empty(0, np.int64), np.empty((0, -(-port_bits // 64)), np.uint64)
    places = np.asarray(patch[0]).astype(np.int64).reshape(-1)
    words = port_words(patch[1], port_bits, "patch")
    if len(words) != len(places):
        raise InputError(
            f"patch must have a word for each address, not {len(words)} words "
            f"for {len(places)} addresses"
        )
    if len(places) and not (0 <= places.min() and places.max() < image_words):
        raise InputError(
            f"patch must stay inside the image of {image_words} words, "
            f"not reach {int(places.min())}..{int(places.max())}"
        )
    return places, words


class JobFiles:
    """The working directory of one simulator, which remembers what its memory holds.

    An image is written when it is another one; a patch lasts for one run, so that the next run
    writes the image's words again where this one has patched.
    """

    def __init__(self, directory: Path, port_bits: int, cols: int) -> None:
        self.directory = directory
        self.port_bits = port_bits
        self.cols = cols
        self.image = np.empty((0, -(-port_bits // 64)), np.uint64)
        self.patched = np.empty(0, np.int64)

    def write(self, image: np.ndarray, patch: Patch | None, job: Job) -> None:
        """Write the files of a job for an image of ``program_words``."""
        places, words = check_patch(patch, len(image), self.port_bits)
        with self.writes():
            (self.directory / "report.txt").unlink(missing_ok=True)
            loads = not np.array_equal(image, self.image)
            if loads:
                self.image = image[:0]  # until the new one is there
                self.keep("program.hex", image_text(image, self.port_bits))
                self.image, self.patched = image.copy(), np.empty(0, np.int64)
            stale = np.setdiff1d(self.patched, places)
            self.patched = places
            places = np.concatenate([stale, places])
            words = np.concatenate([self.image[stale], words])
            if len(places):
                self.keep("patch.hex", patch_text(places, words, self.port_bits))
            self.keep("job.hex", job.text(loads, len(places) > 0, len(image)).encode())

    def read(self) -> RawResult:
        """Return what the bench has reported of the last job."""
        return read_report(self.directory, self.cols)

    def keep(self, name: str, data: bytes) -> None:
        """Write one file, a new one: some file systems flush what is written over to the disk."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    @contextmanager
    def writes(self) -> Iterator[None]:
        """Turn what the system says about the directory into a ``SimulationError``."""
        try:
            yield
        except OSError as error:
            raise SimulationError(
                f"the directory {self.directory} must be writable, not fail with: "
                f"{error.strerror}; make room or set TMPDIR to another directory"
            ) from error
