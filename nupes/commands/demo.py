"""``nupes demo``: the whole flow on handwritten digits."""

from pathlib import Path
from typing import Annotated

import typer

from nupes.commands.compile import layer_table
from nupes.commands.options import Array, Json, SimulatorName
from nupes.console import Reporter, print_json, print_table, print_text
from nupes.inputs import parse_array

__all__ = ["run"]


def run(
    images: Annotated[
        int, typer.Option(metavar="N", help="How many test images to simulate, 1 to 500.")
    ] = 50,
    scheme: Annotated[
        str, typer.Option(metavar="WxAy", help="Bits of weights, activations.")
    ] = "W4A4",
    array: Array = "16x16",
    simulator: SimulatorName = "verilator",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Directory of the results.")
    ] = Path("out/demo"),
    json: Json = False,
) -> None:
    """Run the whole flow on real handwritten digits.

    PyTorch network, integer network, program, Verilog, simulated RTL: all compared.

    The exit status is 1 if the hardware differs from the integer model in anything.

    [bold]Examples[/]

    nupes demo

    nupes demo --images 10 --array 8x8 --scheme W3A3
    """
    from nupes.demo import run_demo
    from nupes.verify import summary

    config = parse_array(array)
    with Reporter() as report:
        result = run_demo(images, scheme, config, simulator, output, report)
    if json:
        print_json(result.as_dict())
    else:
        print_table(layer_table(result.program))
        print_text("")
        print_text(
            f"accuracy on {result.test_images} test images: float {result.float_accuracy:.2%}, "
            f"integer {result.scheme} {result.integer_accuracy:.2%}"
        )
        print_text(summary(result.check))
        print_text(f"utilization of the {config} array: {result.program.utilization:.1%}")
        print_text(f"files: {', '.join(str(path) for path in result.paths.values())}")
        network, data = result.paths["network"], result.paths["images"]
        print_text(f"another array: nupes simulate {network} {data} --array 8x8")
        print_text(f"total {result.seconds:.0f} s")
    if not result.check.exact:
        raise typer.Exit(1)
