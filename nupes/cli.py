"""The command line ``nupes``: its commands, and how errors end it.

Exit status: 0; 1 when the hardware and the model differ; 2 for an error, on one line of stderr; 3
for a defect of nupes itself, with its traceback; 130 for an interrupt, 143 for a kill.
"""

import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nupes.commands import (
    area,
    check,
    compile,
    demo,
    doctor,
    evaluate,
    export,
    quantize,
    report,
    simulate,
    sweep,
    verilog,
)
from nupes.console import print_error
from nupes.model.errors import NupesError

__all__ = ["app", "main"]

COMPLETION = {
    "install_completion": "Install completion for this shell.",
    "show_completion": "Print the completion of this shell.",
}
"""Shorter helps of two options that typer adds."""

VERBOSE = ("--verbose", "-v")


class Commands(TyperGroup):
    """The commands, with a help that fits a screen."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of ``nupes`` itself."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if parameter.name in COMPLETION:
                parameter.help = COMPLETION[parameter.name]  # pyright: ignore[reportAttributeAccessIssue]
        return parameters


app = typer.Typer(
    name="nupes",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    doctor,
    check,
    quantize,
    evaluate,
    compile,
    sweep,
    area,
    report,
    simulate,
    verilog,
    export,
    demo,
):
    app.command(command.__name__.rpartition(".")[2])(command.run)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        print(f"nupes {version('nupes')}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option(*VERBOSE, help="Show the traceback of an error.")
    ] = False,
    _: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """From a trained PyTorch network to low-bit silicon, equal to the last bit."""
    context.ensure_object(dict)["verbose"] = verbose


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    if arguments is None:  # A kill cleans up, as an interrupt does.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):  # What a terminal cannot show ends no command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Wherever it stands: each command has it.
    words.sort(key=lambda word: word not in VERBOSE)
    state: dict[str, bool] = {}
    try:
        app(words, prog_name="nupes", obj=state)
    except BaseException as end:
        status = explain(end, state.get("verbose", False))
        if status:
            warnings.simplefilter("ignore")  # of what was left half done, as Amaranth has
        return status
    return 0


def explain(end: BaseException, verbose: bool) -> int:
    """Print why a command ended; return its exit status."""
    if isinstance(end, SystemExit):
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    if isinstance(end, KeyboardInterrupt):
        return 130
    if isinstance(end, NupesError | MemoryError):
        if verbose:
            traceback.print_exception(end)
        memory = "the memory of this machine must hold the work, but cannot: "
        print_error(f"{memory * isinstance(end, MemoryError)}{end}", getattr(end, "anchor", None))
        return 2
    traceback.print_exception(end)
    print_error(f"{type(end).__name__}: this is a defect of nupes; please report it")
    return 3
