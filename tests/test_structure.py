"""The architecture: what imports what, and how large and how named modules are."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("arch", "compiler", "export", "model", "nupes", "quantizer", "rtl", "sim")
MOST_LINES = 400


def read_table() -> dict[str, set[str]]:
    """Return which stages each stage may import, by the table of the guide."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", guide, re.MULTILINE)
    return {stage: set(re.findall(r"`(\w+)`", needs)) for stage, needs in rows}


MAY_IMPORT = read_table()


def sources(*folders: str) -> list[Path]:
    """Return every Python file of some folders, once: links are not followed."""
    return sorted(path for folder in folders for path in walk(ROOT / folder))


def walk(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a folder without those behind links."""
    for path in folder.iterdir():
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from walk(path)
        elif path.suffix == ".py":
            yield path


def module_of(path: Path) -> str:
    """Return the name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "nupes" else ("nupes", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sources(*PACKAGES)}


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(node: ast.AST, inside: bool) -> Iterator[ast.stmt]:
    """Yield the statements that run: not those for type checkers, and those of functions only if
    ``inside``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.stmt):
            yield child
        if inside or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.expr):
            yield from statements(child, inside)


def imports(path: Path, inside: bool) -> set[str]:
    """Return the names that a file imports; ``from a import b`` is a.b, or a if that is a value of
    it."""
    found = set()
    for node in statements(tree_of(path), inside):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found


def stage_of(module: str) -> str:
    """Return the folder of a module of the package: that of a stage, or ``nupes``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "nupes"


def defined(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module gives to functions and values of its own."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_no_module_shares_its_name_with_what_it_defines() -> None:
    """``import a.b.c`` and ``from a.b import c`` would be two things."""
    shared = [
        module
        for module, path in MODULES.items()
        if module.rpartition(".")[2] in defined(tree_of(path))
    ]
    assert shared == []


def test_no_file_is_long() -> None:
    files = sources(*PACKAGES, "benchmarks", "examples", "proofs", "tests")
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_circle_of_imports() -> None:
    """Modules can be imported in an order, each after all that it needs when it is imported."""
    graph = {module: imports(path, inside=False) & set(MODULES) for module, path in MODULES.items()}
    sorter = TopologicalSorter({module: needs - {module} for module, needs in graph.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_every_package_says_what_it_does() -> None:
    silent = [
        module
        for module, path in MODULES.items()
        if path.name == "__init__.py" and not ast.get_docstring(tree_of(path))
    ]
    assert silent == []


def test_stages_import_only_what_stands_before_them() -> None:
    wrong = [
        (module, needed)
        for module, path in MODULES.items()
        for needed in sorted(imports(path, inside=True))
        if needed.split(".")[0] == "nupes"
        and stage_of(needed) != (own := stage_of(module))
        and stage_of(needed) not in MAY_IMPORT[own]
    ]
    assert wrong == []


def test_the_table_has_every_stage() -> None:
    assert sorted(MAY_IMPORT) == sorted(PACKAGES)
