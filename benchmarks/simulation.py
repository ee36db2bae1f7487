"""Cycles per second of the simulation under cocotb beside the same Verilated bench in a bare loop.

    python -m benchmarks.simulation --data DIR [--network resnet8] [--array 16x16] [--rounds 10]

The bare loop (``bare.cpp``) is built from the same Verilog with the same flags, but without cocotb,
Python and VPI. Both run the same program on the same image, in turns; a job of the simulator counts
whole, with the files that Python writes and reads.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

import nupes
from benchmarks.pretrained import load_pretrained
from nupes.inputs import parse_array
from nupes.sim.builds import LEAST_MEMORY, report_to_stderr
from nupes.sim.files import image_text, patch_text, port_words, read_report
from nupes.sim.launchers import TESTBENCH, TOP, VERILATOR_FLAGS
from nupes.sim.tools import tool_environment, verilator_program
from nupes.sim.verilog import generate

CALIBRATION = 64


def build_bare(array: nupes.ArrayConfig, verilog: str, folder: Path) -> Path:
    """Return the program of the bare loop for an array."""
    source = folder / "accelerator.v"
    source.write_text(verilog)
    parameters = {"PORT_BITS": array.port_bits, "COLS": array.cols, "MEMORY_WORDS": LEAST_MEMORY}
    command = [verilator_program(), "--cc", "--exe", "--build", *VERILATOR_FLAGS]
    command += [f"-G{name}={value}" for name, value in parameters.items()]
    command += ["--top-module", TOP, "--prefix", "Vbare", "-Mdir", str(folder / "build")]
    command += ["-o", "bare", str(source), str(TESTBENCH)]
    command += [str(Path(__file__).with_name("bare.cpp").absolute())]
    print(f"building the bare loop of the {array} array")
    built = subprocess.run(
        command, env=tool_environment(), cwd=folder, capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise nupes.SimulationError(f"the bare loop did not build:\n{built.stderr[-2000:]}")
    return folder / "build" / "bare"


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_job(folder: Path, program: nupes.Program, codes: np.ndarray, load: bool) -> None:
    """Write the files of one job: the image (once) and the input, as ``Simulator`` does."""
    bits = program.array.port_bits
    image = port_words(program.image, bits)
    if load:
        (folder / "program.hex").write_bytes(image_text(image, bits))
    addresses, words = program.input_patches(codes)
    (folder / "patch.hex").write_bytes(patch_text(addresses, port_words(words, bits), bits))
    job = [int(load), 1, len(image), program.latency, 1, 0, 0, 0, 0, 1 << 30]
    job += [0] * (16 - len(job))
    (folder / "job.hex").write_text("\n".join(f"{value:x}" for value in job) + "\n")


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")],
    network: Annotated[str, typer.Option(help="resnet8, resnet20 or dscnn.")] = "resnet8",
    array: Annotated[str, typer.Option(help="Rows x columns.")] = "16x16",
    rounds: Annotated[int, typer.Option(help="Images that each of them runs.")] = 10,
) -> None:
    """Compare the speed of the simulator with that of a bare loop."""
    trained = load_pretrained(network, data)
    calibration = trained.calibration[:CALIBRATION]
    integer = nupes.quantize(trained.module, "W4A4", calibration=calibration, method="rtn")
    config = parse_array(array)
    program = nupes.compile(integer, config)
    codes = integer.encode(trained.images[:1])[0]
    verilog = generate(config, report_to_stderr)
    ours, theirs, used = [], [], np.zeros(2)
    with (
        tempfile.TemporaryDirectory() as directory,
        nupes.Simulator(config, verilog=verilog) as hw,
    ):
        folder = Path(directory)
        bare = build_bare(config, verilog, folder)
        with subprocess.Popen(
            [bare], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            hw.prepare(program)
            assert hw._running is not None
            simulators = (hw._running[0].process.pid, process.pid)
            for index in range(rounds + 1):
                before = np.array([processor_seconds(item) for item in simulators])
                started = time.perf_counter()
                result = hw.execute(program.image, program.input_patches(codes))
                seconds = time.perf_counter() - started
                write_job(folder, program, codes, load=index == 0)
                print(file=process.stdin, flush=True)
                other = float(process.stdout.readline())
                report = read_report(folder, config.cols)
                if (report.outputs != result.outputs).any() or report.cycles != result.cycles:
                    raise nupes.SimulationError("the bare loop computed something else")
                if index:  # the first job loads the program
                    ours.append(result.cycles / seconds)
                    theirs.append(result.cycles / other)
                    used += [processor_seconds(item) for item in simulators] - before
            process.stdin.close()
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{network} on {array}: {program.cycles:,} cycles an image, {rounds} images each")
    print(f"under cocotb  {median(ours):>10,.0f} cycles/s (best {max(ours):,.0f})")
    print(f"bare loop     {median(theirs):>10,.0f} cycles/s (best {max(theirs):,.0f})")
    print(f"ratio         {ratio:>10.2f} (median of the rounds)")
    print(f"ratio         {used[1] / used[0]:>10.2f} (processor time of the simulators)")


if __name__ == "__main__":
    typer.run(main)
