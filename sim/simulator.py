"""The user's side of a resident simulation: ``Simulator`` starts it, gives it jobs, ends it."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Status
from nupes.compiler.program import check_latency
from nupes.model.errors import InputError, SimulationError
from nupes.model.summary import html_table
from nupes.sim import resident
from nupes.sim.build import Progress, build, check_tools, launcher, report_to_stderr, tail
from nupes.sim.files import RawResult, image_text, patch_text, port_words, read_report
from nupes.sim.generate import generate

if TYPE_CHECKING:
    from nupes.compiler.program import Program

__all__ = ["NO_STALLS", "SimulationResult", "Simulator", "Stalls"]

DEFAULT_LATENCY = 20
START_SECONDS = 600.0
"""How long a start may take, on however busy a machine. One that fails is noticed at once: the
simulator's end of the socket closes with it."""

STOP_SECONDS = 5.0
WAVE_FORMATS = ("vcd", "fst")
SHOWN = 10
"""Images, and values of each, that a notebook shows."""


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


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """What a program computed on the hardware, image by image.

    ``outputs`` float64 (b, *output_shape): equal to the integer network's; ``y`` int16, the same
    before the scale; ``cycles``: from ``start`` to ``done``, per image; ``layer_cycles`` int64 (b,
    layers): their sum is ``cycles``; a layer runs from its first word to the next layer's, the
    first from ``start``, the last to ``done``.
    """

    outputs: np.ndarray
    y: np.ndarray
    cycles: list[int]
    layer_cycles: np.ndarray

    def __repr__(self) -> str:
        spread = " to ".join(f"{value:,}" for value in sorted({min(self.cycles), max(self.cycles)}))
        return f"SimulationResult({len(self.y)} images, {spread} cycles each)"

    def _repr_html_(self) -> str:
        """Return cycles and outputs per image as a notebook shows them; the first images only."""
        rows = [
            (image, cycles, np.array2string(y.reshape(-1)[:SHOWN], separator=" "))
            for image, (cycles, y) in enumerate(zip(self.cycles, self.y, strict=True))
        ]
        return html_table(repr(self), ("image", "cycles", "first values of y"), rows[:SHOWN])


class Simulator:
    """A simulation of one array that stays alive and runs programs; use it in a ``with`` statement.

    Args:
        config: the array.
        simulator: "verilator" or "icarus".
        latency: cycles from the acceptance of a memory request to its first word, at least 1;
            by default the one that a program was compiled for, and 20 for ``execute``.
        waves: file that records every signal, ``.vcd`` or ``.fst`` (which Verilator writes if the
            headers of lz4 and zlib are installed); complete when the simulator is closed.
        verilog: text that defines ``nupes_accelerator``, instead of the one generated for
            ``config``.
        memory_words: port words of the external memory.
        timeout: seconds that one run may take.
        progress: called with a line of text when something takes longer than a second.

    Raises:
        SimulationError: a tool is missing (the message names the command that installs it), the
            build failed, or the simulator ended by itself (its log is quoted and kept).
    """

    def __init__(
        self,
        config: ArrayConfig | None = None,
        simulator: str = "verilator",
        latency: int | None = None,
        *,
        waves: str | os.PathLike[str] | None = None,
        verilog: str | None = None,
        memory_words: int = 1 << 20,
        timeout: float = 600.0,
        progress: Progress = report_to_stderr,
    ) -> None:
        self.config = ArrayConfig() if config is None else config
        self.simulator = simulator
        if latency is not None:
            check_latency(latency)
        self.latency = latency
        self.waves = None if waves is None else Path(waves).absolute()
        if waves is not None:
            check_waves(Path(waves))
        self.memory_words = memory_words
        self.timeout = timeout
        self.progress = progress
        self._verilog = verilog
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._lifeline: socket.socket | None = None
        self._directory = Path()
        self._jobs = 0
        self._image: np.ndarray | None = None
        self._patched: np.ndarray = np.empty(0, np.int64)

    def __enter__(self) -> "Simulator":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Build the simulator if no cached one fits, and start it."""
        if self._process is not None:
            raise SimulationError("the simulator is running already")
        if self.waves is not None:
            check_writable(self.waves)
        check_tools(self.simulator)  # Before anything that takes time.
        wave_format = "" if self.waves is None else self.waves.suffix[1:]
        built = build(
            self.config,
            self._verilog if self._verilog is not None else generate(self.config, self.progress),
            self.simulator,
            wave_format,
            self.memory_words,
            self.progress,
        )
        command, environment = launcher(self.simulator, wave_format).command(
            built, resident.__name__, self.waves
        )
        self._directory = Path(tempfile.mkdtemp(prefix="nupes-"))
        self._image, self._patched, self._jobs = None, np.empty(0, np.int64), 0
        self._socket, jobs = socket.socketpair()
        self._lifeline, lifeline = socket.socketpair()
        environment |= {
            resident.SOCKET: str(jobs.fileno()),
            "COCOTB_RESULTS_FILE": str(self._directory / "results.xml"),
        }
        with jobs, lifeline, (self._directory / "simulator.log").open("wb") as log:
            # A session of its own: the terminal's interrupt goes to us alone, and we end the
            # simulator.
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=self._directory,
                stdin=lifeline.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[jobs.fileno()],
                start_new_session=True,
            )
        try:
            if self._receive(START_SECONDS) != {"ready": True}:
                raise SimulationError("the simulator did not say that it is ready")
        except BaseException:
            self._abandon()
            raise

    def close(self) -> None:
        """End the simulator; closing twice is fine."""
        process, jobs, lifeline = self._process, self._socket, self._lifeline
        self._process = self._socket = self._lifeline = None
        if jobs is not None:
            jobs.close()
        try:
            if process is not None:
                process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            if lifeline is not None:
                lifeline.close()
                shutil.rmtree(self._directory, ignore_errors=True)

    def execute(
        self,
        image: np.ndarray | Sequence[int],
        patch: tuple[np.ndarray, np.ndarray] | None = None,
        *,
        latency: int | None = None,
        stalls: Stalls = NO_STALLS,
        reset_cycle: int = 0,
        cycle_limit: int = 1 << 30,
    ) -> RawResult:
        """Run one program image once and return what the ports said; an error status is a result,
        not an exception.

        ``image``: port words from address 0, uint64 (words, ceil(port_bits / 64)) or Python
        integers; the memory above is zero. ``patch``: addresses (n,) and words (n, k) written over
        the image for this run alone. With ``reset_cycle`` the accelerator is reset in that cycle
        and the run begins again; the result is the second run's.

        Raise ``InputError`` for words that do not fit, ``SimulationError`` if the run gave no
        status within ``cycle_limit`` cycles or ``timeout`` seconds, gave undefined bits, or left
        the accelerator busy.
        """
        if self._process is None:
            raise SimulationError("the simulator is not running; use `with Simulator(...) as hw:`")
        if latency is None:
            latency = self.latency or DEFAULT_LATENCY
        check_latency(latency)
        for name, value in (("reset_cycle", reset_cycle), ("cycle_limit", cycle_limit)):
            if not 0 <= value < 1 << 32:
                raise InputError(f"{name} must be 0 to 2**32 - 1, not {value}")
        loads = self._write_image(image)
        patches = self._write_patch(patch)
        job = [
            int(loads),
            int(patches),
            0 if self._image is None else len(self._image),
            latency,
            stalls.seed,
            *(round(256 * value) for value in (stalls.request, stalls.response, stalls.result)),
            reset_cycle,
            cycle_limit,
            stalls.since,
        ]
        job += [0] * (16 - len(job))
        (self._directory / "job.hex").write_text("\n".join(f"{value:x}" for value in job) + "\n")
        try:
            self._run_job()
        except BaseException:
            self._abandon()
            raise
        return read_report(self._directory / "report.txt", self.config.cols)

    def stream(
        self, program: "Program", images: np.ndarray, *, stalls: Stalls = NO_STALLS
    ) -> Iterator[SimulationResult]:
        """Yield the result of each image (batch of one), as soon as it is there; see ``run``."""
        if program.array != self.config:
            raise InputError(
                f"the program must be compiled for this simulator's array {self.config!r}, "
                f"not {program.array!r}"
            )
        codes = program.network.encode(images)
        latency = self.latency or program.latency
        for index in range(len(codes)):
            patch = program.input_patches(codes[index])
            raw = self.execute(program.image, patch, latency=latency, stalls=stalls)
            if raw.status != Status.OK:
                raise SimulationError(
                    f"the accelerator ended image {index} with status {Status(raw.status).name} "
                    f"in cycle {raw.cycles} ({ADVICE[Status(raw.status)]})"
                )
            if len(raw.marks) != len(program.marked):
                raise SimulationError(
                    f"the accelerator marked {len(raw.marks)} layers of {len(program.marked)}"
                )
            y = program.outputs(raw.outputs)[np.newaxis]
            # A layer that moves nothing has no mark, and takes no cycles.
            layer_cycles = np.zeros((1, len(program.layers)), np.int64)
            layer_cycles[0, program.marked] = np.diff([0, *raw.marks[1:], raw.cycles])
            yield SimulationResult(
                outputs=y.astype(np.float64) * program.output.scale,
                y=y,
                cycles=[raw.cycles],
                layer_cycles=layer_cycles,
            )

    def run(
        self,
        program: "Program",
        images: np.ndarray,
        *,
        stalls: Stalls = NO_STALLS,
        progress: Callable[[int, int], None] | None = None,
    ) -> SimulationResult:
        """Run a program on real images (b, c, h, w); ``outputs`` equals
        ``program.network(images)``.

        ``progress`` is called with (images done, images) after each. Raise ``InputError`` for a
        program of another array or images that do not fit it, ``SimulationError`` if the hardware
        ends with an error status.
        """
        parts = []
        for part in self.stream(program, images, stalls=stalls):
            parts.append(part)
            if progress is not None:
                progress(len(parts), len(images))
        if not parts:
            raise InputError("images must contain at least one image, not 0")
        return SimulationResult(
            outputs=np.concatenate([part.outputs for part in parts]),
            y=np.concatenate([part.y for part in parts]),
            cycles=[cycles for part in parts for cycles in part.cycles],
            layer_cycles=np.concatenate([part.layer_cycles for part in parts]),
        )

    def _write_image(self, image: np.ndarray | Sequence[int]) -> bool:
        """Write the program file if the image is not the one in memory; return whether it did."""
        words = port_words(image, self.config.port_bits)
        if not 0 < len(words) <= self.memory_words:
            raise InputError(
                f"image must have 1 to {self.memory_words} words (memory_words), not {len(words)}"
            )
        if self._image is not None and np.array_equal(words, self._image):
            return False
        text = image_text(words, self.config.port_bits)
        (self._directory / "program.hex").write_bytes(text)
        self._image, self._patched = words.copy(), np.empty(0, np.int64)
        return True

    def _write_patch(self, patch: tuple[np.ndarray, np.ndarray] | None) -> bool:
        """Write the patch file: this run's words, and the image's where only the last run's are."""
        assert self._image is not None
        addresses, words = np.empty(0, np.int64), self._image[:0]
        if patch is not None:
            addresses = np.asarray(patch[0]).astype(np.int64).reshape(-1)
            words = port_words(patch[1], self.config.port_bits, "patch")
            if len(words) != len(addresses):
                raise InputError(
                    f"patch must have a word for each address, not {len(words)} words "
                    f"for {len(addresses)} addresses"
                )
            if len(addresses) and not (0 <= addresses.min() and addresses.max() < len(self._image)):
                raise InputError(
                    f"patch must stay inside the image of {len(self._image)} words, "
                    f"not reach {int(addresses.min())}..{int(addresses.max())}"
                )
        if not np.array_equal(addresses, self._patched):
            stale = np.setdiff1d(self._patched, addresses)
            places = np.concatenate([stale, addresses])
            words = np.concatenate([self._image[stale], words])
        else:
            places = addresses
        self._patched = addresses
        if not len(places):
            return False
        text = patch_text(places, words, self.config.port_bits)
        (self._directory / "patch.hex").write_bytes(text)
        return True

    def _run_job(self) -> None:
        """Let the simulator do the job in its files; return when the report is written."""
        assert self._socket is not None
        self._jobs += 1
        try:
            self._socket.sendall(json.dumps({"job": self._jobs}).encode() + b"\n")
        except OSError:
            pass  # It has ended: receiving says how.
        if self._receive(self.timeout) != {"job": self._jobs}:
            raise SimulationError("the simulator answered another job than the one it was given")

    def _receive(self, seconds: float) -> dict:
        """Return the simulator's next message; raise ``SimulationError`` if none comes in time."""
        assert self._socket is not None
        assert self._process is not None
        deadline = time.monotonic() + seconds
        data = b""
        while not data.endswith(b"\n"):
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._socket.recv(4096)
            except TimeoutError:
                raise SimulationError(
                    f"the simulator did not answer within {seconds:g} s (timeout){self._keep_log()}"
                ) from None
            except OSError:
                part = b""
            if not part:
                try:
                    code = self._process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    code = None
                raise SimulationError(
                    f"the simulator ended by itself (exit status {code}){self._keep_log()}"
                )
            data += part
        return json.loads(data)

    def _keep_log(self) -> str:
        """Copy the simulator's log to a place that outlives the job; return its place and end."""
        log = self._directory / "simulator.log"
        end = tail(log)
        descriptor, kept = tempfile.mkstemp(prefix="nupes-simulator-", suffix=".log")
        os.close(descriptor)
        shutil.copyfile(log, kept)
        return f"; its log is {kept}:\n{end}"

    def _abandon(self) -> None:
        """Kill the simulator: it is not known what it is doing."""
        if self._process is not None:
            self._process.kill()
        self.close()


ADVICE = {
    Status.RUNNING: "it did not end",
    Status.BAD_INSTRUCTION: "a word of the program is not an instruction or its checksum is wrong",
    Status.TIMEOUT: "nothing moved for ArrayConfig.watchdog cycles: does the memory answer, "
    "does the host take results?",
}


def check_waves(path: Path) -> None:
    """Raise ``InputError`` if no simulator writes waveforms of this kind."""
    if path.suffix[1:] not in WAVE_FORMATS:
        raise InputError(f"waves must be a .vcd or .fst file, not {str(path)!r}")


def check_writable(path: Path) -> None:
    """Raise ``InputError`` if a file cannot be created; leave an existing one alone."""
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise InputError(f"waves cannot be written to {path} ({error.strerror})") from error
    if not existed:
        path.unlink()
