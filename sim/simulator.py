"""The user's side of a resident simulation: ``Simulator`` builds it, starts it, gives it jobs."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from nupes.arch.bus import BusStatus, check_bus, word_bytes
from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Status
from nupes.compiler.program import check_latency
from nupes.model.errors import InputError, SimulationError
from nupes.model.files import check_output
from nupes.model.network import one_or_all
from nupes.sim import resident
from nupes.sim.beats import beats_of, patched_beats
from nupes.sim.builds import LEAST_MEMORY, Progress, build_simulator, report_to_stderr
from nupes.sim.files import RawResult
from nupes.sim.jobs import NO_STALLS, Job, JobFiles, Patch, Stalls, check_patch, program_words
from nupes.sim.launchers import BUS_TESTBENCH, TESTBENCH, WAVE_FORMATS, find_launcher
from nupes.sim.process import Process
from nupes.sim.results import SimulationResult, join_results
from nupes.sim.tools import check_tools
from nupes.sim.verilog import generate

if TYPE_CHECKING:
    from nupes.compiler.program import Program

__all__ = ["Images", "Simulator", "check_waves", "each_input"]

DEFAULT_LATENCY = 20

Images = np.ndarray | tuple[np.ndarray, ...]
"""Real images (b, c, h, w) of the only input, or of each one."""

ADVICE = {
    BusStatus.RUNNING: "it did not end",
    BusStatus.BAD_INSTRUCTION: "a word of the program is not an instruction or its checksum is "
    "wrong",
    BusStatus.TIMEOUT: "nothing moved for ArrayConfig.watchdog cycles: does the memory answer, "
    "does the host take results?",
    BusStatus.OVERFLOW: "the bench has no room for so many results",
}


def each_input(images: Images) -> tuple[np.ndarray, ...]:
    """Return the images of each input."""
    return images if isinstance(images, tuple) else (images,)


def check_waves(path: Path) -> None:
    """Raise ``InputError`` if no simulator writes waveforms of this kind."""
    if path.suffix[1:] not in WAVE_FORMATS:
        raise InputError(f"waves must be a .vcd or .fst file, not {str(path)!r}")


class Simulator:
    """A simulation of one array that stays alive and runs programs; use it in a ``with`` statement.

    It is built and started for the first program, with a memory that holds it. A program that needs
    more memory starts another one. Threads may share a simulator: one run follows the other. A fork
    may not run anything on it, but may close it.

    Args:
        config: the array.
        simulator: "verilator" or "icarus".
        latency: cycles from the acceptance of a memory request to its first word, at least 1;
            by default the one that a program was compiled for, and 20 for ``execute``.
        bus: None for the accelerator's own ports, or "axi4" for ``nupes_axi`` (docs/bus.md):
            cycles are then those of its register CYCLES, and ``latency`` is that of a burst.
        bus_bits: bits of a beat, 64 or 128; by default 64 if a port word fits them, else 128.
        waves: file that records every signal, ``.vcd`` or ``.fst`` (which Verilator writes if the
            headers of lz4 and zlib are installed); complete when the simulator is closed.
        verilog: text that defines ``nupes_accelerator``, and ``nupes_axi`` on a bus, instead of the
            one generated for ``config``.
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
        bus: str | None = None,
        bus_bits: int | None = None,
        waves: str | os.PathLike[str] | None = None,
        verilog: str | None = None,
        timeout: float = 600.0,
        progress: Progress = report_to_stderr,
    ) -> None:
        self.config = ArrayConfig() if config is None else config
        self.simulator = simulator
        self.bus = bus
        self.bus_bits = check_bus(bus, bus_bits, self.config)
        if latency is not None:
            check_latency(latency)
        self.latency = latency
        self.waves = None if waves is None else Path(waves).absolute()
        if waves is not None:
            check_waves(Path(waves))
        self.timeout = timeout
        self.progress = progress
        self._verilog = verilog
        self._lock = RLock()
        self._opened = False
        self._owner = os.getpid()
        self._memory = 0
        self._running: tuple[Process, JobFiles] | None = None

    def __enter__(self) -> "Simulator":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Get ready for programs; raise at once what would hinder them all."""
        if self._opened:
            raise SimulationError("the simulator is open already")
        if self.waves is not None:
            check_output(self.waves)
        check_tools(self.simulator)
        self._opened, self._owner = True, os.getpid()

    def close(self) -> None:
        """End the simulator; closing twice is fine."""
        if self._forked:  # Its lock may be held by a thread that it does not have.
            self._lock = RLock()
        with self._lock:
            self._stop()

    def prepare(self, program: "Program") -> None:
        """Build and start what ``run`` needs for a program now."""
        self._check_program(program)
        self._check_owner()
        with self._lock:
            self._start(len(program.image))

    def execute(
        self,
        image: np.ndarray | Sequence[int],
        patch: Patch | None = None,
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
        if latency is None:
            latency = self.latency or DEFAULT_LATENCY
        words = program_words(image, self.config.port_bits)
        job = Job(latency, stalls, reset_cycle, cycle_limit, len(words))
        self._check_owner()
        with self._lock:
            process, files = self._start(len(words))
            if self.bus_bits is not None:
                words, patch = self._in_beats(words, patch, self.bus_bits)
            files.write(words, patch, job)
            try:
                process.run(self.timeout)
            except BaseException:  # It is not known what it is doing.
                process.kill()
                self._stop()
                raise
            return files.read()

    def stream(
        self, program: "Program", images: Images, *, stalls: Stalls = NO_STALLS
    ) -> Iterator[SimulationResult]:
        """Yield the result of each run, an image or a batch, as soon as it is there; see
        ``run``."""
        self._check_program(program)
        codes = program.network.encode_all(*each_input(images))
        latency, number = self.latency or program.latency, len(codes[0])
        for index in range(0, number, program.batch):
            # The last image stands in for those that are missing from the last batch.
            taken = np.minimum(np.arange(index, index + program.batch), number - 1)
            patch = program.input_patches(*(array[taken] for array in codes))
            raw = self.execute(program.image, patch, latency=latency, stalls=stalls)
            if raw.status != Status.OK:
                raise SimulationError(
                    f"the accelerator ended image {index} with status {BusStatus(raw.status).name} "
                    f"in cycle {raw.cycles} ({ADVICE.get(BusStatus(raw.status), 'the bus failed')})"
                )
            if len(raw.marks) != len(program.marked):
                raise SimulationError(
                    f"the accelerator marked {len(raw.marks)} layers of {len(program.marked)}"
                )
            y = tuple(values[: number - index] for values in program.outputs(raw.outputs))
            # A layer that moves nothing has no mark, and takes no cycles.
            layer_cycles = np.zeros((1, len(program.layers)), np.int64)
            spans = np.diff([0, *raw.marks[1:], raw.cycles])
            np.add.at(layer_cycles[0], list(program.marked), spans)
            outputs = one_or_all(program.network.scale(y))
            yield SimulationResult(outputs, one_or_all(y), [raw.cycles], layer_cycles)

    def run(
        self,
        program: "Program",
        images: Images,
        *,
        stalls: Stalls = NO_STALLS,
        progress: Callable[[int, int], None] | None = None,
    ) -> SimulationResult:
        """Run a program on real images (b, c, h, w), or a tuple of the images of several inputs;
        ``outputs`` equals ``program.network(images)``. Each run of a program for a batch takes so
        many images; what is missing from the last batch is filled up.

        ``progress`` is called with (images done, images) after each run. Raise ``InputError`` for a
        program of another array or images that do not fit it, ``SimulationError`` if the hardware
        ends with an error status.
        """
        parts, done = [], 0
        for part in self.stream(program, images, stalls=stalls):
            parts.append(part)
            done += part.images
            if progress is not None:
                progress(done, len(each_input(images)[0]))
        return join_results(parts)

    @property
    def _forked(self) -> bool:
        """Whether this is a fork of the process that opened the simulator."""
        return self._opened and os.getpid() != self._owner

    def _check_program(self, program: "Program") -> None:
        """Refuse a program of another array."""
        if program.array != self.config:
            raise InputError(
                f"the program must be compiled for this simulator's array {self.config!r}, "
                f"not {program.array!r}"
            )

    def _check_owner(self) -> None:
        """Refuse a fork of the process that opened the simulator."""
        if self._forked:
            raise SimulationError(
                "the simulator must be used by the process that opened it, not by a fork of it; "
                "open another one there"
            )

    def _in_beats(
        self, words: np.ndarray, patch: Patch | None, data_bits: int
    ) -> tuple[np.ndarray, Patch | None]:
        """Return an image and its patch as beats of the bus."""
        bits = self.config.port_bits
        if patch is not None:
            patch = patched_beats(words, check_patch(patch, len(words), bits), bits, data_bits)
        return beats_of(words, bits, data_bits), patch

    def _start(self, words: int) -> tuple[Process, JobFiles]:
        """Return a running simulator whose memory holds ``words`` port words."""
        if self.bus_bits is not None:  # its memory is in beats
            words = -(-8 * words * word_bytes(self.config.port_bits) // self.bus_bits)
        if not self._opened:
            raise SimulationError("the simulator is not running; use `with Simulator(...) as hw:`")
        if self._running is not None and words <= self._memory:
            return self._running
        if self._running is not None and self.waves is not None:
            raise InputError(
                f"waves must be of programs up to {self._memory} words here, not {words}; "
                "run the largest program first"
            )
        memory = max(LEAST_MEMORY, 1 << (words - 1).bit_length())
        launcher = find_launcher(
            self.simulator,
            "" if self.waves is None else self.waves.suffix[1:],
            TESTBENCH if self.bus_bits is None else BUS_TESTBENCH,
        )
        verilog = self._verilog
        if verilog is None:
            verilog = generate(self.config, self.progress, self.bus_bits)
        built = build_simulator(
            launcher, self.config, verilog, memory, self.progress, self.bus_bits
        )
        self._stop(opened=True)
        process = Process(*launcher.command(built, resident.__name__, self.waves))
        bits = self.bus_bits or self.config.port_bits
        files = JobFiles(process.directory, bits, self.config.cols)
        self._running, self._memory = (process, files), memory
        return self._running

    def _stop(self, opened: bool = False) -> None:
        """End what runs; without ``opened`` the simulator is closed."""
        running, self._running = self._running, None
        self._memory, self._opened = 0, opened
        if running is not None:
            running[0].close()
