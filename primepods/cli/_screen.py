"""How the command looks: bars and colours in a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich import table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from ._table import Cells, Column, render_table
from ._text import printable

_EVERY = 2.0
"""Seconds after which something must be seen to happen."""


def safe(text: str, *, longest: int = 80) -> Text:
    """Return text from elsewhere as rich may show it; see :func:`._text.printable`."""
    return Text(printable(text, longest=longest))


_WIDE = 80


class Meter(Protocol):
    """Shows how far something has come."""

    def update(self, done: int, total: int | None, note: str = "") -> None:
        """Show that `done` of `total` are done, with a word on the rest."""


class Screen:
    """Where the command writes.

    Args:
        console: For tests; by default one on stdout.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console: Console = console if console is not None else stdout_console()
        self.live: bool = self.console.is_terminal and not self.console.is_dumb_terminal

    def say(self, text: str | Text = "", *, style: str = "") -> None:
        """One line, which is never broken, so that what it shows can be copied."""
        self.console.print(text, style=style, soft_wrap=True)

    def heading(self, text: str) -> None:
        """The line above a part."""
        self.say()
        self.say(text, style="bold")

    def table(self, columns: Sequence[Column], rows: Iterable[Cells], *, total: Cells = ()) -> None:
        """Show a table, as wide as the terminal at most."""
        width = self.console.width if self.console.is_terminal else None
        self.say(render_table(columns, rows, total=total, width=width, colour=False).rstrip("\n"))

    @contextmanager
    def meter(self, what: str) -> Generator[Meter]:
        """Show progress while the block runs: a bar that moves, or a line now and then."""
        if not self.live:
            yield _Lines(self, what)
            return
        # A narrow terminal has room for figures only.
        wide = self.console.width >= _WIDE
        columns = (
            TextColumn("{task.description}"),
            *([BarColumn(bar_width=30)] if wide else []),
            MofNCompleteColumn(table_column=table.Column(no_wrap=True, min_width=7)),
            TextColumn("{task.fields[note]}"),
            *([TimeElapsedColumn()] if wide else []),
        )
        with Progress(*columns, console=self.console) as progress:
            yield _Bar(progress, what)


class _Bar:
    """A bar in a terminal."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=None, note="")

    def update(self, done: int, total: int | None, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=note)


class _Lines:
    """A line whenever another tenth is done or two seconds have passed, and at the end."""

    def __init__(self, screen: Screen, what: str) -> None:
        self._screen = screen
        self._what = what
        self._shown = -1
        self._due = 0
        self._at = -_EVERY

    def update(self, done: int, total: int | None, note: str = "") -> None:
        now = time.monotonic()
        if done == self._shown or (done < self._due and done != total and now < self._at + _EVERY):
            return
        of = "" if total is None else f" of {total}"
        self._screen.say(f"{self._what}: {done}{of}{f' ({note})' if note else ''}")
        self._shown, self._at = done, now
        self._due = done + max(1, (total or 0) // 10)


def stderr_console() -> Console:
    """Return a console for what is no data."""
    return Console(
        stderr=True, force_terminal=sys.stderr.isatty(), highlight=False, markup=False, emoji=False
    )


def stdout_console() -> Console:
    """Return a console for what was asked for."""
    # What the terminal's encoding lacks is shown as a question mark, not as a traceback.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    # A pipe gets no control codes, whatever the environment says about colours.
    return Console(force_terminal=sys.stdout.isatty(), highlight=False, markup=False, emoji=False)
