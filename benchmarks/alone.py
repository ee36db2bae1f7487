"""A function in a process of its own, with limits of time and memory."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from nupes.model.errors import NupesError

__all__ = ["Result", "preload", "run_alone", "runs"]

Result = dict[str, Any]
"""What a function found, as JSON data; ``reason`` says why it failed, ``problems`` what is wrong
with what it looked at, ``exact`` whether a comparison was equal."""

GIB = 1 << 30

SERVER = multiprocessing.get_context("forkserver")
"""Processes are copies of one that has imported what they need."""


def preload(*modules: str) -> None:
    """Let all processes start with modules imported."""
    SERVER.set_forkserver_preload(list(modules))


def runs(result: Result) -> bool:
    """Whether a result is a success."""
    return not result.get("reason") and not result.get("problems") and result.get("exact", True)


def run_alone(
    function: Callable[..., Result], *arguments: Any, seconds: float, gib: float
) -> Result:
    """Return what a function of some module gives, with the process's ``seconds`` and largest
    memory in ``gib``; if it fails, takes longer or needs more, the ``reason``."""
    here, there = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=serve, args=(there, function, arguments, gib))
    process.start()
    there.close()
    try:
        if not here.poll(seconds):
            return {"reason": f"it takes more than {seconds:g} seconds"}
        return here.recv()
    except EOFError:
        return {"reason": f"its process ended with more than {gib:g} GiB, or for another reason"}
    finally:
        process.kill()
        process.join()


def serve(there: Connection, function: Callable[..., Result], arguments: tuple, gib: float) -> None:
    """Send what a function gives to the other process."""
    limit = int(gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    start = time.monotonic()
    found: Result
    try:
        found = function(*arguments)
    except NupesError as error:
        found = {"reason": str(error)}
    except MemoryError:
        found = {"reason": f"it needs more than {gib:g} GiB"}
    except Exception as error:  # of the libraries, or a defect: it says so in the table
        found = {"reason": f"{type(error).__name__}: {error}"}
    found["seconds"] = round(time.monotonic() - start, 2)
    found["gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 2)
    there.send(found)
