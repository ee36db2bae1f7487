"""Files that are complete or not there."""

import os
from pathlib import Path

import pytest

from nupes.model import files
from nupes.model.errors import ArtifactError
from nupes.model.files import write_atomically


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
