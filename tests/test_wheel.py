"""The wheel: real files, no links, and everything that its user needs, away from the repository."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.small import ARRAY, small_network

ROOT = Path(__file__).parent.parent
STAGES = ("arch", "quantizer", "model", "compiler", "rtl", "sim", "export")

SCRIPT = """
import json
import sys

import numpy as np
import nupes

network = nupes.load(sys.argv[1])
images = np.random.default_rng(0).uniform(0, 15, (3, 1, 4, 4))
array = nupes.ArrayConfig(**json.loads(sys.argv[2]))
program = nupes.compile(network, array)
with nupes.Simulator(array) as hw:
    result = hw.run(program, images)
np.testing.assert_array_equal(result.outputs, network(images))
assert result.cycles == [program.cycles] * 3
print(nupes.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    # setuptools keeps what it once built in build/: a build of its own knows nothing of old files.
    base = {"build": {"build_base": str(folder / "build")}, "egg_info": {"egg_base": str(folder)}}
    config = folder / "setup.cfg"
    lines = [
        f"[{name}]\n{key}={value}\n" for name, pair in base.items() for key, value in pair.items()
    ]
    config.write_text("".join(lines))
    result = subprocess.run(
        [*command, "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DIST_EXTRA_CONFIG": str(config)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the wheel is installed, apart; its dependencies are this interpreter's."""
    target = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel],
        check=True,
    )
    return target


def python(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the installed wheel first on its path, in a directory of its own."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )


def test_wheel_holds_every_file_and_no_other(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for stage in STAGES:
        expected = {f"nupes/{path.relative_to(ROOT)}" for path in (ROOT / stage).rglob("*.py")}
        assert expected <= names
    assert {
        "nupes/errors.md",
        "nupes/py.typed",
        "nupes/sim/lint.vlt",
        "nupes/sim/main.cpp",
        "nupes/sim/testbench.v",
        "nupes/export/firmware/runtime/main.c",
        "nupes/export/firmware/runtime/nupes.c",
        "nupes/export/firmware/runtime/nupes.h",
        "nupes/examples/digits/digits.safetensors",
    } <= names
    assert all(name.startswith(("nupes/", "nupes-")) for name in names)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("nupes/errors.md") == (ROOT / "docs" / "errors.md").read_bytes()


def test_wheel_runs_a_network_on_rtl_from_another_directory(
    installed: Path, tmp_path: Path
) -> None:
    network = small_network().save(tmp_path / "net.safetensors")
    size = json.dumps({"rows": ARRAY.rows, "cols": ARRAY.cols, "acc_depth": ARRAY.acc_depth})
    result = python(installed, tmp_path, "-c", SCRIPT, str(network), size)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(installed / "nupes" / "__init__.py")


@pytest.mark.slow
def test_wheel_quantizes_its_example(installed: Path, tmp_path: Path) -> None:
    script = (
        "import nupes; from nupes.examples.digits.network import load_network, load_split;"
        "images, labels = load_split()['calibration'];"
        "qnet = nupes.quantize(load_network(), 'W8A8', calibration=images, method='rtn');"
        "print((qnet(images).argmax(axis=1) == labels).mean())"
    )
    result = python(installed, tmp_path, "-c", script)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 0.9


def test_wheel_has_the_command(installed: Path, tmp_path: Path) -> None:
    result = python(installed, tmp_path, "-m", "nupes", "--version")
    assert (result.returncode, result.stdout[:6]) == (0, "nupes "), result.stderr
