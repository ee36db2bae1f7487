"""Names that nothing has yet."""

from collections.abc import Container

__all__ = ["free_name"]


def free_name(name: str, taken: Container[str]) -> str:
    """Return ``name``, with as many underscores behind it as it takes to be none of ``taken``."""
    while name in taken:
        name += "_"
    return name
