"""Files that are complete or not there: written under a temporary name, then renamed."""

import os
import tempfile
from pathlib import Path

from nupes.model.errors import ArtifactError

__all__ = ["write_atomically"]


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
