"""The command line: helps, errors, interrupts."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nupes.cli import app, main
from tests.commands.run import ARRAY_TEXT

COMMANDS = [item.name for item in app.registered_commands if item.name]


def test_help_fits_a_screen() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "nupes", "--help"], capture_output=True, text=True, check=True
    )
    assert result.stdout.count("\n") <= 27
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples" in text
    assert f"nupes {command}" in text.partition("Examples")[2]
    assert "--json" in text


def test_the_shell_completes_commands() -> None:
    words = {"_NUPES_COMPLETE": "complete_bash", "COMP_WORDS": "nupes si", "COMP_CWORD": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "nupes"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **words},
    )
    assert result.stdout.split() == ["simulate"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("nupes ")


def test_an_interrupt_leaves_no_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = sorted(folder.iterdir())
    monkeypatch.setattr("nupes.model.files.os.replace", interrupt)
    assert main(["compile", "net.safetensors", "-o", "p.npz"]) == 130
    assert sorted(folder.iterdir()) == before


LONG = {
    "simulating": "simulate net.safetensors many.npz --images 9999 --waves w.vcd --array "
    + ARRAY_TEXT,
    "compiling": "sweep net.safetensors --jobs 2 --acc-depth "
    + ",".join(str(depth) for depth in range(64, 1024, 4)),
    # A size that is in no cache.
    "synthesizing": f"area --array 2x2,acc_depth={4 + os.getpid() % 4000}",
}
"""Commands that take long, by what they say when they begin to."""


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.05, 2])
@pytest.mark.parametrize("begins", LONG)
@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)]
)
def test_ctrl_c_and_a_kill_leave_nothing(
    folder: Path, begins: str, send: Callable[[int, int], None], number: int, after: float
) -> None:
    """A terminal interrupts every process of the command, a kill ends one; ``after`` seconds."""
    np.savez("many.npz", x=np.zeros((9999, 1, 4, 4)))
    before = set(folder.iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        process = subprocess.Popen(
            [sys.executable, "-m", "nupes", *LONG[begins].split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": scratch},
            start_new_session=True,
            # A shell's background jobs, such as these tests may be, ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        while not process.stderr.readline().startswith(begins):
            assert process.poll() is None
        time.sleep(after)
        send(process.pid, number)
        output, messages = process.communicate(timeout=60)
        assert output == ""
        # The work of that time may have begun other parts.
        assert all(line.startswith(begins) for line in messages.splitlines())
        assert process.returncode == 128 + number
        assert os.listdir(scratch) == []
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    "words", [["-v", "compile", "none.safetensors"], ["compile", "none.safetensors", "--verbose"]]
)
def test_verbose_shows_the_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_error_says_where_it_is_explained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "none.safetensors"]) == 2
    assert capsys.readouterr().err == (
        "error: artifact none.safetensors must be an existing file "
        "(docs/errors.md#artifact-must-be-an-existing-file)\n"
    )


def test_a_defect_is_not_a_mismatch(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nupes.commands.compile.describe", lambda program: 1 / 0)
    assert main(["compile", "net.safetensors", "--json"]) == 3
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "error: ZeroDivisionError: this is a defect of nupes; please report it" in error


def test_a_wrong_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--arrray", "4x4"]) == 2
    assert "No such option" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["verilog", "--array", "2x2"], ["verilog", "-v"]])
def test_a_terminal_of_another_encoding_ends_no_command(folder: Path, command: list[str]) -> None:
    path = "grün-\N{SNOWMAN}.v" if "-v" not in command else "grün/a.v"
    result = subprocess.run(
        [sys.executable, "-m", "nupes", *command, "-o", path],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
    )
    if "-v" in command:
        assert result.returncode == 2
        assert b"output path gr\\xfcn/a.v must be writable" in result.stderr
    else:
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(b"gr\\xfcn-\\u2603.v: 2x2 array, ")
        assert Path(path).is_file()


def test_too_little_memory_is_no_defect(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise MemoryError("Unable to allocate 37.3 GiB")

    monkeypatch.setattr("nupes.commands.compile.load", fail)
    assert main(["compile", "net.safetensors"]) == 2
    assert capsys.readouterr().err == (
        "error: the memory of this machine must hold the work, but cannot: "
        "Unable to allocate 37.3 GiB\n"
    )
