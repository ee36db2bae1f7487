"""Files that are complete or not there."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nupes.model import files
from nupes.model.errors import ArtifactError
from nupes.model.files import check_output, complete_file, write_atomically


def test_write(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    assert write_atomically(path, b"one") == path
    assert write_atomically(str(path), b"two") == path
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_bytes(b"")
    write_atomically(atomic, b"")
    assert plain.stat().st_mode == atomic.stat().st_mode


def test_a_bare_name_is_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomically("a.bin", b"one")
    assert os.listdir() == ["a.bin"]


def test_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.bin"
    with pytest.raises(ArtifactError) as error:
        write_atomically(path, b"one")
    assert str(error.value) == f"output path {path} must be writable: No such file or directory"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.mkdir()
    with pytest.raises(ArtifactError) as error:
        write_atomically(path, b"one")
    assert str(error.value) == f"output path {path} must be writable: Is a directory"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_as_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match="must be writable: Not a directory"):
        write_atomically(tmp_path / "file" / "a.bin", b"one")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_mid_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(ArtifactError if isinstance(error, OSError) else KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_umask_of_the_process_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "umask", lambda _: pytest.fail("the umask was touched"))
    write_atomically(tmp_path / "a.bin", b"one")


@pytest.mark.parametrize("there", [True, False])
def test_links_stay_and_their_target_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "files").mkdir()
    target = tmp_path / "files" / "a.bin"
    if there:
        target.write_bytes(b"old")
    first, second = tmp_path / "links" / "first", tmp_path / "links" / "second"
    first.symlink_to("../files/a.bin")
    second.symlink_to(first)
    check_output(second)
    assert write_atomically(second, b"new") == second
    assert target.read_bytes() == b"new"
    assert first.is_symlink()
    assert second.is_symlink()
    with complete_file(second) as partial:
        assert partial.parent.resolve() == target.parent.resolve()
        partial.write_bytes(b"newer")
    assert target.read_bytes() == b"newer"
    assert second.is_symlink()
    assert [path.name for path in target.parent.iterdir()] == ["a.bin"]


def test_a_circle_of_links(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.symlink_to("a.bin")
    for refuse in (check_output, lambda path: write_atomically(path, b"one")):
        with pytest.raises(ArtifactError, match="must be writable: Too many levels of symbolic"):
            refuse(path)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """Return a pipe and what a reader at its end gets: one item for each writer."""
    path, found = tmp_path / "pipe.vcd", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    yield path, found
    if reader.is_alive():
        path.write_bytes(b"")  # nobody wrote: let it end
    reader.join()


def test_a_pipe_is_written_to(pipe: tuple[Path, list[bytes]]) -> None:
    path, found = pipe
    check_output(path)
    data = bytes(range(256)) * 1000
    write_atomically(path, data)
    while not found:
        pass
    assert found == [data]
    assert stat.S_ISFIFO(path.stat().st_mode)
    with complete_file(path) as partial:
        assert partial == path
    with pytest.raises(KeyboardInterrupt), complete_file(path):
        raise KeyboardInterrupt
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_stays_one(tmp_path: Path) -> None:
    """A node of our own, like /dev/full."""
    path = tmp_path / "full"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        path.open("wb").close()
    except PermissionError:
        pytest.skip("only root makes devices")
    check_output(path)
    with pytest.raises(ArtifactError) as error:
        write_atomically(path, b"one")
    assert str(error.value) == f"output path {path} must be writable: No space left on device"
    assert stat.S_ISCHR(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


def test_an_open_file_by_its_number_is_written_to(tmp_path: Path) -> None:
    with (tmp_path / "a.bin").open("wb") as stream:
        inode = os.fstat(stream.fileno()).st_ino
        check_output(Path(f"/proc/self/fd/{stream.fileno()}"))
        write_atomically(f"/dev/fd/{stream.fileno()}", b"one")
    assert (tmp_path / "a.bin").read_bytes() == b"one"
    assert (tmp_path / "a.bin").stat().st_ino == inode


def test_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".bin")
    check_output(path)
    write_atomically(path, b"one")
    assert os.listdir(tmp_path) == [path.name]
