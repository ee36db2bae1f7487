"""What the commands print: results on stdout, progress and errors on stderr."""

import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from nupes.model.error_catalogue import PAGE

__all__ = ["Reporter", "print_error", "print_json", "print_table", "print_text"]

PERIOD = 5.0
"""Seconds between two counts of a long step where there is no terminal."""


def print_text(text: str) -> None:
    """Print lines of a result, with rich markup; never wrapped."""
    Console(soft_wrap=True, highlight=False).print(text)


def print_table(table: Table) -> None:
    """Print a table, every row on one line; beyond the terminal's width the terminal wraps."""
    console = Console(highlight=False)
    width = console.measure(table, options=console.options.update(max_width=1 << 16)).maximum
    Console(highlight=False, width=max(console.width, width), soft_wrap=True).print(table)


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    print(json.dumps(data, indent=2))


def print_error(message: str, anchor: str | None = None) -> None:
    """Print an error in red on stderr, and the heading of the catalogue that explains it."""
    where = f" [dim]({PAGE}#{anchor})[/]" if anchor else ""
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"[bold red]error:[/] [red]{escape(message)}[/]{where}"
    )


class Reporter:
    """Progress on stderr: a live line with its seconds in a terminal, one plain line per step
    elsewhere.

    Call it with a line of text when a step begins, and ``count(done, total)`` within a step. Use it
    in a ``with`` statement.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True, soft_wrap=True, highlight=False)
        self.live = Progress(
            # Its dots are in no encoding but Unicode's.
            SpinnerColumn("dots" if self.console.encoding.startswith("utf") else "line"),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.message = ""
        self.begun = self.counted = time.monotonic()

    def __enter__(self) -> "Reporter":
        self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish()
        self.live.stop()

    def __call__(self, message: str) -> None:
        """Begin a step."""
        self.finish()
        self.message = message
        self.begun = self.counted = time.monotonic()
        if self.live.disable:
            self.console.print(f"{message} ...", markup=False)
        else:
            self.task = self.live.add_task(message, total=None)

    def count(self, done: int, total: int, part: str = "") -> None:
        """Report how far the step, or a part of it, has come."""
        text = f"{self.message}{f', {part}' if part else ''}: {done}/{total}"
        if self.task is not None:
            self.live.update(self.task, description=text)
        elif time.monotonic() - self.counted >= PERIOD:
            self.counted = time.monotonic()
            self.console.print(text, markup=False)

    def finish(self) -> None:
        """End the step; in a terminal a step of over a second leaves its line behind."""
        if self.task is None:
            return
        seconds = time.monotonic() - self.begun
        self.live.remove_task(self.task)
        self.task = None
        if seconds > 1:
            self.console.print(f"[dim]{escape(self.message)} ({seconds:.0f} s)[/]")
