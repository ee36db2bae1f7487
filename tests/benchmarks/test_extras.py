"""Every benchmark can be asked for its help without an extra: what needs one is imported late."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = ("accelerate", "brevitas", "scalesim", "timm", "tokenizers", "torchvision")
"""What only the extras ``benchmarks`` and ``coverage`` bring."""

COMMANDS = [
    f"benchmarks.{path.stem}"
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8")
]

SCRIPT = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({EXTRAS}))
for name in {COMMANDS}:
    importlib.import_module(name)
"""


def test_benchmarks_are_imported_without_extras() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
