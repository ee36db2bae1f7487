"""``nupes doctor``: its text, its JSON and its exit status."""

import json

import pytest

from nupes.cli import main
from nupes.commands import doctor
from nupes.doctor import Finding

FINE = Finding("make", "ok", "/usr/bin/make", "building")
LOST = Finding("perl", "missing", "not on PATH", "building", "perl", "system")
SPARE = Finding("iverilog", "optional", "not on PATH", "a second simulator", "iverilog", "system")


def test_all_is_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [FINE, SPARE])
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "everything that nupes needs is there" in text
    assert "optional; run: " in text


def test_what_is_missing_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [FINE, LOST])
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "1 missing; run: " in text
    assert text.rstrip().endswith(" perl")
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["fix"].endswith(" perl")
    assert [item["state"] for item in report["findings"]] == ["ok", "missing"]


def test_what_no_command_can_mend(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Finding("cache", "missing", "set NUPES_CACHE", "simulators")
    monkeypatch.setattr(doctor, "examine", lambda: [found])
    assert main(["doctor"]) == 1
    assert "1 missing; what to do is said above" in capsys.readouterr().out
