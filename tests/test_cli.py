"""The command line: what each command prints, writes and refuses."""

import json
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

import nupes
from nupes import inputs
from nupes.cli import app, main
from nupes.commands import simulate
from tests.small import ARRAY, small_network

COMMANDS = [item.callback.__name__ for item in app.registered_commands if item.callback]
ARRAY_TEXT = f"{ARRAY},acc_depth={ARRAY.acc_depth}"

MODEL = """
import torch
from torch import nn

WEIGHTS = [1, 2]

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )

def broken():
    raise OSError("no checkpoint here")

def number():
    return 3

def leave():
    raise SystemExit("no GPU here")

class Two(nn.Module):
    def forward(self, x):
        return x, x

class Few(nn.Module):
    def forward(self, x):
        return x[:1]

class Pair(nn.Module):
    def forward(self, x, y):
        return x + y

def empty():
    with torch.device("meta"):
        return build()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of a command: a network, data, a model file."""
    monkeypatch.chdir(tmp_path)
    small_network().save("net.safetensors")
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 15, (6, 1, 4, 4)).astype(np.float32)
    labels = small_network()(images).argmax(axis=1)
    np.savez("data.npz", x=images, y=labels, narrow=images[:, :, :3], words=np.array(["a"] * 6))
    Path("model.py").write_text(MODEL)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail with one line on stderr; return the line without "error: "."""
    before = sorted(Path.cwd().iterdir())
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *_, line = captured.err.splitlines()
    assert "Traceback" not in captured.err
    assert sorted(path for path in Path.cwd().iterdir() if path.name != "__pycache__") == before
    prefix = "error: "
    assert line.startswith(prefix)
    return line[len(prefix) :]


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


def test_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "net.safetensors", "data.npz"]) == 0
    assert capsys.readouterr().out == "integer accuracy 100.00% of 6 images\n"
    assert main(["evaluate", "net.safetensors", "data.npz:x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"images": 6, "integer": 1.0}


def test_evaluate_compares_with_the_float_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "net.safetensors", "data.npz", "--model", "model.py:build"]) == 0
    assert "float accuracy" in capsys.readouterr().out


def test_compile_predicts_cycles(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = nupes.compile(small_network(), ARRAY)
    assert main(["compile", "net.safetensors", "--array", ARRAY_TEXT, "-o", "p.npz"]) == 0
    total = next(line for line in capsys.readouterr().out.splitlines() if "total" in line)
    assert f"{program.cycles:,}" in total
    with np.load("p.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["image"], program.image)
        np.testing.assert_array_equal(saved["input_addresses"], program.holes)
        assert json.loads(str(saved["report"]))["cycles"] == program.cycles
    assert main(["compile", "net.safetensors", "--array", ARRAY_TEXT, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cycles"] == program.cycles == sum(layer["cycles"] for layer in report["layers"])


def test_compile_shows_where_the_cycles_go(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = nupes.compile(small_network(), ARRAY)
    assert main(["compile", "net.safetensors", "--array", ARRAY_TEXT, "--losses"]) == 0
    printed = capsys.readouterr().out
    assert "requant" in printed
    assert printed.count(f"{program.layers[0].tile_bound:,}") >= 1


def test_compile_writes_hex_for_readmemh(folder: Path) -> None:
    assert main(["compile", "net.safetensors", "--array", ARRAY_TEXT, "-o", "p.hex"]) == 0
    start, *words = Path("p.hex").read_text().split()
    assert start == "@0"
    image = nupes.compile(small_network(), ARRAY).image
    assert [int(word, 16) for word in words] == image[:, 0].tolist()


def test_verilog(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verilog", "--array", ARRAY_TEXT, "-o", "a.v"]) == 0
    text = Path("a.v").read_text()
    assert "module nupes_accelerator" in text
    assert f"{text.count(chr(10)):,} lines" in capsys.readouterr().out


def test_simulate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "4"]
    assert main([*words, "--layers"]) == 0
    assert "bit-exact 4/4 images, 2/2 layers" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["exact"] is True
    assert report["measured_cycles"] == [report["predicted_cycles"]] * 4


def test_simulate_records_waves(folder: Path) -> None:
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "1"]
    assert main([*words, "--waves", "run.vcd"]) == 0
    assert Path("run.vcd").read_text().startswith(("$version", "$date"))


@pytest.mark.parametrize(
    ("error", "left"), [(KeyboardInterrupt, False), (nupes.SimulationError, True)]
)
def test_an_interrupt_leaves_no_waves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], left: bool
) -> None:
    def stop(hw: nupes.Simulator, *_: object) -> None:
        raise error("here")

    monkeypatch.setattr("nupes.verify.check_outputs", stop)
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "1"]
    before = set(folder.iterdir())
    assert main([*words, "--waves", "run.vcd"]) in (2, 130)
    assert {path.name for path in set(folder.iterdir()) - before} == (
        {"run.vcd"} if left else set()
    )


def test_a_mismatch_ends_with_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is made to disagree in one threshold of one layer."""
    real = simulate.load

    def load(path: Path) -> nupes.IntegerNetwork:
        network = real(path)
        run = network.run
        object.__setattr__(network, "run", lambda codes: run(codes) + 1)
        return network

    monkeypatch.setattr(simulate, "load", load)
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "2"]
    assert main(words) == 1
    assert "MISMATCH 0/2 images" in capsys.readouterr().out


def test_quantize_from_data_and_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", "model.py:build", "--scheme", "W4A4", "--calibration", "data.npz"]
    assert main([*words, "-o", "new.safetensors"]) == 0
    assert "new.safetensors: 2 layers" in capsys.readouterr().out
    assert nupes.load("new.safetensors").output_shape == (3,)


def test_quantize_without_data_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", "model.py:build", "--input-shape", "1,4,4", "--input-range=-1,15"]
    assert main([*words, "-o", "new.safetensors", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == "new.safetensors"
    assert report["bytes"] == Path("new.safetensors").stat().st_size


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_quantize_an_exported_program(folder: Path) -> None:
    import torch

    module = inputs.load_model("model.py:build")
    assert isinstance(module, torch.nn.Module)
    program = torch.export.export(module.eval(), (torch.zeros(2, 1, 4, 4),))
    torch.export.save(program, "model.pt2")
    assert main(["quantize", "model.pt2", "--calibration", "data.npz", "-o", "a.safetensors"]) == 0
    assert main(["quantize", "model.py:build", "--calibration", "data.npz"]) == 0
    images = inputs.load_array("data.npz")
    a, b = nupes.load("a.safetensors"), nupes.load("net.safetensors")
    np.testing.assert_array_equal(a(images), b(images))
    floats = inputs.run_model(inputs.load_model("model.pt2"), images[:5])
    np.testing.assert_allclose(floats, inputs.run_model(module, images[:5]), rtol=1e-5, atol=1e-5)


def test_demo(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--images", "2", "--array", ARRAY_TEXT, "--scheme", "W3A3", "-o", "out"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "bit-exact 2/2 images" in captured.out
    assert "simulating 2 images on the RTL ..." in captured.err
    report = json.loads(Path("out/report.json").read_text())
    assert report["check"]["exact"] is True
    assert report["check"]["exact_layers"] == len(report["program"]["layers"])
    assert min(report["float_accuracy"], report["integer_accuracy"]) > 0.9
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "digits.npz",
        "net.safetensors",
        "nupes_accelerator.v",
        "report.json",
    ]


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
    + ",".join(str(depth) for depth in range(64, 1024, 16)),
    # A size that is in no cache.
    "synthesizing": f"area --array 2x2,acc_depth={4 + os.getpid() % 4000}",
}
"""Commands that take long, by what they say when they begin to."""


@pytest.mark.slow
@pytest.mark.parametrize("begins", LONG)
@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)]
)
def test_ctrl_c_and_a_kill_leave_nothing(
    folder: Path, begins: str, send: Callable[[int, int], None], number: int
) -> None:
    """A terminal interrupts every process of the command, a kill ends one."""
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
        )
        assert process.stderr is not None
        while not process.stderr.readline().startswith(begins):
            assert process.poll() is None
        time.sleep(0.1)
        send(process.pid, number)
        output, messages = process.communicate(timeout=60)
        assert output == ""
        # The work of that time may have begun other parts.
        assert all(line.startswith(begins) for line in messages.splitlines())
        assert process.returncode == 128 + number
        assert os.listdir(scratch) == []
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["evaluate", "none.safetensors", "data.npz"],
            "artifact none.safetensors must be an existing file",
        ),
        (["evaluate", "data.npz", "data.npz"], "artifact data.npz must be a complete safetensors"),
        (["evaluate", "net.safetensors", "no.npz"], "data no.npz must be an existing .npz file"),
        (
            ["evaluate", "net.safetensors", "model.py"],
            "data model.py must be a complete .npz file",
        ),
        (
            ["evaluate", "net.safetensors", "data.npz:images"],
            "data data.npz must hold the key 'images'; it holds x, y, narrow, words",
        ),
        (
            ["evaluate", "net.safetensors", "data.npz", "--labels", "x"],
            "labels 'x' must be one integer for each of the 6 images, not float32 of shape",
        ),
        (
            ["evaluate", "net.safetensors", "data.npz:narrow"],
            "images must have shape (batch, 1, 4, 4), not (6, 1, 3, 4)",
        ),
        (
            ["evaluate", "net.safetensors", "data.npz:words"],
            "data data.npz, key 'words' must be real numbers, not <U1",
        ),
        (
            ["compile", "net.safetensors", "--array", "16"],
            "array must be ROWSxCOLS, such as \"16x16\", not '16'",
        ),
        (
            ["compile", "net.safetensors", "--array", "6x4"],
            "ArrayConfig.rows and cols must divide one another, not 6x4",
        ),
        (
            ["compile", "net.safetensors", "--array", "4x4,depth=3"],
            "array setting must be one of code_bits,",
        ),
        (
            ["compile", "net.safetensors", "--array", "4x4,code_bits=x"],
            "array setting code_bits must be an integer, not 'x'",
        ),
        (
            ["compile", "net.safetensors", "--array", "4x4,products=yes"],
            "array setting products must be 0 or 1, not 'yes'",
        ),
        (
            ["compile", "net.safetensors", "-o", "p.bin"],
            "program must be saved as .npz or .hex, not 'p.bin'",
        ),
        (
            ["compile", "net.safetensors", "--latency", "0"],
            "latency must be an integer from 1 to 2**24 - 1 cycles, not 0",
        ),
        (
            ["verilog", "-o", "none/a.v"],
            "output path none/a.v must be writable: No such file or directory",
        ),
        (["verilog", "-o", "x" * 300], f"output path {'x' * 300} must be writable: File name too"),
        (["verilog", "-o", "."], "output path . must be a file, not a directory"),
        (
            ["simulate", "net.safetensors", "data.npz:narrow"],
            "images must have shape (batch, 1, 4, 4), not (6, 1, 3, 4)",
        ),
        (
            ["simulate", "net.safetensors", "data.npz", "--images", "0"],
            "images must be at least 1, not 0",
        ),
        (
            ["simulate", "net.safetensors", "data.npz", "--simulator", "modelsim"],
            "simulator must be one of verilator, icarus, not 'modelsim'",
        ),
        (
            ["simulate", "net.safetensors", "data.npz", "--waves", "run.txt"],
            "waves must be a .vcd or .fst file, not 'run.txt'",
        ),
        (["demo", "--images", "0"], "images must be 1 to"),
        (["demo", "--scheme", "W1A4"], "scheme must be WxAy"),
        (
            ["demo", "--simulator", "modelsim"],
            "simulator must be one of verilator, icarus, not 'modelsim'",
        ),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert refused(capsys, *words).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.py"], "model must be FILE.py:CALLABLE or FILE.pt2, not 'model.py'"),
        (["none.py:build"], "model none.py must be an existing file"),
        (["none.pt2"], "model none.pt2 must be an existing file"),
        (["fake.pt2"], "model fake.pt2 must be a file from torch.export.save"),
        (
            ["model.py:load"],
            "model model.py must define 'load'; it defines build, broken, number, ",
        ),
        (["model.py:WEIGHTS"], "model model.py:WEIGHTS must be callable, not list"),
        (["model.py:broken"], "model model.py:broken() raised OSError: no checkpoint here"),
        (["model.py:number"], "model model.py:number() must return a torch.nn.Module, not int"),
        (["model.py:leave"], "model model.py:leave() raised SystemExit: no GPU here"),
        (["model.py:empty"], "parameter '0.weight' must have values, not be on the meta device"),
        (["syntax.py:build"], "model syntax.py raised SyntaxError"),
        (["exits.py:build"], "model exits.py raised SystemExit: 0"),
        (["model.py:build", "--scheme", "W4"], "scheme must"),
        (["model.py:build", "--scheme", "W1A4"], "scheme"),
        (["model.py:build", "--ends", "1"], "ends must"),
        (["model.py:build", "--codebook", "log"], "codebook must"),
        (["model.py:build", "--override", "conv"], "override must be PATTERN=SCHEME"),
        (["model.py:build", "--input-shape", "4,4"], "input shape must be CHANNELS,HEIGHT,WIDTH"),
        (["model.py:build", "--input-range", "3"], "input range must be LOW,HIGH"),
        (["model.py:build", "-o", "none/net.safetensors"], "output path none/net.safetensors must"),
        (["model.py:build", "--calibration", "data.npz:narrow"], ""),
        (["model.py:build"], "calibration must be given"),
    ],
)
def test_bad_input_of_quantize(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    Path("fake.pt2").write_bytes(b"PK")
    Path("syntax.py").write_text("def build(:")
    Path("exits.py").write_text("raise SystemExit(0)")
    if "--calibration" not in words and words != ["model.py:build"]:
        words = [*words, "--calibration", "data.npz"]
    assert refused(capsys, "quantize", *words).startswith(message)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Two", "model must return one result for each of 6 images, not tuple"),
        ("Few", "model must return one result for each of 6 images, not (1, 1, 4, 4)"),
        ("Pair", "model does not take images (6, 1, 4, 4): "),
    ],
)
def test_models_that_cannot_be_compared_with(
    folder: Path, capsys: pytest.CaptureFixture[str], model: str, message: str
) -> None:
    words = ["evaluate", "net.safetensors", "data.npz", "--model", f"model.py:{model}"]
    assert refused(capsys, *words).startswith(message)


@pytest.mark.parametrize(
    "words", [["-v", "compile", "none.safetensors"], ["compile", "none.safetensors", "--verbose"]]
)
def test_verbose_shows_the_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == 2
    assert "Traceback" in capsys.readouterr().err


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
