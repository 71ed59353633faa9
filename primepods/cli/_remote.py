"""What the commands that work on pods have in common: how to log in, variables, progress."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from ._errors import CommandError, ExitCode

_PANEL = "On the pod"
_MEGABYTE = 1_000_000
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?", re.DOTALL)

SshOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--ssh-option",
        help="A word for ssh, as --ssh-option=-i --ssh-option=key.pem; may be repeated.",
        metavar="WORD",
        rich_help_panel=_PANEL,
    ),
]
SshCommand = Annotated[
    str,
    typer.Option(
        help="The program that logs in.",
        metavar="COMMAND",
        envvar="PRIMEPODS_SSH_COMMAND",
        show_envvar=False,
        rich_help_panel=_PANEL,
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        "-e",
        help="A variable of the command; without a value, that of this shell. May be repeated.",
        metavar="NAME[=VALUE]",
        rich_help_panel=_PANEL,
    ),
]


def line_of(words: list[str]) -> str | list[str]:
    """Return what to run: one word is a line for the shell on the pod, several are a program's words.

    Raises:
        CommandError: It is empty.
    """
    if not " ".join(words).strip():
        raise CommandError("the command is empty", ExitCode.USAGE)
    return words[0] if len(words) == 1 else words


def read_variables(given: Iterable[str] | None) -> dict[str, str]:
    """Return the variables of ``--env``.

    Raises:
        CommandError: One is none, or has no value here.
    """
    from primepods.config import environment_variable

    variables: dict[str, str] = {}
    for text in given or ():
        found = _VARIABLE.fullmatch(text)
        if found is None:
            # Not the text: it may hold a secret.
            raise CommandError("--env must be of the form NAME or NAME=VALUE", ExitCode.USAGE)
        value = found[2] if found[2] is not None else environment_variable(found[1])
        if value is None:
            raise CommandError(f"--env {found[1]}: there is no such variable here", ExitCode.USAGE)
        variables[found[1]] = value
    return variables


@contextmanager
def progress(what: str) -> Generator[Callable[[int], Any] | None]:
    """Show on stderr how far a copy is, where that is a terminal; give the callback for it."""
    from ._screen import Screen, stderr_console

    screen = Screen(stderr_console())
    if not screen.live:
        yield None
        return
    with screen.meter(what) as meter:
        yield lambda done: meter.update(done // _MEGABYTE, None, "MB")
