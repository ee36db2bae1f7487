"""What rounding a network's stored tensors costs its outputs, one tensor at a time.

    python -m benchmarks.rounding --data DIR [--network mobilenetv2] [--bits 4] [--images 16]

Weights stay as they are. Every tensor gets the table of levels that ``search`` starts from: that of
least squared error, each value weighed by what the outputs make of an error in it. Levels are
chosen on calibration images; errors are those of as many test images. ``alone`` is the squared
error of the outputs with this tensor rounded and no other, ``independent`` what it would be if the
errors of its values were independent of one another: where an image is flat, they are not. Both,
and the error of the tensor itself, are per cent of the float network's variance or power.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks.pretrained import load_pretrained
from nupes.quantizer.codes.decisions import TensorCode
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.measure.sensitivity import Sensitivity, measure_sensitivity
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.tensors import choose_activations
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import Hooks, Maps, evaluate, run_float
from nupes.quantizer.stages.stage import FusedNetwork


class Rounded(Hooks):
    """The float network, of which some tensors are rounded."""

    def __init__(self, codes: dict[str, TensorCode]) -> None:
        self.codes = codes

    def read(self, name: str, values: Tensor) -> Tensor:
        """Return values, rounded to the levels of a code where there is one."""
        return rounded(values, self.codes[name]) if name in self.codes else values


def rounded(values: Tensor, code: TensorCode) -> Tensor:
    """Return the nearest levels of values."""
    levels = torch.from_numpy(np.unique(code.codebook.levels) * code.scale).float()
    return levels[torch.bucketize(values.contiguous(), (levels[1:] + levels[:-1]) / 2)]


def choose_codes(network: FusedNetwork, inputs: Batch, bits: int) -> dict[str, TensorCode]:
    """Return codes of so many bits for the tensors that stages store, for inputs (n, c, h, w)."""
    sensitivity = measure_sensitivity(network, inputs)
    maps = run_float(network.stages, network.start(inputs[sensitivity.images]))
    return {
        stage.name: choose_activations(
            maps[stage.name].numpy(),
            bits,
            stage.low < 0,
            Recipe(),
            importance=sensitivity.of_values(stage.name),
        )
        for stage in network.stages
        if stage.name not in network.emitted
    }


def independent(maps: Maps, sensitivity: Sensitivity, name: str, code: TensorCode) -> float:
    """Return the squared error of the outputs, over their variance, if errors are independent."""
    errors = (rounded(maps[name], code) - maps[name]).square().numpy()
    return float((errors * sensitivity.of_values(name)).sum() / len(errors))


def rows(
    network: FusedNetwork, inputs: Batch, codes: dict[str, TensorCode]
) -> Iterator[tuple[str, int, float, float, float]]:
    """Yield for each tensor its name and channels, and in per cent its own error, that of the
    outputs, and that of independent errors; last those of all tensors, and of all but the worst."""
    sensitivity = measure_sensitivity(network, inputs)
    start = network.start(inputs[sensitivity.images])
    maps = run_float(network.stages, start)
    (output,) = network.emitted

    def error(some: dict[str, TensorCode]) -> float:
        found = evaluate(network.stages, start, Rounded(some), keep=network.emitted)[output]
        return 100 * float((found - maps[output]).square().mean() / maps[output].var())

    alone, apart = {}, {}
    for name, code in codes.items():
        values = maps[name]
        own = (rounded(values, code) - values).square().mean() / values.square().mean()
        alone[name] = error({name: code})
        apart[name] = 100 * independent(maps, sensitivity, name, code)
        yield name, values.shape[1], 100 * float(own), alone[name], apart[name]
    worst = max(alone, key=lambda name: alone[name])
    others = {name: code for name, code in codes.items() if name != worst}
    yield "all", len(codes), 0.0, error(codes), sum(apart.values())
    yield f"all but {worst}", len(others), 0.0, error(others), sum(apart[name] for name in others)


def main(
    data: Annotated[Path, typer.Option(help="See benchmarks/pretrained.py.")],
    network: Annotated[str, typer.Option(help="A network of benchmarks/pretrained.py.")] = (
        "mobilenetv2"
    ),
    bits: Annotated[int, typer.Option(help="Bits of every tensor.", min=2, max=8)] = 4,
    images: Annotated[int, typer.Option(help="Images, evenly spread.", min=2)] = 16,
) -> None:
    """Print the table."""
    pretrained = load_pretrained(network, data)
    seen, others = (
        torch.from_numpy(part[np.linspace(0, len(part) - 1, images).astype(np.int64)])
        for part in (pretrained.calibration, pretrained.images)
    )
    fused = fuse(capture(export_module(pretrained.module.eval(), (2, *seen.shape[1:]))))
    codes = choose_codes(fused, fused.maps(Batch((seen,))), bits)
    print("| tensor | channels | own error | alone | independent |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, channels, own, alone, apart in rows(fused, fused.maps(Batch((others,))), codes):
        shown = f"{own:.2f}" if own else ""
        print(f"| {name} | {channels} | {shown} | {alone:.2f} | {apart:.2f} |", flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        typer.run(main)
