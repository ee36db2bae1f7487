"""The simulator's side of a resident simulation: a cocotb test that serves jobs until its owner
closes the socket.

Runs inside the simulator. A request is one JSON line ``{"job": n}``; the job itself is in the files
that ``testbench.v`` reads. The answer is ``{"job": n}`` when the report is written. Python sleeps
while the job is simulated.
"""

import fcntl
import json
import os
import socket

import cocotb
from cocotb.triggers import Timer

LIFELINE = 0
"""Descriptor of a socket, the standard input, whose other end its owner holds while it lives."""

SOCKET = "NUPES_SOCKET"
"""Environment variable: the descriptor of the socket of jobs."""


def die_with_owner() -> None:
    """Have the kernel end this process when its owner is gone.

    The end of the lifeline raises SIGIO, whose default is to terminate. A thread would not do:
    Python does not run while a job is simulated.
    """
    fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(LIFELINE, fcntl.F_GETFL)
    fcntl.fcntl(LIFELINE, fcntl.F_SETFL, flags | os.O_ASYNC)


@cocotb.test()
async def serve(bench) -> None:
    """Take jobs one by one; return, which ends the simulation, at the end of the stream."""
    die_with_owner()
    await Timer(1, "ns")  # past the initial values: they too are changes
    level = 0
    with socket.socket(fileno=int(os.environ[SOCKET])) as connection:
        stream = connection.makefile("rw", encoding="utf-8", newline="\n")
        print(json.dumps({"ready": True}), file=stream, flush=True)
        for line in stream:
            level ^= 1
            bench.strobe.value = level
            await bench.finished.value_change
            print(json.dumps({"job": json.loads(line)["job"]}), file=stream, flush=True)
