"""The simulator's side of a resident simulation: a cocotb test that serves jobs until its owner
closes the socket.

Runs inside the simulator. A request is one JSON line ``{"job": n}``; the job itself is in the files
that ``testbench.v`` reads. The answer is ``{"job": n}`` when the report is written. Python sleeps
while the job is simulated.
"""

import json
import os
import socket
import threading
import time

import cocotb

SOCKET = "NUPES_SOCKET"
"""Environment variable: the descriptor of the inherited end of a socket pair."""

OWNER = "NUPES_OWNER"
"""Environment variable: the process that owns the simulation."""


def die_with(owner: int) -> None:
    """End this process when its owner is gone; nobody reads the socket while a job runs."""
    while os.getppid() == owner:
        time.sleep(0.5)
    os._exit(1)


@cocotb.test()
async def serve(bench) -> None:
    """Take jobs one by one; return, which ends the simulation, at the end of the stream."""
    owner = int(os.environ[OWNER])
    threading.Thread(target=die_with, args=(owner,), daemon=True).start()
    level = 0
    with socket.socket(fileno=int(os.environ[SOCKET])) as connection:
        stream = connection.makefile("rw", encoding="utf-8", newline="\n")
        print(json.dumps({"ready": True}), file=stream, flush=True)
        for line in stream:
            level ^= 1
            bench.strobe.value = level
            await bench.finished.value_change
            print(json.dumps({"job": json.loads(line)["job"]}), file=stream, flush=True)
