"""The cache: what took long to make, kept by its content for every process of this user.

An entry is a text or a folder under a digest of its own: a damaged one is as good as none.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from nupes.model.errors import ArtifactError, SimulationError
from nupes.model.files import write_atomically

__all__ = [
    "cache_directory",
    "cache_writes",
    "is_whole",
    "keep_text",
    "kept_text",
    "key_of",
    "locked",
    "seal",
]

DIGEST = "digest"
"""The file of an entry with the digest of all its others."""


def cache_directory() -> Path:
    """Return the directory of the cache: ``NUPES_CACHE``, or the user's cache directory."""
    chosen = os.environ.get("NUPES_CACHE")
    path = Path(chosen) if chosen else Path(platformdirs.user_cache_dir("nupes"))
    path = path.expanduser().absolute()
    if any(character.isspace() for character in str(path)):
        raise SimulationError(
            f"the cache directory must not contain spaces (make), not {str(path)!r}; "
            "set NUPES_CACHE to another directory"
        )
    with cache_writes(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def cache_writes(root: Path) -> Iterator[None]:
    """Turn what the system says about the cache ``root`` into one ``SimulationError``."""
    try:
        yield
    except (OSError, ArtifactError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) else error
        raise SimulationError(
            f"the cache directory {root} must be writable, not fail with: {reason}; "
            "make room or set NUPES_CACHE to another directory"
        ) from error


def key_of(content: object) -> str:
    """Return the key of what ``repr`` says of a content."""
    return hashlib.sha256(repr(content).encode()).hexdigest()[:24]


def kept_text(name: str) -> str | None:
    """Return a text of the cache, None if it is not there or damaged."""
    try:
        head, _, text = (cache_directory() / name).read_bytes().partition(b"\n")
    except OSError:
        return None
    return text.decode() if head.decode(errors="replace") == digest_of(text) else None


def keep_text(name: str, text: str) -> None:
    """Keep a text in the cache; raise ``SimulationError`` if it cannot be written."""
    root, data = cache_directory(), text.encode()
    with cache_writes(root):
        write_atomically(root / name, digest_of(data).encode() + b"\n" + data)


def digest_of(data: bytes) -> str:
    """Return the digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def describe(folder: Path) -> str:
    """Return the permissions, digest and name of every file of an entry but its own digest."""
    return "".join(
        f"{path.stat().st_mode:o} {digest_of(path.read_bytes())} {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != DIGEST
    )


def seal(folder: Path) -> None:
    """Write the digest of a finished entry."""
    (folder / DIGEST).write_text(describe(folder))


def is_whole(folder: Path) -> bool:
    """Return whether an entry is there, as it was when it was sealed."""
    try:
        return (folder / DIGEST).read_text() == describe(folder)
    except (OSError, UnicodeDecodeError):
        return False


def is_file(path: Path, handle: int) -> bool:
    """Return whether a path still names an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file that is there for as long; others call ``wait``, then wait.

    The lock of a dead process is free.
    """
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who had the lock has removed its file: another one may be the lock by now.
            if not is_file(path, file.fileno()):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
