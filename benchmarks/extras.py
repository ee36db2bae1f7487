"""Modules that only an extra brings."""

from importlib import import_module
from typing import Any

__all__ = ["bring"]


def bring(name: str, extra: str) -> Any:
    """Return a module; say which extra brings it where it is missing, and end."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{error.name} is missing: pip install 'nupes[{extra}]' brings it"
        ) from None
