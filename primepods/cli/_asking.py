"""May it go on? Asked on stderr, of a person only."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ._errors import CommandError, ExitCode
from ._table import write

YesOption = Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Do not ask.")]


def confirm(question: str, *, yes: bool) -> None:
    """Go on if the answer is yes, or was given beforehand.

    Raises:
        CommandError: The answer is no, or nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("nobody can be asked here: say --yes, and it is done", ExitCode.USAGE)
    write(f"{question} [y/N]: ", err=True)
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):
            write("\n", err=True)
    if answer.strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was done")
