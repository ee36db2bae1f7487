"""Files that are complete or not there: written under a temporary name, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nupes.model.errors import ArtifactError

__all__ = ["complete_file", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write ``data`` to ``path`` in one step; raise ``ArtifactError`` and leave nothing behind if
    that fails."""
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent or ".")
    except OSError as error:
        raise ArtifactError(f"output path {target} must be writable: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ArtifactError(
                f"output path {target} must be writable: {error.strerror}"
            ) from error
        raise
    return target


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path``, with its suffix, for another program to write to; it becomes
    ``path`` at the end.

    An interrupt removes it. An error keeps it: what was recorded until then shows why.
    """
    partial = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield partial
    except Exception:
        if partial.exists():
            os.replace(partial, path)
        raise
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if partial.exists():
        os.replace(partial, path)
