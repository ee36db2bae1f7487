"""``nupes check``: what of a model will run, before any work."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nupes.arch.config import ArrayConfig
from nupes.commands.options import Array, Json, Model
from nupes.compiler.program import Program, compile
from nupes.console import Reporter, print_json, print_table, print_text
from nupes.inputs import load_arrays, load_model, parse_array, parse_shape, quiet_torch
from nupes.model.errors import CapacityError, InputError, UnsupportedError

if TYPE_CHECKING:
    from nupes.quantizer.frontend.inspection import Inspection

__all__ = ["run"]


def image_shapes(input_shape: list[str] | None, calibration: str | None) -> list[tuple[int, ...]]:
    """Return the shape of each input, as given or as that of the data."""
    if input_shape:
        return [parse_shape(text) for text in input_shape]
    if calibration is None:
        raise InputError("input shape must be given, such as --input-shape 3,32,32")
    shapes = []
    for images in load_arrays(calibration):
        if images.ndim not in (2, 3, 4):
            raise InputError(
                f"images must have two to four dimensions, the first the batch, not shape "
                f"{images.shape}"
            )
        shapes.append(images.shape[1:])
    return shapes


def fit(found: "Inspection", scheme: str, config: ArrayConfig) -> tuple[Program | None, str]:
    """Return the program of the network to be on an array, or why there is none."""
    from nupes.quantizer.lowering.skeleton import bare_network

    if found.network is None:
        return None, ""
    # No method finds what product cells hold: the refusal says so.
    cell = "decode" if config.mac == "product" else config.mac
    try:
        return compile(bare_network(found.network, scheme, {}, cell), config), ""
    except (CapacityError, UnsupportedError) as error:
        return None, str(error)


def cycles_of(found: "Inspection", program: Program | None) -> dict[str, int]:
    """Return the cycles of every layer by its name. Those of layers that the compiler adds are
    counted: of blocks of rows with the layer that is split, of copies with the one that is copied,
    or that reads a copy of an input.
    """
    costs, waiting = {layer.name: 0 for layer in found.layers}, 0
    for layer in () if program is None else program.layers:
        name = layer.name
        while name not in costs and "[" in name:
            name = name.rpartition("[")[0]
        if name in costs:
            costs[name] += layer.cycles + waiting
        waiting = 0 if name in costs else waiting + layer.cycles
    return costs


def describe(
    found: "Inspection", config: ArrayConfig, program: Program | None, reason: str
) -> dict:
    """Return the findings as JSON data."""
    layers: list[dict[str, Any]] = [asdict(layer) for layer in found.layers]
    costs = cycles_of(found, program)
    for layer in layers:
        if program is not None:
            layer["cycles"] = costs[layer["name"]]
    return {
        "runs": program is not None,
        "array": str(config),
        "fits": program is not None,
        "reason": reason,
        "cycles": None if program is None else program.cycles,
        "layers": layers,
        "problems": [asdict(problem) for problem in found.problems],
    }


def layer_table(found: "Inspection", program: Program | None) -> Table:
    """Return the layers with their shapes and costs."""
    table = Table("layer", "operator", box=None, show_footer=True, pad_edge=False)
    table.columns[0].footer = f"{len(found.layers)} layers"
    macs = sum(layer.macs for layer in found.layers)
    parameters = sum(layer.parameters for layer in found.layers)
    for title, footer in (
        ("input", ""),
        ("output", ""),
        ("MACs", f"{macs:,}"),
        ("parameters", f"{parameters:,}"),
    ):
        table.add_column(title, footer=footer, justify="right")
    if program is not None:
        table.add_column("cycles", footer=f"{program.cycles:,}", justify="right")
    costs = cycles_of(found, program)
    for layer in found.layers:
        row = [
            layer.name,
            layer.operator,
            "x".join(map(str, layer.input_shape)),
            "x".join(map(str, layer.output_shape)),
            f"{layer.macs:,}" if layer.macs else "-",
            f"{layer.parameters:,}" if layer.parameters else "-",
        ]
        table.add_row(*row, *([f"{costs[layer.name]:,}"] if program else []))
    return table


def print_problems(found: "Inspection") -> None:
    """Print every operator that cannot run, where it is and what to do."""
    console = Console(soft_wrap=True, highlight=False)
    for problem in found.problems:
        place = f"module {problem.module!r}" if problem.module else "the top module"
        subject = f"[bold red]{problem.operator}[/] in {place}: " if problem.operator else ""
        console.print(f"{subject}{problem.reason}", markup=bool(subject))
        if problem.advice:
            console.print(f"  -> {problem.advice}", markup=False)


def count_operators(found: "Inspection") -> str:
    """Return how many operators are in the way, as far as that is known."""
    count = sum(bool(problem.operator) for problem in found.problems)
    if not count:
        return ""
    least = "" if found.judged else "at least "
    return f": {least}{count} operator{'s' * (count > 1)} must be replaced"


def run(
    model: Model,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="C,H,W",
            help="Shape of the input, e.g. 3,32,32; once for each of several. A .pt2 file has its "
            "own.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Take shapes from this FILE.npz[:KEY[,KEY]]."),
    ] = None,
    scheme: Annotated[
        str, typer.Option(metavar="WxAy", help="Bits for which the array is checked.")
    ] = "W4A4",
    array: Array = "16x16",
    json: Json = False,
) -> None:
    """Tell what of a model will run, and why the rest will not.

    Takes seconds and quantizes nothing. Lists every operator that will not run, or the layers that
    the model becomes with their shapes (h x w x c), MACs of one image, parameters and cycles on the
    array, which are an estimate until the values are known. The exit status is 1 if anything will
    not run.

    [bold]Examples[/]

    nupes check model.py:load --input-shape 3,32,32

    nupes check model.pt2 --array 8x8 --scheme W2A4 --json
    """
    config = parse_array(array)
    with Reporter() as report:
        exported = model.endswith(".pt2")
        shapes = [] if exported else image_shapes(input_shape, calibration)
        report("loading PyTorch and the model")
        from nupes.quantizer.frontend.inspection import inspect_module
        from nupes.quantizer.options.scheme import parse_scheme

        parse_scheme(scheme)
        loaded = load_model(model)
        report("capturing the model")
        with quiet_torch():
            found = inspect_module(loaded, *shapes)
        program, reason = fit(found, scheme, config)
    if json:
        print_json(describe(found, config, program, reason))
    else:
        if found.layers:
            print_table(layer_table(found, program))
            print_text("")
        print_problems(found)
        if found.problems:
            print_text(f"will not run{count_operators(found)}")
        elif program is None:
            Console(soft_wrap=True, highlight=False).print(reason, markup=False)
            print_text(f"will not run on the {config} array")
        else:
            cell = "" if config.mac == "decode" else f"; quantize with --cell {config.mac}"
            print_text(
                f"will run: about {program.cycles:,} cycles per image on the {config} array "
                f"at {scheme}{cell}"
            )
    if found.problems or program is None:
        raise typer.Exit(1)
