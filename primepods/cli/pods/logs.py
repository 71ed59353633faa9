"""`primepods logs`: the last lines of a pod's log, and new lines."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

import primepods

from .._shared.command import Api, api_command
from .._shared.handles import PodHandle, resolve_handle
from .._shared.table import write

_LINES_PER_POLL = 1_000
"""If a pod writes more lines between two polls of --follow, some lines are not printed.

If that many last lines are equal, further equal lines are not printed.
"""


@api_command
def command(
    api: Api,
    pod: PodHandle,
    *,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=1, help="Last lines to show.", metavar="LINES")
    ] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines as they come, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.05, metavar="SECONDS", help="Time between two polls with --follow.")
    ] = 5.0,
) -> None:
    """Print the last lines of a pod's log."""
    with primepods.exit_on_sigterm(), api.client() as client:
        pod_id = resolve_handle(client, pod, team=api.team)
        text = client.pods.logs(pod_id, tail=max(tail, _LINES_PER_POLL) if follow else tail)
        seen = text.splitlines()
        _print("\n".join(seen[-tail:]) if follow else text)
        while follow:
            time.sleep(interval)
            lines = client.pods.logs(pod_id, tail=_LINES_PER_POLL).splitlines()
            _print("\n".join(_new_lines(seen, lines)))
            seen = lines


def _new_lines(seen: list[str], lines: list[str]) -> list[str]:
    """Return the lines after the longest overlap of the end of ``seen`` with the start of ``lines``."""
    sizes = range(min(len(seen), len(lines)), 0, -1)
    return lines[next((size for size in sizes if seen[-size:] == lines[:size]), 0) :]


def _print(text: str) -> None:
    if sys.stdout.isatty():
        lines = (line.expandtabs(4) for line in text.splitlines())
        text = "\n".join("".join(map(_printable, line)) for line in lines)
    write(text if text.endswith("\n") or not text else f"{text}\n")


def _printable(character: str) -> str:
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
