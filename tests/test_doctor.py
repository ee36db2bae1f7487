"""What the doctor finds on a machine that lacks something, and the command that it gives."""

import os
import shutil
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nupes import doctor


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory on PATH: it is empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add_program(folder: Path, name: str) -> None:
    """Put a program on the path."""
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


def test_this_machine_has_everything() -> None:
    if any(shutil.which(name) is None for name in doctor.PROGRAMS):
        pytest.skip("this machine lacks what builds a simulation")
    findings = doctor.examine()
    assert [item.name for item in findings if item.state == "missing"] == []
    assert {"python", "torch", "verilator program", "cache directory"} <= {
        item.name for item in findings
    }


def test_missing_programs_are_one_command(bare: Path) -> None:
    findings = doctor.examine()
    missing = {item.name for item in findings if item.state == "missing"}
    assert missing == {*doctor.PROGRAMS, "verilator program"}
    assert doctor.remedy([item for item in findings if item.state == "missing"]).endswith(
        "apt-get install -y g++ make perl"
    )


def test_the_machines_own_package_manager_and_names(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_program(bare, "dnf")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert doctor.remedy([doctor.find_program("g++", "")]) == "sudo dnf install -y gcc-c++"


def test_packages_that_are_missing_or_old() -> None:
    absent = doctor.find_package(Requirement("nupes-of-nowhere>=1"), "nothing")
    old = doctor.find_package(Requirement("numpy>=9999"), "arrays")
    extra = doctor.find_package(Requirement("nupes-of-nowhere"), "charts", "report")
    assert (absent.state, absent.found) == ("missing", "not installed")
    assert old.state == "missing"
    assert old.found.endswith("; >=9999 is needed")
    assert (extra.state, extra.package) == ("optional", "nupes[report]")
    command = doctor.remedy([absent, old, extra])
    assert command.endswith('-m pip install "numpy>=9999" "nupes-of-nowhere>=1" "nupes[report]"')


def test_every_dependency_is_looked_at() -> None:
    names = {item.name for item in doctor.find_packages()}
    assert set(doctor.PURPOSES) <= names
    assert "pytest" not in names
    assert {item.name for item in doctor.find_packages("demo")} == {"scikit-learn"}


def test_a_verilator_that_does_not_start(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_program(bare, "perl")
    (bare / "verilator").write_text("#!/bin/sh\necho wrong machine >&2\nexit 1\n")
    (bare / "verilator").chmod(0o755)
    monkeypatch.setattr("nupes.sim.tools.verilator_program", lambda: str(bare / "verilator"))
    finding = doctor.find_verilator()
    assert (finding.state, finding.found) == ("missing", "it does not start: wrong machine")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path / "file" / "cache"))
    finding = doctor.find_cache()
    assert finding.state == "missing"
    assert finding.found.endswith("cannot be written; set NUPES_CACHE to another directory")
    assert doctor.remedy([finding]) == ""
