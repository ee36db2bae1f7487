"""The public names, and what importing them costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nupes
from nupes.compiler.program import Program
from nupes.model.network import IntegerNetwork
from tests.small import small_network

HEAVY = ("torch", "amaranth", "cocotb", "typer", "sklearn")

SCRIPT = """
import sys
import numpy as np
import nupes

network = nupes.load(sys.argv[1])
result = network(np.zeros((2, 1, 4, 4)))
program = nupes.compile(network, nupes.ArrayConfig(4, 4))
assert program.cycles > 0 and result.shape[0] == 2
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


@pytest.mark.parametrize("name", nupes.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(nupes, name).__name__ == name
    assert name in dir(nupes)


def test_names_are_the_stages_own() -> None:
    assert nupes.IntegerNetwork is IntegerNetwork
    assert nupes.Program is Program
    assert issubclass(nupes.InputError, nupes.NupesError)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nupes' has no attribute 'quantise'"):
        _ = nupes.quantise


def test_load_run_and_compile_import_nothing_heavy(tmp_path: Path) -> None:
    path = small_network().save(tmp_path / "net.safetensors")
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), *HEAVY],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_saved_network_computes_the_same(tmp_path: Path) -> None:
    network = small_network()
    loaded = nupes.load(network.save(tmp_path / "net.safetensors"))
    images = np.random.default_rng(1).uniform(0, 15, (5, 1, 4, 4))
    np.testing.assert_array_equal(loaded(images), network(images))
