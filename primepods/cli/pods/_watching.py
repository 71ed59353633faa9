"""Implementation of `primepods watch`: follow a fleet and show it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

import primepods
from primepods.fleet import Fleet, condition_of, follow

from .._shared.command import Api
from .._shared.errors import ExitCode
from .._shared.screen import Screen
from .._shared.table import write
from .._shared.text import printable
from ._fleet_view import describe, render_fleet, render_totals

_DRAW_INTERVAL: Final = 1.0
_WARNING_LIFETIME: Final = 70.0
"""Seconds to show a warning, since failing polls are logged about once a minute."""

Wanted = Callable[[primepods.Pod], bool]
Follow = Callable[..., Coroutine[Any, Any, None]]
"""``follow`` with all arguments bound except the client and ``on_change``."""


def watch(api: Api, ids: list[str] | None, wanted: Wanted, *, interval: float, as_json: bool) -> None:
    """Show pods and their changes, on the whole screen or as lines.

    Args:
        api: The common options.
        ids: The pods; ``None`` for all pods that ``wanted`` selects.
        wanted: Returns whether to show a pod, if ``ids`` is ``None``.
        interval: Seconds between two polls of a pod.
        as_json: Whether to print a line of JSON for each change, also in a terminal.

    Raises:
        typer.Exit: The command was interrupted, or terminated by SIGTERM.
    """
    console = Screen().console
    fleet = Fleet()
    is_full_screen = console.is_terminal and not console.is_dumb_terminal and not as_json
    follow_fleet = partial(follow, fleet=fleet, pod_ids=ids, wanted=wanted, interval=interval)
    try:
        if is_full_screen:
            asyncio.run(_show_on_screen(api, fleet, follow_fleet, console))
        else:
            format_line = _json_line if as_json else _text_line
            api.run(partial(follow_fleet, on_change=lambda change: write(format_line(fleet, change))))
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except asyncio.CancelledError:  # by SIGTERM; see `_show_on_screen`
        raise typer.Exit(ExitCode.TERMINATED) from None
    finally:
        if is_full_screen and fleet.version > 0:
            # Leave the last totals in the terminal after the full screen has closed.
            write("".join(f"{line}\n" for line in render_totals(fleet, console)))


def _json_line(_: Fleet, change: primepods.PodChange) -> str:
    return json.dumps({"time": _now()} | change.to_dict()) + "\n"


def _text_line(fleet: Fleet, change: primepods.PodChange) -> str:
    """Return a line for a change of the condition, and an empty text for other changes."""
    if change.before is not None and condition_of(change.before) == condition_of(change.after):
        return ""
    pod = fleet[change.pod_id]
    words = (_now(), pod.pod_id, pod.name if pod.name != pod.pod_id else "-", describe(pod))
    return "  ".join(printable(word, max_length=200) for word in words) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def _show_on_screen(api: Api, fleet: Fleet, follow_fleet: Follow, console: Console) -> None:
    task = asyncio.current_task()
    if task is not None:
        # On SIGTERM, leave the full screen first. On Windows, loops have no signal handlers.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    # Redirect nothing: only the log could write into the screen, and `_LastWarning` handles the log.
    live = Live(
        console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )
    with _LastWarning().installed() as log, live:
        async with api.async_client() as client:
            following = asyncio.create_task(follow_fleet(client))
            try:
                while not following.done():
                    notes = [log.text] if log.text else []
                    if not notes and fleet.trouble is not None:
                        notes = [f"the list cannot be read in full: {fleet.trouble}"]
                    frame = render_fleet(fleet, console, notes)
                    live.update(Text.from_ansi(frame, no_wrap=True, overflow="crop"), refresh=True)
                    # Draw at intervals, since costs and ages grow, and the size may change.
                    await asyncio.wait({following}, timeout=_DRAW_INTERVAL)
                await following
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


class _LastWarning(logging.Handler):
    """Log handler that keeps the newest warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._text = ""
        self._at = 0.0

    @property
    def text(self) -> str:
        """The newest warning, or an empty text if there is none or it is old."""
        return self._text if time.monotonic() - self._at < _WARNING_LIFETIME else ""

    def emit(self, record: logging.LogRecord) -> None:
        self._text, self._at = record.getMessage(), time.monotonic()

    @contextmanager
    def installed(self) -> Generator[Self]:
        """Add the handler to the package's log for the block; if stderr is a terminal, replace the others."""
        log = logging.getLogger("primepods")
        before = log.handlers
        log.handlers = [self] if sys.stderr.isatty() else [*before, self]
        try:
            yield self
        finally:
            log.handlers = before
