"""The demonstration: handwritten digits through the whole flow, every stage compared with the one
before.

The network and its checkpoint come with the package; the images are scikit-learn's.
"""

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.commands.compile import describe
from nupes.commands.evaluate import accuracy
from nupes.compiler.program import Program, compile
from nupes.console import Reporter
from nupes.inputs import run_model
from nupes.model.artifact.reader import load
from nupes.model.errors import ArtifactError, InputError
from nupes.model.files import check_output, write_atomically
from nupes.verify import Check, check_layers, check_outputs

__all__ = ["Demo", "run_demo"]


@dataclass(frozen=True)
class Demo:
    """What the demonstration found; ``paths`` are the files it wrote, by what they are."""

    scheme: str
    test_images: int
    float_accuracy: float
    integer_accuracy: float
    program: Program
    check: Check
    seconds: float
    paths: dict[str, Path]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "scheme": self.scheme,
            "test_images": self.test_images,
            "float_accuracy": self.float_accuracy,
            "integer_accuracy": self.integer_accuracy,
            "program": describe(self.program),
            "check": self.check.as_dict(),
            "seconds": round(self.seconds, 2),
            "paths": {name: str(path) for name, path in self.paths.items()},
        }


def run_demo(
    images: int, scheme: str, config: ArrayConfig, simulator: str, directory: Path, report: Reporter
) -> Demo:
    """Quantize, compile, generate, simulate and compare; write the results in ``directory``."""
    begun = time.monotonic()
    paths = {
        "network": directory / "net.safetensors",
        "images": directory / "digits.npz",
        "verilog": directory / "nupes_accelerator.v",
        "report": directory / "report.json",
    }
    from nupes.sim.tools import check_tools

    check_tools(simulator)  # Before anything that takes time.
    report("loading PyTorch, the digits and the float network")
    from nupes.quantizer import quantize
    from nupes.quantizer.options.scheme import parse_scheme

    parse_scheme(scheme)
    module, split = load_digits_example()
    test, labels = split["test"]
    if not 1 <= images <= len(test):
        raise InputError(f"images must be 1 to {len(test)}, the test images, not {images}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"directory {directory} must be writable: {error.strerror}") from error
    check_output(paths["network"])
    float_accuracy = accuracy(run_model(module, test), labels)

    report(f"quantizing to {scheme} with {len(split['calibration'][0])} calibration images")
    quantize(
        module,
        scheme,
        split["calibration"][0],
        progress=lambda part, done, total: report.count(done, total, part),
    ).save(paths["network"])
    network = load(paths["network"])  # From here on only what the file holds.
    integer_accuracy = accuracy(network(test), labels)
    program = compile(network, config)

    arrays = io.BytesIO()
    np.savez_compressed(arrays, x=test, y=labels, calibration=split["calibration"][0])
    write_atomically(paths["images"], arrays.getvalue())

    from nupes.sim import Simulator
    from nupes.sim.verilog import generate

    text = generate(config, report)
    write_atomically(paths["verilog"], text.encode())
    with Simulator(config, simulator, verilog=text, progress=report) as hw:
        hw.prepare(program)
        report(f"simulating {images} images on the RTL")
        check = check_outputs(hw, program, test[:images], report.count)
        report(f"comparing what each of {len(program.layers)} layers stores")
        check = check_layers(hw, program, check, test[:images], report.count)
    demo = Demo(
        scheme,
        len(test),
        float_accuracy,
        integer_accuracy,
        program,
        check,
        time.monotonic() - begun,
        paths,
    )
    write_atomically(paths["report"], (json.dumps(demo.as_dict(), indent=2) + "\n").encode())
    return demo


def load_digits_example() -> tuple[Any, dict[str, tuple[Any, Any]]]:
    """Return the trained float network and the images and labels of each part of the split."""
    try:
        from nupes.examples.digits import network as digits
    except ModuleNotFoundError as error:
        raise InputError(
            f'the demo needs {error.name}, which is not installed; run: pip install "nupes[demo]"'
        ) from error
    return digits.load_network(), digits.load_split()
