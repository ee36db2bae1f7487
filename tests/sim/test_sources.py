"""What a result depends on: every import, at any depth, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from nupes.sim import sources
from nupes.sim.sources import find_sources, hash_sources


def test_the_rtl_depends_on_all_that_it_imports() -> None:
    """Every module of the package that a fresh interpreter has after the import is found."""
    script = (
        "import sys, nupes.rtl.top; print(*(m for m in sys.modules if m.split('.')[0] == 'nupes'))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = set(result.stdout.split())
    found = set(find_sources("nupes.rtl.top"))
    assert {"nupes.arch.isa", "nupes.arch.cells", "nupes.model.arithmetic"} <= loaded
    assert loaded <= found
    assert not any(name.startswith(("nupes.sim", "nupes.quantizer")) for name in found)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package in place of nupes: a imports b and c, b imports d in a function."""
    for name, text in {
        "__init__": "",
        "a": "import nupes.b\nfrom nupes import c\nimport os\n",
        "b": "def f():\n    try:\n        from nupes.d.e import x\n    except Exception: pass\n",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nupes.f\n",
        "d/__init__": "",
        "d/e": "import nupes.a\n",
        "f": "",
    }.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    return tmp_path


def test_imports_at_any_depth(package: Path) -> None:
    names = {"nupes", "nupes.a", "nupes.b", "nupes.c", "nupes.d", "nupes.d.e"}
    assert set(find_sources("nupes.a")) == names


def test_a_change_of_any_of_them_is_another_hash(package: Path) -> None:
    seen = {hash_sources("nupes.a")}
    for name in ("__init__", "a", "b", "c", "d/__init__", "d/e"):
        with (package / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        seen.add(hash_sources("nupes.a"))
    assert len(seen) == 7
    (package / "f.py").write_text("# changed")
    assert hash_sources("nupes.a") in seen
