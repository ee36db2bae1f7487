"""Time and memory of the tools, against what they may take.

    python -m benchmarks.limits [--out DIR] [--only VGG]

Every case is a process of its own, its imports and the making of its network counted; seconds are
those of one core, as two cores and other work change the wall clock. Needs torchvision (extra
``coverage``).
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.table import Table
from torch import nn

import nupes
from benchmarks.zoo import build, make
from nupes.commands.check import fit
from nupes.commands.sweep import DEPTHS, SIZES, parse_sizes
from nupes.console import print_table
from nupes.examples.pretrained.resnet20 import ResNet20
from nupes.explore.sweeps import grid, sweep
from nupes.quantizer.frontend.inspection import inspect_module

ARRAY = nupes.ArrayConfig(16, 16, act_depth=1 << 20, products=True)
SHAPE = (3, 224, 224)


@dataclass(frozen=True)
class Case:
    """What a process does, what has to be in the directory first, and the most that it may take."""

    run: Callable[[Path], None]
    prepare: Callable[[Path], None] | None = None
    seconds: float | None = None
    gib: float | None = None


def check(name: str) -> None:
    """Do what ``nupes check`` does, which says of some networks that its array is too small."""
    found = inspect_module(make(name).eval(), SHAPE)
    if found.problems:
        raise SystemExit(f"{name} is refused: {found.problems[0]}")
    fit(found, "W4A4", nupes.ArrayConfig())


def save(out: Path, name: str) -> None:
    """Save a network of torchvision as an integer network, unless it is there."""
    path = out / f"{name}.safetensors"
    if not path.is_file():
        images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
        module = build(f"torchvision/{name}", 0)
        nupes.quantize(module, "W4A4", images, method="rtn").save(path)


def compiles(name: str, seconds: float | None = None) -> Case:
    """Return the case that compiles such a network."""
    return Case(lambda out: compile_saved(out, name), lambda out: save(out, name), seconds, gib=1)


def compile_saved(out: Path, name: str) -> None:
    """Compile it; print the seconds of that alone."""
    network = nupes.load(out / f"{name}.safetensors")
    started = time.process_time()
    program = nupes.compile(network, ARRAY)
    print(f"{program}: nupes.compile alone {time.process_time() - started:.1f} s of a core")


def save_resnet20(out: Path) -> None:
    """Save ResNet-20 with random weights as an integer network, unless it is there."""
    path = out / "resnet20.safetensors"
    if not path.is_file():
        torch.manual_seed(0)
        images = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
        nupes.quantize(ResNet20().eval(), "W4A4", images, method="rtn").save(path)


def sweep_resnet20(out: Path) -> None:
    """Sweep the arrays of ``nupes sweep`` in one process."""
    sizes, depths = parse_sizes(SIZES, "sizes"), parse_sizes(DEPTHS, "depths")
    arrays = grid(sizes, sizes, depths, nupes.ArrayConfig())
    points = sweep(nupes.load(out / "resnet20.safetensors"), arrays)
    print(f"{len(points)} arrays, {sum(point.cycles for point in points):,} cycles together")


def vgg11() -> nn.Module:
    """Return VGG-11 for ten classes of 32x32 images, 9.2 million weights."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for filters in stage:
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters)]
            layers.append(nn.ReLU())
            channels = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10)).eval()


def search_vgg11(out: Path) -> None:
    """Quantize VGG-11 by search with 64 images."""
    images = np.random.default_rng(0).normal(size=(64, 3, 32, 32)).astype(np.float32)
    nupes.quantize(vgg11(), "W4A4", images, method="search").save(out / "vgg11.safetensors")


CASES = {
    "check, ResNet-152": Case(lambda out: check("torchvision/resnet152"), seconds=10, gib=4),
    "check, EfficientNet-B0": Case(lambda out: check("torchvision/efficientnet_b0"), seconds=10),
    "compile, EfficientNet-B0": compiles("efficientnet_b0"),
    "compile, ResNet-50": compiles("resnet50", seconds=10),
    "compile, MobileNetV2": compiles("mobilenet_v2"),
    "sweep, 124 arrays of ResNet-20": Case(sweep_resnet20, save_resnet20, seconds=10),
    "search, VGG-11 with 64 images": Case(search_vgg11, seconds=240),
}


def measure(name: str, out: Path) -> tuple[float, float]:
    """Return the seconds of a core and the GiB of memory of a case in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.limits", "--out", str(out), "--case", name]
    _, status, used = os.wait4(os.spawnv(os.P_NOWAIT, sys.executable, command), 0)
    if status:
        raise SystemExit(f"{name} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / (1 << 20)


def main(
    only: Annotated[str, typer.Option(help="Cases whose name has this in it.")] = "",
    out: Annotated[Path, typer.Option(help="Directory for artifacts.")] = Path("out"),
    case: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print seconds and memory of the tools."""
    if case is not None:
        CASES[case].run(out)
        return
    out.mkdir(parents=True, exist_ok=True)
    table = Table("case", box=None, pad_edge=False)
    for column in ("seconds of a core", "at most", "GiB", "at most"):
        table.add_column(column, justify="right")
    for name, limits in CASES.items():
        if only in name:
            if limits.prepare is not None:
                limits.prepare(out)
            seconds, gib = measure(name, out)
            table.add_row(
                name, f"{seconds:.1f}", f"{limits.seconds or ''}", f"{gib:.2f}",
                f"{limits.gib or ''}",
            )  # fmt: skip
    print_table(table)


if __name__ == "__main__":
    typer.run(main)
