"""The process of a resident simulation, from its owner's side: started, given jobs, ended."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nupes.model.errors import SimulationError
from nupes.sim import resident
from nupes.sim.builds import tail

__all__ = ["Process"]

START_SECONDS = 600.0
"""How long a start may take, on however busy a machine. One that fails is noticed at once: the
simulator's end of the socket closes with it."""

STOP_SECONDS = 5.0


class Process:
    """A simulator that runs in a directory of its own and takes jobs one at a time.

    Raise ``SimulationError`` if it does not start; the error quotes its log and says where it is.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.owner = os.getpid()
        self.jobs = 0
        with ExitStack() as undo:
            try:
                self._start(command, environment, undo)
            except OSError as error:
                raise SimulationError(
                    f"the simulator must be able to start, not fail with: {error}"
                ) from error
            if self._receive(START_SECONDS) != {"ready": True}:
                raise SimulationError("the simulator did not say that it is ready")
            undo.pop_all()

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], undo: ExitStack
    ) -> None:
        """Start the process; ``undo`` takes everything back."""
        self.directory = Path(tempfile.mkdtemp(prefix="nupes-"))
        undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.connection, jobs = socket.socketpair()
        undo.callback(self.connection.close)
        with jobs:
            self.lifeline, lifeline = socket.socketpair()
            undo.callback(self.lifeline.close)
            with lifeline, self.log.open("wb") as log:
                # A session of its own: the terminal's interrupt goes to us alone, and we end the
                # simulator.
                self.process = subprocess.Popen(
                    command,
                    env={
                        **environment,
                        resident.SOCKET: str(jobs.fileno()),
                        "COCOTB_RESULTS_FILE": str(self.directory / "results.xml"),
                    },
                    cwd=self.directory,
                    stdin=lifeline.fileno(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[jobs.fileno()],
                    start_new_session=True,
                )
        undo.callback(self.kill)

    @property
    def log(self) -> Path:
        """What the simulator prints."""
        return self.directory / "simulator.log"

    @property
    def ours(self) -> bool:
        """Whether this is the process that started it, and not a fork of that."""
        return os.getpid() == self.owner

    def run(self, seconds: float) -> None:
        """Let the simulator do the job in its files; return when the report is written.

        Raise ``SimulationError`` if it takes longer than ``seconds`` or ends.
        """
        self.jobs += 1
        try:
            self.connection.sendall(json.dumps({"job": self.jobs}).encode() + b"\n")
        except OSError:
            pass  # It has ended: receiving says how.
        if self._receive(seconds) != {"job": self.jobs}:
            raise SimulationError("the simulator answered another job than the one it was given")

    def close(self) -> None:
        """End the simulator, and remove its directory; a fork only lets go of it."""
        self.connection.close()
        if not self.ours:
            self.lifeline.close()
            self.process.poll()  # It is no child of a fork: nothing is left to wait for.
            return
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()
            self.lifeline.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End the simulator now, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _receive(self, seconds: float) -> dict[str, Any]:
        """Return the simulator's next message; raise ``SimulationError`` if none comes in time."""
        deadline = time.monotonic() + seconds
        data = b""
        while not data.endswith(b"\n"):
            try:
                self.connection.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self.connection.recv(4096)
            except TimeoutError:
                raise SimulationError(
                    f"the simulator did not answer within {seconds:g} s (timeout){self._keep_log()}"
                ) from None
            except OSError:
                part = b""
            if not part:
                try:
                    code = self.process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    code = None
                raise SimulationError(
                    f"the simulator ended by itself (exit status {code}){self._keep_log()}"
                )
            data += part
        return json.loads(data)

    def _keep_log(self) -> str:
        """Copy the log to a place that outlives the directory; return its place and end."""
        end = tail(self.log)
        try:
            descriptor, kept = tempfile.mkstemp(prefix="nupes-simulator-", suffix=".log")
            os.close(descriptor)
            shutil.copyfile(self.log, kept)
        except OSError as error:
            return f"; its log could not be kept ({error.strerror}):\n{end}"
        return f"; its log is {kept}:\n{end}"
