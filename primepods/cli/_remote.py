"""Options and progress bars of the commands that log in to pods."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Annotated, Any

import attrs
import typer

from ._errors import CommandError, ExitCode

_PANEL = "On the pod"
_MEGABYTE = 1_000_000
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?", re.DOTALL)

SshArguments = Annotated[
    list[str] | None,
    typer.Option(
        "--ssh-option",
        help="An argument of ssh, such as --ssh-option=-i --ssh-option=key.pem; may be repeated.",
        metavar="WORD",
        rich_help_panel=_PANEL,
    ),
]
SshCommand = Annotated[
    str,
    typer.Option(
        help="The ssh program.",
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
        help="Environment variable of the command, by default with its value here; may be repeated.",
        metavar="NAME[=VALUE]",
        rich_help_panel=_PANEL,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Do not upload files of this name or pattern, such as .git or '*.pyc'; may be repeated.",
        metavar="PATTERN",
        rich_help_panel=_PANEL,
    ),
]
Words = Annotated[
    list[str],
    typer.Argument(metavar="-- COMMAND", help="The command; a single word is a line for the pod's shell."),
]


@attrs.frozen(kw_only=True)
class SshOptions:
    """Options for how to log in to pods; each is a parameter of ``pods.remote`` and ``pods.lease``."""

    ssh_options: SshArguments = None
    ssh_command: SshCommand = "ssh"

    def arguments(self) -> dict[str, Any]:
        """Return the options as arguments of ``pods.remote``."""
        return {"ssh_options": self.ssh_options or [], "ssh_command": self.ssh_command}


def parse_command(words: list[str]) -> str | list[str]:
    """Return one word as a line for the pod's shell, and several words as a program and its arguments.

    Raises:
        CommandError: The command is empty.
    """
    if not " ".join(words).strip():
        raise CommandError("the command is empty", ExitCode.USAGE)
    return words[0] if len(words) == 1 else words


def read_variables(given: Iterable[str] | None) -> dict[str, str]:
    """Return the environment variables of ``--env``.

    Raises:
        CommandError: A variable has an invalid form, or is not set here.
    """
    from primepods.config import environment_variable

    variables: dict[str, str] = {}
    for text in given or ():
        found = _VARIABLE.fullmatch(text)
        if found is None:
            # Do not show the text: it may hold a secret.
            raise CommandError("--env must be of the form NAME or NAME=VALUE", ExitCode.USAGE)
        name, value = found[1], found[2]
        if value is None:
            value = environment_variable(name)
        if value is None:
            raise CommandError(f"--env {name}: there is no such variable here", ExitCode.USAGE)
        variables[name] = value
    return variables


@contextmanager
def progress(what: str) -> Generator[Callable[[int], Any] | None]:
    """Show the progress of a copy on stderr, and yield its callback; ``None`` if stderr is no terminal."""
    from ._screen import Screen, stderr_console

    screen = Screen(stderr_console())
    if not screen.is_live:
        yield None
        return
    with screen.meter(what) as meter:
        yield lambda done: meter.update(done // _MEGABYTE, None, "MB")
