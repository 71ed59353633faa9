"""`primepods logs`: the last lines of a pod's log."""

from __future__ import annotations

import sys
from typing import Annotated

from .._shared.command import Api, api_command
from .._shared.handles import PodHandle, resolve_handle
from .._shared.options import option
from .._shared.table import write


@api_command
def command(
    api: Api,
    pod: PodHandle,
    *,
    tail: Annotated[int, option("Last lines to show.", "LINES", "--tail", "-n", min=1)] = 100,
) -> None:
    """Print the last lines of a pod's log."""
    with api.client() as client:
        text = client.pods.logs(resolve_handle(client, pod, team=api.team), tail=tail)
    if sys.stdout.isatty():
        lines = (line.expandtabs(4) for line in text.splitlines())
        text = "\n".join("".join(map(_printable, line)) for line in lines)
    write(text if text.endswith("\n") or not text else f"{text}\n")


def _printable(character: str) -> str:
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
