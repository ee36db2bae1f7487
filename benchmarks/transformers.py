"""Transformers in integers: how near to float, how many cycles, and whether the RTL agrees.

    python -m benchmarks.transformers --data DIR [--schemes W8A8,W4A4] [--methods rtn,search]
    python -m benchmarks.transformers --data DIR --images 1000 --simulate 10
    python -m benchmarks.transformers --data DIR --methods search,repq,repq-adalog    # and others
    python -m benchmarks.transformers --data DIR --override "*.scores*=W8A4"    # keys of 8 bits
    python -m benchmarks.transformers --deit --simulate 1    # DeiT-Tiny's shape, random weights

The directory is that of ``benchmarks/pretrained.py``. The
divergence is the mean one of the classes' distribution from that of the float network. The exit
status is 1 if any integer or any cycle of the RTL differs.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.table import Table

import nupes
from benchmarks.artifacts import Bits, Overrides, Wishes, Without, quantize_once
from benchmarks.distributions import divergence, log_distribution
from benchmarks.hardware import check_on_rtl
from benchmarks.peers.repq import quantize_repq
from benchmarks.pretrained import Pretrained, load_mnist
from nupes.commands.compile import loss_table
from nupes.console import print_table
from nupes.examples.pretrained.vit import DEIT_TINY, Shape, ViT
from nupes.inputs import parse_array, parse_overrides
from nupes.model.operators import Normalize, SubtractMax
from nupes.quantizer.options.scheme import parse_scheme

Infer = Callable[[np.ndarray], np.ndarray]
"""Images (n, c, h, w) to logits (n, classes)."""

Peer = Callable[[ViT, int, int, np.ndarray, int], Infer]

DEIT_CALIBRATION = 4

TOKEN_KINDS = {Normalize.kind, SubtractMax.kind}
"""Norms, and softmax's numerators."""

DEIT_WORDS = 1 << 16
"""Words of activation memory that the larger network needs at least, rounded up."""


PEERS: dict[str, Peer] = {
    "repq": quantize_repq,
    "repq-adalog": partial(quantize_repq, adalog=True),
}
"""Other methods by name; they take a module, bits of weights and of activations, images to
calibrate with and bits of the ends, and give a function in float."""

ENDS = 8
"""Bits of the pixels and of the last layer, ours and others'."""


def run_float(trained: Pretrained, images: np.ndarray) -> np.ndarray:
    """Return the float network's logits."""
    with torch.no_grad():
        return trained.module(torch.from_numpy(images)).numpy()


def measure_deit(
    array: nupes.ArrayConfig, simulate: int, overrides: dict[str, str], shape: Shape = DEIT_TINY
) -> bool:
    """Print the cycles of DeiT-Tiny's shape with random weights, for each pair of ends, and which
    part of them norms and softmax's numerators take; return whether the RTL agrees for some images,
    at most those that calibrate."""
    array = replace(array, act_depth=max(array.act_depth, DEIT_WORDS))
    torch.manual_seed(0)
    module = ViT(shape).eval()
    x = np.random.default_rng(0).random((DEIT_CALIBRATION, 3, 224, 224), np.float32)
    columns = "DeiT-Tiny 224, W4A4", "cycles", "utilization", "norms, numerators", "on RTL"
    table, exact = Table(*columns, box=None, pad_edge=False), True
    for label, ends in (("8-bit ends", 8), ("4-bit ends", None)):
        network = nupes.quantize(module, "W4A4", x, method="rtn", ends=ends, overrides=overrides)
        program = nupes.compile(network, array)
        pairs = zip(program.network.layers, program.layers, strict=True)
        tokens = sum(cost.cycles for layer, cost in pairs if layer.op.kind in TOKEN_KINDS)
        equal = ""
        if simulate:
            check = check_on_rtl(program, (x[:simulate],), False)
            equal = f"{'exact' if check.exact else 'MISMATCH'}, {check.measured_cycles[0]:,}"
            exact &= check.exact
        share = f"{tokens / program.cycles:.1%}"
        table.add_row(label, f"{program.cycles:,}", f"{program.utilization:.1%}", share, equal)
    print_table(table)
    return exact


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")] = Path("data"),
    schemes: Annotated[str, typer.Option(help="Comma-separated schemes.")] = "W8A8,W4A4",
    methods: Annotated[str, typer.Option(help="Comma-separated methods.")] = "rtn,search",
    images: Annotated[int, typer.Option(help="How many test images.")] = 1000,
    calibration: Annotated[int, typer.Option(help="How many images to calibrate with.")] = 256,
    bits: Bits = "",
    without: Without = "",
    override: Overrides = None,
    array: Annotated[str, typer.Option(help="The array.")] = "16x16,attention=1",
    simulate: Annotated[int, typer.Option(help="Images on the RTL.")] = 0,
    stored: Annotated[bool, typer.Option(help="All that is stored, for an image.")] = False,
    layers: Annotated[bool, typer.Option(help="Print every layer's bounds and losses.")] = False,
    deit: Annotated[bool, typer.Option(help="DeiT-Tiny's shape instead.")] = False,
    out: Annotated[Path, typer.Option(help="Directory for artifacts.")] = Path("out"),
) -> None:
    """Print accuracy, divergence from float and cycles of transformers."""
    config = parse_array(array)
    if deit:
        raise typer.Exit(int(not measure_deit(config, simulate, parse_overrides(override or []))))
    trained = load_mnist(data)
    x, labels = trained.images[:images], trained.labels[:images]
    expected = run_float(trained, x)
    table = Table("scheme", "method", box=None, pad_edge=False)
    for column in ("accuracy", "changed", "divergence", "seconds", "cycles", "on RTL"):
        table.add_column(column, justify="right")
    table.add_row("float", "", f"{(expected.argmax(1) == labels).mean():.2%}", *[""] * 5)
    wishes = Wishes.parse(override, bits, without)
    exact, programs = True, []
    for scheme in schemes.split(","):
        for method in methods.split(","):
            start, samples = time.monotonic(), trained.calibration[:calibration]
            infer: Infer
            cycles = equal = ""
            if method in PEERS:
                asked = parse_scheme(scheme)
                module = trained.module
                assert isinstance(module, ViT)
                infer = PEERS[method](module, asked.weights, asked.activations, samples, ENDS)
                seconds = time.monotonic() - start
            else:
                infer = network = quantize_once(
                    out, trained.name, trained.module, scheme, method, samples, wishes
                )
                seconds = time.monotonic() - start
                program = nupes.compile(network, config)
                programs.append((f"{scheme} {method}", program))
                cycles = f"{program.cycles:,}"
                if simulate:
                    check = check_on_rtl(program, (x[:simulate],), stored)
                    measured = check.measured_cycles[0]
                    equal = f"{'exact' if check.exact else 'MISMATCH'}, {measured:,}"
                    exact &= check.exact
            found = infer(x)
            away = divergence(log_distribution(expected), log_distribution(found)).mean()
            table.add_row(
                scheme, method, f"{(found.argmax(1) == labels).mean():.2%}",
                f"{(found.argmax(1) != expected.argmax(1)).mean():.2%}",
                f"{float(away):.5f}", f"{seconds:.0f}", cycles, equal,
            )  # fmt: skip
    print_table(table)
    if layers:
        for name, program in programs:
            print(f"\n{name}")
            print_table(loss_table(program))
    raise typer.Exit(int(not exact))


if __name__ == "__main__":
    typer.run(main)
