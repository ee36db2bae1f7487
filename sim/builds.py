"""Verilog in, a built simulator out: built once for each content and kept in the cache."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nupes.arch.config import ArrayConfig
from nupes.model.errors import SimulationError
from nupes.sim.cache import cache_directory, cache_writes, is_whole, key_of, locked, seal
from nupes.sim.launchers import Launcher

__all__ = ["LEAST_MEMORY", "Progress", "build_simulator", "report_to_stderr", "tail"]

LEAST_MEMORY = 1 << 20
"""Port words of the external memory of a simulator: enough for most programs."""

BUILDING = ".building"
LEAST_ROOM = 1 << 20
"""Free bytes below which a failure is one of the disk."""

Progress = Callable[[str], None]


def report_to_stderr(message: str) -> None:
    """Print one line of progress."""
    print(f"nupes: {message}", file=sys.stderr, flush=True)


def tail(path: Path, lines: int = 20) -> str:
    """Return the last lines of a log."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])


def build_simulator(
    launcher: Launcher,
    config: ArrayConfig,
    verilog: str,
    memory_words: int = LEAST_MEMORY,
    progress: Progress = report_to_stderr,
    data_bits: int | None = None,
) -> Path:
    """Return the folder of a built simulator; build it if none of the same content is whole.

    ``verilog`` defines ``nupes_accelerator`` for ``config``; ``memory_words`` are the port words of
    the external memory; with ``data_bits`` it defines ``nupes_axi`` as well, and they are beats of
    so many bits. Safe in several threads and processes at once. Raise ``SimulationError`` if
    a tool fails (the error quotes the log and says where it is) or the cache cannot be written.
    """
    width = {"PORT_BITS": config.port_bits} if data_bits is None else {"DATA_BITS": data_bits}
    spills = config.spills and data_bits is None
    parameters = {**width, "COLS": config.cols, "MEMORY_WORDS": memory_words}
    root = cache_directory()
    target = root / key_of((launcher.content, verilog, parameters))
    if is_whole(target):
        return target

    def wait() -> None:
        progress("waiting for another process that builds the same simulator")

    with cache_writes(root), locked(target.with_suffix(".lock"), wait):
        if is_whole(target):
            return target
        progress(
            f"building the {launcher.name} model of the {config} array, once; it is kept in {root}"
        )
        work = target.with_suffix(BUILDING)
        shutil.rmtree(work, ignore_errors=True)
        sweep(root)
        try:
            finished = work / "finished"
            finished.mkdir(parents=True)
            source, log = finished / "accelerator.v", finished / "build.log"
            source.write_text(verilog)
            try:
                launcher.compile(
                    source, parameters, work / "build", log, {"SPILLS": 1} if spills else None
                )
            except RuntimeError as error:
                raise failure(launcher, config, log, target.with_suffix(".log")) from error
            launcher.keep(work / "build")
            (work / "build" / launcher.product).rename(finished / launcher.product)
            seal(finished)
            shutil.rmtree(target, ignore_errors=True)  # a damaged one
            finished.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def sweep(root: Path) -> None:
    """Remove what builders that were killed have left in a cache."""

    def busy() -> None:
        raise BlockingIOError

    for work in root.glob(f"*{BUILDING}"):
        with suppress(BlockingIOError), locked(work.with_suffix(".lock"), busy):
            shutil.rmtree(work, ignore_errors=True)


def failure(launcher: Launcher, config: ArrayConfig, log: Path, kept: Path) -> Exception:
    """Return the error of a failed build: a full disk, or what the log says, which is kept."""
    full = os.strerror(errno.ENOSPC)
    if full in tail(log, 1000) or shutil.disk_usage(log.parent).free < LEAST_ROOM:
        return OSError(errno.ENOSPC, full)
    with suppress(OSError):
        log.replace(kept)
    return SimulationError(
        f"{launcher.name} failed to build the {config} array; the log is {kept}:\n{tail(kept)}"
    )
