"""Confirmation prompt."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ._errors import CommandError, ExitCode
from ._table import write

YesOption = Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Do not ask for confirmation.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation on stderr, unless ``yes`` is true.

    Raises:
        CommandError: The reply is not yes, or stdin is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("cannot ask, since stdin is not a terminal: pass --yes", ExitCode.USAGE)
    write(f"{question} [y/N]: ", err=True)
    reply = ""
    try:
        reply = sys.stdin.readline()
    finally:
        if not reply.endswith("\n"):
            # After Ctrl-C or the end of stdin, end the prompt's line.
            write("\n", err=True)
    if reply.strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was done")
