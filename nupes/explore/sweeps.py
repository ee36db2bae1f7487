"""Sweep: one network on many arrays, and the arrays that no other one beats.

Every point is compiled and predicted exactly; nothing is sampled or interpolated. The activation
memory of a point has as many words as the compiler uses when it has all it wants, so that memories
can be compared.
"""

import gc
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from threading import current_thread, main_thread
from typing import Any

from nupes.arch.config import ArrayConfig
from nupes.arch.costs import memory_bits
from nupes.compiler.lowering import adapt, arrange
from nupes.compiler.place.memory import MOST_DEPTH
from nupes.compiler.program import compile
from nupes.model.errors import InputError, NupesError
from nupes.model.network import IntegerNetwork

__all__ = ["Point", "grid", "pareto", "sweep"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Point:
    """One array: exact ``cycles`` of an image, ``utilization`` in MACs per cell and cycle,
    ``memory_bits`` of the memories on chip, and ``luts`` if they were measured.

    ``refusal`` says why the network cannot run on the array; the figures are 0 then.
    """

    array: ArrayConfig
    cycles: int = 0
    utilization: float = 0.0
    memory_bits: int = 0
    refusal: str = ""
    luts: int | None = None

    @property
    def cells(self) -> int:
        """Processing elements."""
        return self.array.rows * self.array.cols

    @property
    def costs(self) -> tuple[int, int, int]:
        """What a better array has less of: cycles, LUTs (or processing elements), memory bits."""
        logic = self.cells if self.luts is None else self.luts
        return self.cycles, logic, self.memory_bits

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        array = self.array
        sizes = {name: getattr(array, name) for name in ("rows", "cols", "acc_depth", "act_depth")}
        if self.refusal:
            return sizes | {"refusal": self.refusal}
        return sizes | {
            "cells": self.cells,
            "luts": self.luts,
            "cycles": self.cycles,
            "utilization": self.utilization,
            "memory_bits": self.memory_bits,
        }


def grid(
    rows: Sequence[int], cols: Sequence[int], acc_depths: Sequence[int], base: ArrayConfig
) -> list[ArrayConfig]:
    """Return every combination as an array, the other fields those of ``base``.

    Pairs of rows and columns that no array may have (``ArrayConfig``) are left out; raise
    ``InputError`` if none remains, or if one value is out of range by itself.
    """
    for name, values in (("rows", rows), ("cols", cols), ("acc_depth", acc_depths)):
        square = ("rows", "cols") if name in ("rows", "cols") else (name,)
        for value in values:
            replace(base, **dict.fromkeys(square, value))
    arrays = [
        replace(base, rows=r, cols=c, acc_depth=depth)
        for r, c, depth in product(rows, cols, acc_depths)
        if max(r, c) % min(r, c) == 0 and max(r, c) <= 16 * min(r, c)
    ]
    if not arrays:
        raise InputError("sweep must hold at least one array; rows and cols must divide each other")
    return arrays


def evaluate(network: IntegerNetwork, array: ArrayConfig, latency: int) -> Point:
    """Return the point of one array, its activation memory as large as the compiler uses."""
    try:
        network = adapt(network, array)
        words = arrange(network, replace(array, act_depth=MOST_DEPTH)).act_words
        array = replace(array, act_depth=max(words, 4))
        program = compile(network, array, latency)
    except NupesError as error:
        return Point(array, refusal=str(error))
    return Point(array, program.cycles, program.utilization, memory_bits(array))


def sweep(
    network: IntegerNetwork,
    arrays: Iterable[ArrayConfig],
    latency: int = 20,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Point]:
    """Return a point for every array, in their order.

    ``latency`` is the external memory's, in cycles. ``progress`` is called with (arrays done,
    arrays). Several ``workers`` are processes that import the caller's main module again: a script
    must call this under ``if __name__ == "__main__":``.
    """
    arrays = list(arrays)
    # The smallest arrays have the most tiles: first, so that no process works on one alone at the
    # end.
    order = sorted(range(len(arrays)), key=lambda i: arrays[i].rows * arrays[i].cols)
    points: dict[int, Point] = {}
    with ExitStack() as stack:
        if workers > 1:
            pool = ProcessPoolExecutor(
                workers, get_context("forkserver"), begin_worker, (network, latency)
            )
            stack.callback(pool.shutdown, cancel_futures=True)
            with deferred_signals():
                results = pool.map(work, [arrays[index] for index in order])
        else:
            results = (evaluate(network, arrays[index], latency) for index in order)
        for index, point in zip(order, results, strict=True):
            points[index] = point
            if progress is not None:
                progress(len(points), len(arrays))
    return [points[index] for index in range(len(arrays))]


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Hold interrupts and kills back until the end, so that no process is left half begun. One that
    begins here is never interrupted: a terminal sends its Ctrl-C to every process, and the caller
    ends the others."""
    late: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if current_thread() is not main_thread() or None in handlers.values():
        handlers = {}  # no handler of Python runs in this thread, or it could not be set again
    # A mask is not enough: other threads take the signal, and its handler then runs in this one.
    for number in handlers:
        signal.signal(number, lambda number, _: late.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in late:
            signal.raise_signal(number)


def pareto(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other one beats, fastest first: none has at most its
    ``costs``, and less of one of them. Refused arrays and repetitions are left out.
    """
    rivals = sorted({point.costs: point for point in points if not point.refusal}.items())
    front: list[Point] = []
    for costs, point in rivals:
        # Whatever beats this one has at most its cycles, and so comes earlier.
        if not any(all(a <= b for a, b in zip(kept.costs, costs, strict=True)) for kept in front):
            front.append(point)
    return front


class Job:
    """What a worker keeps from one array to the next."""

    network: IntegerNetwork
    latency: int


def begin_worker(network: IntegerNetwork, latency: int) -> None:
    """Keep what every array needs. A compilation frees almost nothing, so garbage is collected
    after it, not during it: a quarter of its time."""
    Job.network, Job.latency = network, latency
    gc.disable()


def work(array: ArrayConfig) -> Point:
    """Return the point of an array for this worker's network."""
    point = evaluate(Job.network, array, Job.latency)
    gc.collect()
    return point
