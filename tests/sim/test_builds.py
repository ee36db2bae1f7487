"""Cache and failures of a build."""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nupes.model.errors import SimulationError
from nupes.sim import builds
from nupes.sim.builds import build_simulator
from nupes.sim.cache import locked
from nupes.sim.launchers import find_launcher
from tests.sim.conftest import needs_icarus
from tests.sim.stub import SMALL, stub


def build(simulator: str = "verilator", verilog: str = stub(SMALL), **options: object) -> Path:
    """Build a simulator of the stub."""
    return build_simulator(find_launcher(simulator), SMALL, verilog, **options)  # type: ignore


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache."""
    path = tmp_path / "cache"
    monkeypatch.setenv("NUPES_CACHE", str(path))
    return path


def test_a_build_is_kept() -> None:
    lines: list[str] = []
    first = build()
    assert build(progress=lines.append) == first
    assert not lines
    assert (first / "build.log").is_file()
    assert not list(first.parent.glob(f"{first.name}.*"))


def test_another_content_is_another_build() -> None:
    assert build() != build(memory_words=1 << 19)


@needs_icarus
def test_builders_at_once(cache: Path) -> None:
    lines: list[str] = []
    results: list[Path] = []

    def work() -> None:
        results.append(build("icarus", progress=lines.append))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert list(cache.iterdir()) == [results[0]]
    assert sum(line.startswith("building") for line in lines) == 1


@needs_icarus
def test_verilog_that_does_not_build(cache: Path) -> None:
    with pytest.raises(SimulationError, match=r"icarus failed to build .*(?s:.*)syntax error"):
        build("icarus", "module nupes_accelerator(; endmodule", progress=print)
    assert {path.suffix for path in cache.iterdir()} == {".log"}


def damage(entry: Path, product: str, how: str) -> None:
    """Damage a build."""
    path = entry / product
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "not executable":
        path.chmod(0o644)
    else:
        (entry / "accelerator.v").write_text("module nupes_acc")


@needs_icarus
@pytest.mark.parametrize("how", ["gone", "empty", "not executable", "truncated Verilog"])
def test_a_damaged_build_is_made_again(cache: Path, how: str) -> None:
    first = build("icarus")
    damage(first, "sim.vvp", how)
    lines: list[str] = []
    assert build("icarus", progress=lines.append) == first
    assert len(lines) == 1
    assert build("icarus", progress=lines.append) == first
    assert len(lines) == 1
    assert list(cache.iterdir()) == [first]


@pytest.mark.slow
def test_a_damaged_library_of_verilator_is_made_again(cache: Path) -> None:
    build()
    (runtime,) = cache.glob("runtime-*")
    for path in runtime.glob("*.o"):
        path.write_bytes(path.read_bytes()[:100])
    assert build(memory_words=1 << 19).is_dir()
    assert all(path.stat().st_size > 100 for path in runtime.glob("*.o"))
    assert sorted(path.suffix for path in cache.iterdir()) == ["", "", ""]


KILLED = """
from tests.sim.test_builds import build
build("icarus", progress=print)
"""


@needs_icarus
def test_a_builder_that_is_killed(cache: Path) -> None:
    """What it leaves is removed by the next build, of whatever content."""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", KILLED], cwd=root) as process:
        while not list(cache.glob("*.building")) and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    other = stub(SMALL) + "// another one"
    (cache / "abandoned.building").mkdir()
    built = build("icarus", other)
    assert not list(cache.glob("*.building"))
    assert built in cache.iterdir()
    assert build("icarus").is_dir()
    assert all(path.is_dir() for path in cache.iterdir())


@needs_icarus
def test_a_build_in_progress_is_left_alone(cache: Path) -> None:
    work = cache / "other.building"
    work.mkdir(parents=True)
    with locked(cache / "other.lock", lambda: None):
        build("icarus")
        assert work.is_dir()


@needs_icarus
def test_a_full_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the folder and the way out, and nothing left."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("process g++ terminated with error 1")

    launcher = find_launcher("icarus")
    monkeypatch.setattr(launcher, "build", fail)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(builds.shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(SimulationError) as error:
        build_simulator(launcher, SMALL, stub(SMALL))
    assert str(error.value) == (
        f"the cache directory {cache} must be writable, not fail with: No space left on device; "
        "make room or set NUPES_CACHE to another directory"
    )
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "Full")))
    with pytest.raises(SimulationError, match="must be writable, not fail with: Full; make room"):
        build_simulator(find_launcher("icarus"), SMALL, stub(SMALL))
    assert list(cache.iterdir()) == []
