"""What the result of a module depends on: its source, and that of everything it imports."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["find_sources", "hash_sources"]

PACKAGE = __name__.partition(".")[0]
ROOT = Path(__file__).parents[1]
"""Where the modules of this package are, stages under their links."""


def find_sources(name: str) -> dict[str, Path]:
    """Return the file of a module of this package and of every one that it imports, at any depth,
    by name.

    Imports inside functions count; those for type checkers do not. Packages on the way count.
    """
    found: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        module = waiting.pop()
        path = file_of(module)
        if path is not None and module not in found:
            found[module] = path
            waiting += [module.rpartition(".")[0], *imports(path.read_bytes())]
    return found


def hash_sources(name: str) -> str:
    """Return a hash of ``find_sources``, as the files are on disk."""
    state = hashlib.sha256()
    for module, path in sorted(find_sources(name).items()):
        state.update(f"{module} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def file_of(module: str) -> Path | None:
    """Return the file of a module or package of ``nupes``; None for others and for other names."""
    package, *parts = module.split(".")
    path = ROOT.joinpath(*parts)
    if package != PACKAGE:
        return None
    files = path / "__init__.py", path.with_suffix(".py")
    return next((file for file in files if file.is_file()), None)


@cache
def imports(source: bytes) -> tuple[str, ...]:
    """Return what a file imports, by absolute names; of ``from a import b`` both a and a.b."""
    return tuple(dict.fromkeys(imported(source)))


def imported(source: bytes) -> Iterator[str]:
    """Yield what a file imports, as often as it does."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += (
            child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)
        )
