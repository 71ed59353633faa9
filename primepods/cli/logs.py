"""`primepods logs`: the last lines of a pod's log."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ._command import Api, api_command
from ._handles import PodHandle, resolve_handle
from ._table import write
from ._text import printable


@api_command
def command(
    api: Api,
    pod: PodHandle,
    *,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=1, help="Last lines to show.", metavar="LINES")
    ] = 100,
) -> None:
    """Print the last lines of a pod's log."""
    with api.client() as client:
        text = client.pods.logs(resolve_handle(client, pod, team=api.team), tail=tail)
    if sys.stdout.isatty():
        # Control characters are removed only for a terminal.
        text = "\n".join(_printable_line(line) for line in text.splitlines())
    write(text if text.endswith("\n") or not text else f"{text}\n")


def _printable_line(line: str) -> str:
    """Return a line without control characters, with all its blanks."""
    expanded = line.replace("\t", "    ")
    # Each character alone: `printable` would collapse several blanks to one.
    return "".join(" " if character == " " else printable(character, max_length=1) for character in expanded)
