"""Output with rich: bars and colours in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column as RichColumn

from primepods import PodChange, PodStatus
from primepods.fleet import Fleet

from .table import Cells, Column, render_table

_MIN_BAR_WIDTH = 80
"""Min width of a terminal for a progress bar."""


Update = Callable[..., None]
"""``update(done, total, note)`` shows that ``done`` of ``total`` are done; the note is optional."""


class Screen:
    """Terminal or stream that the command writes to.

    Args:
        console: The console; by default a new one.
        err: Whether a new console is on stderr, not on stdout.
    """

    def __init__(self, console: Console | None = None, *, err: bool = False) -> None:
        stream = sys.stderr if err else sys.stdout
        # Never write control codes to a pipe, whatever the environment says about colours.
        self.console: Console = console or Console(
            stderr=err, force_terminal=stream.isatty(), highlight=False, markup=False, emoji=False
        )
        self.is_live: bool = self.console.is_terminal and not self.console.is_dumb_terminal

    def say(self, text: str = "", *, style: str = "") -> None:
        """Write a line without wrapping it, so that it can be copied."""
        self.console.print(text, style=style, soft_wrap=True, markup=False, emoji=False)

    def heading(self, text: str) -> None:
        self.say()
        self.say(text, style="bold")

    def table(self, columns: Sequence[Column], rows: Iterable[Cells], *, total: Cells = ()) -> None:
        """Write a table; in a terminal, narrow it to the width of the screen."""
        width = self.console.width if self.console.is_terminal else None
        self.say(render_table(columns, rows, total=total, width=width, colour=False).rstrip("\n"))

    def bar(self, count: ProgressColumn, *, is_transient: bool = False) -> Progress:
        """Return a progress display, whose tasks have a note; a narrow terminal has no room for its bar."""
        has_room_for_bar = self.console.width >= _MIN_BAR_WIDTH
        columns = (
            TextColumn("{task.description}"),
            *([BarColumn(bar_width=30)] if has_room_for_bar else []),
            count,
            TextColumn("{task.fields[note]}"),
            *([TimeElapsedColumn()] if has_room_for_bar else []),
        )
        return Progress(*columns, console=self.console, transient=is_transient)

    @contextmanager
    def meter(self, what: str) -> Generator[Update]:
        """Show progress while the block runs, as a bar or as lines."""
        if not self.is_live:
            yield _Lines(self, what).update
            return
        count = MofNCompleteColumn(table_column=RichColumn(no_wrap=True, min_width=7))
        with self.bar(count) as progress:
            task = progress.add_task(what, total=None, note="")

            def update(done: int, total: int | None, note: str = "") -> None:
                progress.update(task, completed=done, total=total, note=note)

            yield update

    @contextmanager
    def pod_meter(
        self,
        what: str,
        pod_ids: Iterable[str],
        is_done: Callable[[PodStatus | None], bool],
        note: Callable[[Fleet], str],
    ) -> Generator[Callable[[PodChange], None]]:
        """Show how many of some pods are done, with a note on them; yield the callback for their changes."""
        fleet = Fleet(pod_ids)
        done: set[str] = set()
        with self.meter(what) as update:

            def show(change: PodChange) -> None:
                fleet.add(change)
                if is_done(change.after):
                    done.add(change.pod_id)
                else:
                    done.discard(change.pod_id)
                update(len(done), len(fleet), note(fleet))

            update(0, len(fleet), note(fleet))
            yield show


class LiveLine:
    """Line in a terminal with the elapsed time.

    Each text replaces the previous one, and an empty one clears the line.
    """

    def __init__(self, console: Console) -> None:
        rest = RichColumn(no_wrap=True, ratio=1)
        columns = (
            SpinnerColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False, table_column=rest),
        )
        self._progress = Progress(
            *columns, console=console, transient=True, redirect_stdout=False, expand=True
        )
        self._task = self._progress.add_task("")

    def show(self, text: str) -> None:
        self._progress.update(self._task, description=text)
        if not text:
            self._progress.stop()
        elif not self._progress.live.is_started:
            self._progress.reset(self._task)
            self._progress.start()


class _Lines:
    """Progress as lines. A change is written after a tenth of the total, or at the end."""

    def __init__(self, screen: Screen, what: str) -> None:
        self._screen = screen
        self._what = what
        self._last_done = -1
        self._next_done = 0

    def update(self, done: int, total: int | None, note: str = "") -> None:
        if done == self._last_done or not (done == total or done >= self._next_done):
            return
        of_total = "" if total is None else f" of {total}"
        in_brackets = f" ({note})" if note else ""
        self._screen.say(f"{self._what}: {done}{of_total}{in_brackets}")
        self._last_done = done
        self._next_done = done + max(1, (total or 0) // 10)
