"""``nupes doctor``: what is installed, what is missing, and the command that mends it."""

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nupes.commands.options import Json
from nupes.console import print_json, print_table
from nupes.doctor import examine, remedy

__all__ = ["run"]

MARKS = {"ok": "[green]ok[/]", "missing": "[bold red]missing[/]", "optional": "[yellow]optional[/]"}


def run(json: Json = False) -> None:
    """Tell what is installed, what is missing and how to get it.

    Changes nothing. The exit status is 1 if something that the flow needs is missing; what is
    marked optional does not count.

    [bold]Examples[/]

    nupes doctor

    nupes doctor --json
    """
    findings = examine()
    missing = [finding for finding in findings if finding.state == "missing"]
    absent = [finding for finding in findings if finding.state == "optional"]
    needed, more = remedy(missing), remedy(absent)
    if json:
        print_json(
            {
                "ok": not missing,
                "fix": needed,
                "fix_optional": more,
                "findings": [finding.as_dict() for finding in findings],
            }
        )
    else:
        table = Table("", "what", "found", "for", box=None, pad_edge=False)
        for finding in findings:
            row = (finding.name, escape(finding.found), finding.purpose)
            table.add_row(MARKS[finding.state], *row)
        console = Console(soft_wrap=True, highlight=False)
        print_table(table)
        console.print()
        if not missing:
            console.print("[green]everything that nupes needs is there[/]")
        elif needed:
            console.print(f"{len(missing)} missing; run: {needed}", markup=False)
        else:
            console.print(f"{len(missing)} missing; what to do is said above", markup=False)
        if more:
            console.print(f"optional; run: {more}", markup=False)
    if missing:
        raise typer.Exit(1)
