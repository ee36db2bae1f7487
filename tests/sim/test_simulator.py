"""The resident simulator and its bench, around the stub accelerator."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Status
from nupes.model.errors import ArtifactError, InputError, SimulationError
from nupes.sim import Simulator, Stalls, process
from nupes.sim.builds import LEAST_MEMORY
from nupes.sim.jobs import Job, JobFiles
from nupes.sim.process import Process
from tests.sim.conftest import needs_icarus
from tests.sim.stub import CRASH, ECHO, HANG, SMALL, arrivals, echo, stub

LANES = 3
"""Lanes of the stub's result that echo the word; the last one is the arrival cycle."""

PAYLOAD = np.arange(100, dtype=np.uint64) * np.uint64(0x123456789AB)


def lanes(payload: np.ndarray) -> np.ndarray:
    """Return the int16 lanes that the stub echoes of 64-bit words."""
    return payload.astype("<u8").view("<i2").reshape(-1, 4)[:, :LANES]


def started(hardware: Simulator) -> Process:
    """Return the process of a simulator that runs."""
    assert hardware._running is not None
    return hardware._running[0]


@pytest.mark.parametrize("latency", [1, 2, 20, 31, 32, 33, 100])
def test_memory_timing(hardware: Simulator, latency: int) -> None:
    result = hardware.execute(echo(PAYLOAD), latency=latency)
    expected = arrivals(1 + len(PAYLOAD), latency)
    assert result.outputs[:, LANES].tolist() == expected[1:]
    assert np.array_equal(result.outputs[:, :LANES], lanes(PAYLOAD))
    # The last word is registered, then one result a cycle, then the end.
    assert result.marks.tolist() == [expected[-1] + 1, expected[-1] + len(PAYLOAD)]
    assert result.cycles == expected[-1] + len(PAYLOAD) + 2
    assert result.status == Status.OK


PROBABILITY = st.sampled_from([0.0, 0.1, 0.5, 0.9])


@settings(max_examples=20, deadline=None)
@given(
    stalls=st.builds(Stalls, PROBABILITY, PROBABILITY, PROBABILITY, seed=st.integers(1, 2**32 - 1)),
    latency=st.integers(1, 60),
)
def test_stalls_change_time_never_values(hardware: Simulator, stalls: Stalls, latency: int) -> None:
    image = echo(PAYLOAD)
    result = hardware.execute(image, latency=latency, stalls=stalls)
    assert result.status == Status.OK
    assert np.array_equal(result.outputs[:, :LANES], lanes(PAYLOAD))
    early = arrivals(1 + len(PAYLOAD), latency)[1:]
    assert (result.outputs[:, LANES] >= early).all()
    again = hardware.execute(image, latency=latency, stalls=stalls)
    assert again.cycles == result.cycles
    assert np.array_equal(again.outputs, result.outputs)


def test_stalls_take_their_share(hardware: Simulator) -> None:
    payload = np.arange(4000, dtype=np.uint64)
    free = hardware.execute(echo(payload)).cycles
    for stalls in (Stalls(response=0.5), Stalls(result=0.5)):
        extra = hardware.execute(echo(payload), stalls=stalls).cycles - free
        assert 3600 < extra < 4400
    assert hardware.execute(echo(payload), stalls=Stalls(request=0.9)).cycles > free


def test_a_memory_that_never_answers(hardware: Simulator) -> None:
    result = hardware.execute(echo(PAYLOAD), stalls=Stalls(response=1))
    assert result.status == Status.TIMEOUT
    assert hardware.execute(echo(PAYLOAD)).status == Status.OK


def test_patches_do_not_accumulate(hardware: Simulator) -> None:
    image = echo(PAYLOAD)

    def run(*patched: int) -> np.ndarray:
        addresses = np.array(patched)
        words = np.full(len(patched), 77, np.uint64)
        return hardware.execute(image, (addresses, words)).outputs[:, :LANES]

    def expected(*patched: int) -> np.ndarray:
        payload = PAYLOAD.copy()
        payload[np.array(patched, int) - 1] = 77
        return lanes(payload)

    for patched in [(1, 2), (1, 2), (5,), (), (100, 1), (1, 100)]:
        assert np.array_equal(run(*patched), expected(*patched)), patched
    assert np.array_equal(hardware.execute(image).outputs[:, :LANES], lanes(PAYLOAD))


def test_memory_above_the_image_is_zero(hardware: Simulator) -> None:
    hardware.execute(echo(PAYLOAD))
    result = hardware.execute([ECHO | 3 << 8, 9])
    assert result.outputs[:, :LANES].tolist() == [[9, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_results_carry_the_sign(hardware: Simulator) -> None:
    result = hardware.execute([ECHO | 1 << 8, 0xFFFF_8000_7FFF])
    assert result.outputs[0, :LANES].tolist() == [0x7FFF, -0x8000, -1]


@pytest.mark.parametrize("cycle", [1, 2, 22, 60, 200])
def test_reset_in_mid_run(hardware: Simulator, cycle: int) -> None:
    image = echo(PAYLOAD)
    stalls = Stalls(0.2, 0.2, 0.2, seed=5)
    undisturbed = hardware.execute(image, stalls=stalls)
    result = hardware.execute(image, stalls=stalls, reset_cycle=cycle)
    assert result.status == Status.OK
    assert result.cycles == undisturbed.cycles
    assert result.marks.tolist() == undisturbed.marks.tolist()
    assert np.array_equal(result.outputs, undisturbed.outputs)


def test_bad_instruction(hardware: Simulator) -> None:
    assert hardware.execute([99]).status == Status.BAD_INSTRUCTION
    assert hardware.execute(echo(PAYLOAD)).status == Status.OK


def test_a_run_that_does_not_end(hardware: Simulator) -> None:
    with pytest.raises(SimulationError, match="did not end within 3000 cycles"):
        hardware.execute([HANG], cycle_limit=3000)
    assert hardware.execute(echo(PAYLOAD)).status == Status.OK


def test_bad_input(hardware: Simulator) -> None:
    with pytest.raises(InputError, match=r"image must have 1 to 2\*\*31 - 1 words, not 0"):
        hardware.execute([])
    with pytest.raises(InputError, match="image must have words of 64 bits"):
        hardware.execute([1 << 64])
    with pytest.raises(InputError, match="latency must be an integer from 1"):
        hardware.execute(echo(PAYLOAD), latency=0)
    with pytest.raises(InputError, match=r"not reach 3\.\.101"):
        hardware.execute(echo(PAYLOAD), (np.array([3, 101]), np.zeros(2, np.uint64)))
    with pytest.raises(InputError, match="not 1 words for 2 addresses"):
        hardware.execute(echo(PAYLOAD), (np.array([3, 4]), np.zeros(1, np.uint64)))
    with pytest.raises(InputError, match=r"Stalls\.result must be a probability"):
        Stalls(result=1.5)
    with pytest.raises(InputError, match=r"waves must be a \.vcd or \.fst file"):
        Simulator(SMALL, waves="waves.txt")
    # Nothing of that was lost on the simulator.
    assert np.array_equal(hardware.execute(echo(PAYLOAD)).outputs[:, :LANES], lanes(PAYLOAD))


def test_a_wide_port() -> None:
    config = ArrayConfig(rows=22, cols=22, code_bits=3)
    assert config.port_bits == 66
    word = 3 << 64 | 0x1111222233334444
    with Simulator(config, verilog=stub(config)) as hardware:
        result = hardware.execute([ECHO | 2 << 8, word, 5])
    assert result.outputs[0].tolist()[:6] == [0x4444, 0x3333, 0x2222, 0x1111, 3, 0]
    assert result.outputs[1].tolist()[:2] == [5, 0]
    assert result.outputs[:, -1].tolist() == arrivals(3, 20)[1:]


def test_a_simulator_that_is_not_running() -> None:
    with pytest.raises(SimulationError, match="the simulator is not running"):
        Simulator(SMALL, verilog=stub(SMALL)).execute([ECHO])


def test_a_simulator_that_dies() -> None:
    with Simulator(SMALL, verilog=stub(SMALL)) as hardware:
        hardware.execute([ECHO])
        running = started(hardware).process
        with pytest.raises(SimulationError) as caught:
            hardware.execute([CRASH])
        assert "the stub crashes as it was told to" in str(caught.value)
        log = str(caught.value).split("its log is ")[1].split(":\n")[0]
        assert "the stub crashes" in Path(log).read_text()
        Path(log).unlink()
        assert running.poll() is not None
        with pytest.raises(SimulationError, match="the simulator is not running"):
            hardware.execute(echo(PAYLOAD))


def test_a_simulator_that_dies_before_it_is_ready() -> None:
    begun = time.monotonic()
    with pytest.raises(SimulationError, match=r"ended by itself \(exit status 1\)") as caught:
        Process([sys.executable, "-c", "import sys; sys.exit('no, thanks')"], {})
    assert time.monotonic() - begun < process.START_SECONDS / 4
    assert "no, thanks" in str(caught.value)
    Path(str(caught.value).split("its log is ")[1].split(":\n")[0]).unlink()


def test_a_run_that_takes_too_long() -> None:
    with Simulator(SMALL, verilog=stub(SMALL), timeout=0.2) as hardware:
        with pytest.raises(SimulationError, match=r"did not answer within 0\.2 s") as caught:
            hardware.execute([HANG])
        Path(str(caught.value).split("its log is ")[1].split(":\n")[0]).unlink()
        assert hardware._running is None


def test_job_files_are_removed() -> None:
    with Simulator(SMALL, verilog=stub(SMALL)) as hardware:
        hardware.execute([ECHO])
        running = started(hardware)
        assert running.directory.is_dir()
    assert running.process.returncode == 0
    assert not running.directory.exists()
    hardware.close()


@pytest.mark.parametrize(
    "simulator",
    [pytest.param("icarus", marks=needs_icarus), pytest.param("verilator", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("suffix", ["vcd", "fst"])
def test_waves(tmp_path: Path, simulator: str, suffix: str) -> None:
    waves = tmp_path / f"run.{suffix}"
    try:
        with Simulator(SMALL, simulator, verilog=stub(SMALL), waves=waves) as hardware:
            hardware.execute(echo(PAYLOAD))
    except SimulationError as error:
        if "lz4.h" in str(error):
            pytest.skip(str(error))
        raise
    assert waves.stat().st_size > 1000
    if suffix == "vcd":
        text = waves.read_text()
        assert "result_valid" in text
        assert "$scope module accelerator $end" in text
    with pytest.raises(ArtifactError, match=r"output path .* must be writable"):
        Simulator(SMALL, simulator, verilog=stub(SMALL), waves=tmp_path / "no" / "w.vcd").open()


OWNER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from nupes.sim import Simulator
from tests.sim.conftest import needs_icarus
from tests.sim.stub import ECHO, HANG, SMALL, stub
hardware = Simulator(SMALL, verilog=stub(SMALL))
hardware.open()
hardware.execute([ECHO])
print(hardware._running[0].process.pid, flush=True)
hardware.execute([HANG])
"""


def alive(process: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_simulator_outlives_its_owner(ending: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    ) as owner:
        assert owner.stdout is not None
        simulator = int(owner.stdout.readline())
        time.sleep(0.3)
        assert alive(simulator)
        owner.send_signal(ending)
        owner.wait(60)  # five seconds of patience with the simulator, then on a busy machine more
    deadline = time.monotonic() + 10
    while alive(simulator) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(simulator)


def test_a_process_that_cannot_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SimulationError, match=r"must be able to start, not fail with: .*No such"):
        Process([str(tmp_path / "none")], {})
    assert list(tmp_path.iterdir()) == []
    assert os.listdir("/proc/self/fd") == before


def test_memory_and_results_follow_the_program() -> None:
    """Twice the memory of most programs, and more results than any memory of the bench could hold;
    the memory is one of words, not of zeros."""
    payload = np.arange(LEAST_MEMORY + 5, dtype=np.uint64)
    with Simulator(SMALL, verilog=stub(SMALL)) as hardware:
        small = hardware.execute(echo(PAYLOAD))
        result = hardware.execute(echo(payload))
        assert np.array_equal(result.outputs[:, :LANES], lanes(payload))
        large = started(hardware)
        assert np.array_equal(hardware.execute(echo(PAYLOAD)).outputs, small.outputs)
        assert started(hardware) is large


def test_a_recording_begins_with_the_largest_program(tmp_path: Path) -> None:
    with Simulator(SMALL, verilog=stub(SMALL), waves=tmp_path / "run.vcd") as hardware:
        hardware._running = (None, None)  # type: ignore[assignment]
        hardware._memory = 100
        with pytest.raises(InputError) as error:
            hardware._start(101)
        hardware._running = None
    assert str(error.value) == (
        "waves must be of programs up to 100 words here, not 101; run the largest program first"
    )


def test_threads_take_turns() -> None:
    def run(seed: int) -> None:
        payload = np.arange(seed, seed + 50, dtype=np.uint64)
        for _ in range(5):
            outputs = hardware.execute(echo(payload), latency=seed).outputs
            found.append(np.array_equal(outputs[:, :LANES], lanes(payload)))

    found: list[bool] = []
    with Simulator(SMALL, verilog=stub(SMALL)) as hardware:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, range(1, 9)))
        assert found == [True] * 40


FORKED = (
    "the simulator must be used by the process that opened it, not by a fork of it; "
    "open another one there"
)
FORK = """
import os
from nupes.sim import Simulator
from nupes.model.errors import SimulationError
from tests.sim.stub import ECHO, SMALL, stub
with Simulator(SMALL, verilog=stub(SMALL)) as hardware:
    hardware.execute([ECHO])
    hardware._lock.acquire()  # as another thread may have at the fork
    child = os.fork()
    if not child:
        try:
            hardware.execute([ECHO])
        except SimulationError as error:
            print(error, flush=True)
        hardware.close()
        with Simulator(SMALL, verilog=stub(SMALL)) as other:
            print(other.execute([ECHO]).status, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    hardware._lock.release()
    print(hardware.execute([ECHO]).status, flush=True)
"""


def test_a_fork_breaks_nothing() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    assert result.stdout.splitlines() == [
        FORKED,
        str(int(Status.OK)),
        str(int(Status.OK)),
    ]
    assert result.stderr == ""


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    files = JobFiles(tmp_path, 64, 4)
    image = np.zeros((1, 1), np.uint64)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SimulationError) as error:
        files.write(image, None, Job(1))
    assert str(error.value) == (
        f"the directory {tmp_path} must be writable, not fail with: No space left on device; "
        "make room or set TMPDIR to another directory"
    )
    monkeypatch.undo()
    files.write(image, None, Job(1))
    assert (tmp_path / "program.hex").is_file()
