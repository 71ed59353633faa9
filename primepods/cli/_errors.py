"""How a command ends: its exit codes, and one line on stderr for what went wrong."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Final

import typer

import primepods

from ._text import printable

_LONGEST = 2_000
_log = logging.getLogger("primepods.cli")


class ExitCode(IntEnum):
    """What a script can tell from how the command ended."""

    FAILED = 1
    USAGE = 2
    TIMED_OUT = 3
    POD_FAILED = 4
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143
    SSH_FAILED = 255


class CommandError(Exception):
    """The command cannot do what was asked; its text is the line that the user sees."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def complain(command: str, message: object) -> None:
    """Write one line to stderr: which command, and what is wrong. A stderr that is closed stops nothing."""
    with suppress(OSError, ValueError):
        typer.echo(f"{command}: {printable(_describe(message), longest=_LONGEST)}", err=True)


def _describe(message: object) -> str:
    """Return an error's text for somebody in a shell."""
    text = shell_words(str(message))
    seconds = message.retry_after if isinstance(message, primepods.RateLimitError) else None
    return text if seconds is None else f"{text} Try again in {math.ceil(seconds):,} s."


def shell_words(text: str) -> str:
    """Return a message of the library in the words of the command: ``pods.history()`` is its `history`."""
    for pattern, words in _SHELL_WORDS:
        text = pattern.sub(words, text)
    return text


def _option(found: re.Match[str]) -> str:
    name = {"team_id": "team"}.get(found[1], found[1]).replace("_", "-")
    return found[0].replace(f"argument {found[1]}", f"--{name}").replace(f"{found[1]} must", f"--{name} must")


_SHELL_WORDS: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"`?(?:client\.)?pods\.(history|list|get|logs|create|sweep)\(\)`?", r"`primepods \1`"),
        (r"`?(?:client\.)?pods\.delete\('([^']*)'\)`?", r"`primepods delete \1`"),
        (r"pods\.wait_ready or ", ""),
        (r" What runs on the pod is command=\.", ""),
        (r"\(ssh_options=\['-i', FILE\], or", "(--ssh-option=-i --ssh-option=FILE, or"),
        (r"\bssh_options\b", "--ssh-option"),
        (r"as ssh_command\b", "as --ssh-command"),
        (r"`?pods\.wait_gone\(\)`?", "`primepods wait --until gone`"),
        (r"`?availability\.(?:cheapest|find|gpus)\(\)`?", "`primepods offers`"),
        (r"\(argument (base_url|context|team_id)\)", _option),
        (r"^(timeout|interval|older_than|max_price|max_hours|max_spend) must be a (?:finite )?", _option),
        (r"the argument api_key, |pass it as api_key or |, or share one client", ""),
        (r"^pod_id ", "the id "),
        (r"Pass an `id` as (\S+ \S+) gives it", r"Give an id as \1 shows it"),
        # What aiohttp adds to the cause, and the same cause once more.
        (r"\b(?:Client|Server)\w+Error: | ssl:default| \[(?:Connect call failed|Multiple exc).*?\)\]", ""),
        (r": ([^:]+(?::\d+)?) \((\d+ attempts); the attempt before failed with: \1\)", r": \1 (\2)"),
    )
)
"""What the library's messages say to programs, and what that is in a shell."""


@contextmanager
def reported_errors(command: str, *, verbose: bool = False) -> Generator[None]:
    """Turn what is expected to go wrong into one line and an exit code, without a traceback.

    Args:
        command: Its name as typed, such as ``primepods list``.
        verbose: Show the log of the package on stderr, and the traceback of what is not an error of ours.
    """
    try:
        with _logging(command, verbose=verbose):
            try:
                yield
            except (ValueError, TypeError):
                _log.debug("refused before any request:", exc_info=True)
                raise
    except KeyboardInterrupt:
        complain(command, "interrupted")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        _close_stdout()
        raise typer.Exit(ExitCode.BROKEN_PIPE) from None
    except (CommandError, primepods.PrimePodsError, OSError, ValueError) as error:
        complain(command, error)
        raise typer.Exit(_exit_code(error)) from None


def fail_for(command: str, errors: Mapping[str, Exception]) -> None:
    """Tell what went wrong with which pods, if anything did, and end with the code of the first error."""
    complain_of(command, errors)
    end_for(errors)


def complain_of(command: str, errors: Mapping[str, Exception]) -> None:
    """Tell what went wrong with which pods, a line each."""
    for pod_id, error in errors.items():
        complain(command, f"{pod_id}: {_describe(error)}")


def end_for(errors: Mapping[str, Exception]) -> None:
    """End the command, by the code of the first error, if there is one."""
    for error in errors.values():
        raise typer.Exit(_exit_code(error))


def _exit_code(error: Exception) -> ExitCode:
    if isinstance(error, CommandError):
        return error.code
    # The client refuses wrong arguments, and what is no setting, before it sends anything.
    if isinstance(error, primepods.ConfigError) or not isinstance(error, primepods.PrimePodsError | OSError):
        return ExitCode.USAGE
    if isinstance(error, primepods.LoginError | primepods.ConnectionLostError):
        return ExitCode.SSH_FAILED
    if isinstance(error, primepods.PodFailedError):
        return ExitCode.POD_FAILED
    return ExitCode.TIMED_OUT if isinstance(error, TimeoutError) else ExitCode.FAILED


@contextmanager
def _logging(command: str, *, verbose: bool) -> Generator[None]:
    """Show the package's log on stderr: warnings, or with ``verbose`` every request."""
    handler = logging.StreamHandler(sys.stderr)
    form = "%(asctime)s %(levelname)s %(message)s" if verbose else f"{command}: %(message)s"
    handler.setFormatter(_ShellFormatter(form))
    log = logging.getLogger("primepods")
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


class _ShellFormatter(logging.Formatter):
    """Shows the library's log in the words of the command."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return a record as a line."""
        return shell_words(super().formatMessage(record))


def _close_stdout() -> None:
    """Let what is still unwritten go nowhere, so that the interpreter's exit does not complain."""
    with suppress(OSError):
        sys.stdout.close()
