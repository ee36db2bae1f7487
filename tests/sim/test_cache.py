"""Entries of the cache: whole or not there."""

import threading
from pathlib import Path

import pytest

from nupes.model.errors import SimulationError
from nupes.sim.cache import (
    cache_directory,
    is_whole,
    keep_text,
    kept_text,
    locked,
    seal,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache."""
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path))
    return tmp_path


def test_directory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(cache / "a b"))
    with pytest.raises(SimulationError, match="must not contain spaces"):
        cache_directory()
    (cache / "file").write_text("")
    monkeypatch.setenv("NUPES_CACHE", str(cache / "file"))
    with pytest.raises(SimulationError) as error:
        cache_directory()
    assert str(error.value) == (
        f"the cache directory {cache / 'file'} must be writable, not fail with: File exists; "
        "make room or set NUPES_CACHE to another directory"
    )


def test_a_text(cache: Path) -> None:
    assert kept_text("a.v") is None
    text = "module ü;\r\nendmodule\n"
    keep_text("a.v", text)
    assert kept_text("a.v") == text
    whole = (cache / "a.v").read_bytes()
    for damaged in (b"", whole[:-1], whole[:70], whole[1:], whole.replace(b"m", b"n"), b"\xff\n"):
        (cache / "a.v").write_bytes(damaged)
        assert kept_text("a.v") is None
    keep_text("a.v", text)
    assert kept_text("a.v") == text
    assert [path.name for path in cache.iterdir()] == ["a.v"]


def test_a_text_that_cannot_be_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nupes.model.files.os.replace", full)
    with pytest.raises(SimulationError) as error:
        keep_text("a.v", "text")
    assert str(error.value) == (
        f"the cache directory {cache} must be writable, not fail with: No space left on device; "
        "make room or set NUPES_CACHE to another directory"
    )
    assert list(cache.iterdir()) == []


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
    assert not is_whole(folder)
    seal(folder)
    assert is_whole(folder)
    for damage in (
        lambda: (folder / "a").write_text("2"),
        lambda: (folder / "a").chmod(0o755),
        lambda: (folder / "c").write_text(""),
        lambda: (folder / "b").unlink(),
        lambda: (folder / "digest").write_bytes(b"\xff"),
    ):
        damage()
        assert not is_whole(folder)
        seal(folder)
        assert is_whole(folder)
    assert not is_whole(tmp_path / "none")


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path: Path) -> None:
    held, most, waits = [0], [0], []

    def work() -> None:
        for _ in range(20):
            with locked(tmp_path / "lock", lambda: waits.append(1)):
                held[0] += 1
                most[0] = max(most[0], held[0])
                held[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert list(tmp_path.iterdir()) == []
