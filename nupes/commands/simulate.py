"""``nupes simulate``: a network on the generated RTL, compared with the model value by value."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from nupes.arch.bus import check_bus
from nupes.commands.compile import check_trace, trace_bytes
from nupes.commands.options import (
    Array,
    Batch,
    Bus,
    BusBits,
    Data,
    Json,
    Network,
    SimulatorName,
    Trace,
)
from nupes.console import Reporter, print_json, print_text
from nupes.inputs import load_arrays, parse_array
from nupes.model.artifact.reader import load
from nupes.model.errors import InputError
from nupes.model.files import check_output, complete_file, write_atomically

__all__ = ["run"]


def run(
    network: Network,
    data: Data,
    images: Annotated[
        int, typer.Option(metavar="N", help="How many images to run, from the first on.")
    ] = 10,
    array: Array = "16x16",
    batch: Batch = 1,
    simulator: SimulatorName = "verilator",
    bus: Bus = None,
    bus_bits: BusBits = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Also compare every value that each layer stores."),
    ] = False,
    waves: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Record every signal: .vcd or .fst. One image is plenty."
        ),
    ] = None,
    trace: Trace = None,
    json: Json = False,
) -> None:
    """Run a network on the RTL and compare it with the model.

    Every output integer must equal the model's, every layer's cycles the prediction.
    The exit status is 1 if anything differs. With --bus axi4 program and results go over a
    bus: its cycles are measured, and are no part of the comparison.

    [bold]Examples[/]

    nupes simulate net.safetensors test.npz --images 50

    nupes simulate net.safetensors test.npz --images 1 --array 8x8 --waves run.vcd

    nupes simulate net.safetensors test.npz --images 1 --trace run.json
    """
    from nupes.compiler.program import check_batch, compile
    from nupes.sim import Simulator
    from nupes.sim.simulator import check_waves
    from nupes.verify import check_layers, check_outputs, summary

    if images < 1:
        raise InputError(f"images must be at least 1, not {images}")
    check_batch(batch)
    config = parse_array(array)
    check_bus(bus, bus_bits, config)
    if waves is not None:
        check_waves(waves)
        check_output(waves)
    check_trace(trace)
    qnet = load(network)
    inputs = tuple(array[:images] for array in load_arrays(data))
    qnet.encode_all(*inputs)
    program = compile(qnet, config, batch=batch)
    with ExitStack() as stack:
        report = stack.enter_context(Reporter())
        recording = None if waves is None else stack.enter_context(complete_file(waves))
        hw = stack.enter_context(
            Simulator(
                config, simulator, bus=bus, bus_bits=bus_bits, waves=recording, progress=report
            )
        )
        hw.prepare(program)
        report(f"simulating {len(inputs[0])} images")
        result = check_outputs(hw, program, inputs, report.count)
        if layers:
            report(f"comparing what each of {len(program.layers)} layers stores")
            result = check_layers(hw, program, result, inputs, report.count)
    if trace is not None and result.exact:
        write_atomically(trace, trace_bytes(program))
    if json:
        print_json({"array": str(config), "simulator": simulator, "bus": bus, **result.as_dict()})
    else:
        print_text(summary(result))
    if not result.exact:
        raise typer.Exit(1)
