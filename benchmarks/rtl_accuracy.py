"""A thousand images through the simulated hardware, every output integer compared with the model.

    python -m benchmarks.rtl_accuracy --data DIR [--network resnet8] [--images 1000] [--workers 2]

Each worker keeps a simulator of its own. Results are appended to a file as they come; running the
command again goes on where it stopped. The exit status is 1 if any integer or any cycle differs.
"""

import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

import nupes
from benchmarks.pretrained import load_pretrained
from nupes.inputs import parse_array

CALIBRATION = 256
JOB = 10
"""Images of one job: few, so that the bar moves; enough to hide the start of a simulator."""


def simulate(artifact: Path, array: str, images: np.ndarray, first: int) -> list[dict]:
    """Return, for each image, whether its outputs equal the model's, its class and its cycles."""
    network = nupes.load(artifact)
    program = nupes.compile(network, parse_array(array))
    expected = network.run(network.encode(images))
    with nupes.Simulator(program.array) as hw:
        result = hw.run(program, images)
    return [
        {
            "image": first + index,
            "mismatches": int((result.y[index] != expected[index]).sum()),
            "class": int(result.y[index].reshape(-1).argmax()),
            "cycles": result.cycles[index],
            "unexpected_cycles": result.cycles[index] - program.cycles,
        }
        for index in range(len(images))
    ]


def prepare(path: Path, module: nn.Module, calibration: np.ndarray, scheme: str) -> None:
    """Quantize the network once, without learning; later runs reuse the artifact."""
    if not path.is_file():
        print(f"quantizing to {scheme} with {CALIBRATION} images (once)")
        images = calibration[:CALIBRATION]
        nupes.quantize(module, scheme, calibration=images, method="search").save(path)


def read_log(path: Path) -> dict[int, dict]:
    """Return the images that an earlier run has finished."""
    if not path.is_file():
        return {}
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    return {item["image"]: item for item in map(json.loads, lines)}


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")],
    network: Annotated[str, typer.Option(help="resnet8, resnet20 or dscnn.")] = "resnet8",
    scheme: Annotated[str, typer.Option(help="Bits of weights and activations.")] = "W4A4",
    array: Annotated[str, typer.Option(help="Rows x columns.")] = "16x16",
    images: Annotated[int, typer.Option(help="How many test images.")] = 1000,
    workers: Annotated[int, typer.Option(help="Simulators at a time.")] = 2,
    out: Annotated[Path, typer.Option(help="Directory for artifact and log.")] = Path("out"),
) -> None:
    """Run test images through the simulated hardware and compare every integer."""
    trained = load_pretrained(network, data)
    out.mkdir(parents=True, exist_ok=True)
    artifact = out / f"{network}-{scheme}.safetensors"
    log = out / f"{network}-{scheme}-{array}.jsonl"
    prepare(artifact, trained.module, trained.calibration, scheme)
    count = min(images, len(trained.images))
    done = {image: item for image, item in read_log(log).items() if image < count}
    left = [first for first in range(0, count, JOB) if not all(
        image in done for image in range(first, min(first + JOB, count))
    )]  # fmt: skip
    todo = sum(min(first + JOB, count) - first for first in left)
    started, fresh = time.monotonic(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeRemainingColumn()) as progress,
        ProcessPoolExecutor(workers) as pool,
        log.open("a") as stream,
    ):
        bar = progress.add_task("images", total=count, completed=count - todo)
        jobs = [
            pool.submit(
                simulate, artifact, array, trained.images[first : min(first + JOB, count)], first
            )
            for first in left
        ]
        for job in as_completed(jobs):
            for item in job.result():
                done[item["image"]] = item
                stream.write(json.dumps(item) + "\n")
                fresh += item["cycles"]
                progress.advance(bar)
            stream.flush()
    seconds = time.monotonic() - started
    items = [done[image] for image in range(count)]
    classes = np.array([item["class"] for item in items])
    mismatches = sum(item["mismatches"] for item in items)
    unexpected = sum(item["unexpected_cycles"] != 0 for item in items)
    print(f"{network} {scheme} on {array}: {count} images")
    print(f"accuracy on RTL    {(classes == trained.labels[:count]).mean():.1%}")
    print(f"mismatches         {mismatches} output integers, {unexpected} images with other cycles")
    if left:
        print(
            f"speed of this run  {fresh / seconds:,.0f} cycles/s, {todo / seconds:.2f} images/s, "
            f"{workers} simulators"
        )
    raise typer.Exit(int(mismatches > 0 or unexpected > 0))


if __name__ == "__main__":
    typer.run(main)
