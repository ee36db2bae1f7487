"""Files that are complete or not there: written under a temporary name, then renamed.

A path may lead through symbolic links: what they lead to is written, and the links stay. What is no
regular file (a device, a pipe) cannot be renamed over: it is written to, as any tool does.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nupes.model.errors import ArtifactError

__all__ = ["check_output", "complete_file", "write_atomically"]


def find_target(path: Path) -> tuple[Path, bool]:
    """Return what the links of ``path`` lead to, and whether it is to be replaced: a regular file,
    or one that is not there yet.

    A link of /proc to an open file (/dev/stdout) leads to no name and is written to. Raise
    ``OSError`` for a circle of links.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        found = None
    while path.is_symlink():
        if path.parent.resolve().is_relative_to("/proc"):
            return path, False
        path = path.parent / path.readlink()
    return path, found is None or stat.S_ISREG(found.st_mode)


def temporary_beside(path: Path) -> Path:
    """Return a name for a temporary file in the folder of ``path`` and with its suffix."""
    return path.with_name(f".nupes-{secrets.token_hex(8)}{path.suffix[:16]}")


def create(path: Path) -> int:
    """Create a file with the permissions of any new file; return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def refusal(path: object, error: OSError) -> ArtifactError:
    """Return the error of a path that cannot be written."""
    return ArtifactError(f"output path {path} must be writable: {error.strerror}")


def check_output(path: Path) -> None:
    """Raise ``ArtifactError`` now if ``path`` could not be written at the end of the work."""
    try:
        if path.is_dir():
            raise ArtifactError(f"output path {path} must be a file, not a directory")
        target, replaced = find_target(path)
        if replaced:
            temporary = temporary_beside(target)
            os.close(create(temporary))
            temporary.unlink()
        elif not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise refusal(path, error) from error


def write_atomically(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write ``data`` to ``path`` in one step; return the path.

    Raise ``ArtifactError`` and leave nothing behind if that fails. To a device or a pipe it is
    written as any tool would.
    """
    try:
        target, replaced = find_target(Path(path))
        if replaced:
            replace_file(target, data)
        else:
            with target.open("wb", buffering=0) as stream:
                write_all(stream.fileno(), data)
    except OSError as error:
        raise refusal(path, error) from error
    return Path(path)


def replace_file(target: Path, data: bytes) -> None:
    """Write a file beside ``target`` and rename it to ``target``, or leave nothing."""
    temporary = temporary_beside(target)
    handle = create(temporary)
    try:
        try:
            write_all(handle, data)
        finally:
            os.close(handle)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_all(handle: int, data: bytes) -> None:
    """Write everything to a descriptor."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path``, with its suffix, for another program to write to; it becomes
    ``path`` at the end.

    An interrupt removes it. An error keeps it: what was recorded until then shows why. A device or
    a pipe is yielded itself.
    """
    target, replaced = find_target(path)
    if not replaced:
        yield target
        return
    partial = temporary_beside(target)
    try:
        yield partial
    except Exception:
        if partial.exists():
            os.replace(partial, target)
        raise
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if partial.exists():
        os.replace(partial, target)
