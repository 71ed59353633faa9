"""Errors of the command: exit codes, and one line on stderr for each error."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Final
from urllib.parse import unquote

import typer

import primepods

from .table import print_info, write

_POD_PATH: Final = re.compile(r"/pods/(?!status$|history$)([^/]+)(?:/logs?)?$")
"""Path of a request about one pod, with its id."""
SEE_LISTS: Final = "see `primepods list` and `primepods runs`, and `primepods history` for terminated pods"
_log = logging.getLogger("primepods.cli")


class ExitCode(IntEnum):
    """Exit codes of the command."""

    FAILED = 1
    USAGE = 2
    TIMED_OUT = 3
    POD_FAILED = 4
    BUDGET_EXCEEDED = 5
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143
    SSH_FAILED = 255


EXIT_CODES: Final = (
    f"0 success, {ExitCode.FAILED} an error of the API or the connection, {ExitCode.USAGE} wrong usage or "
    f"settings, {ExitCode.TIMED_OUT} timed out, {ExitCode.POD_FAILED} a pod failed, "
    f"{ExitCode.BUDGET_EXCEEDED} a budget was reached, {ExitCode.INTERRUPTED} interrupted, "
    f"{ExitCode.BROKEN_PIPE} closed pipe, {ExitCode.TERMINATED} terminated, {ExitCode.SSH_FAILED} ssh failed"
)
"""Text for `primepods --help` and the skill. `emulator` has two more codes, for commands that cannot run."""
SIGNAL_EXIT_CODE: Final = 128
"""After a signal, a shell reports this plus the signal's number as the exit code."""


class CommandError(Exception):
    """Error of a command, with the exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def print_error(command: str, error: Exception | str) -> None:
    """Write one line to stderr: the command and the error. Ignore a closed stderr."""
    print_info(f"{command}: {describe_error(error)}")


def describe_error(error: Exception | str) -> str:
    """Return the line about an error for a terminal."""
    if (pod_id := _missing_pod(error)) is not None:
        return f"no pod has the name or id {pod_id!r}: {SEE_LISTS}"
    text = reword_for_shell(str(error))
    if isinstance(error, primepods.RateLimitError) and error.retry_after is not None:
        return f"{text} Try again in {math.ceil(error.retry_after):,} s."
    return text


def _missing_pod(error: Exception | str) -> str | None:
    """Return the id of the pod that does not exist according to the API; ``None`` for other errors."""
    # A 404 without a JSON object may come from a gateway (imagined).
    if isinstance(error, primepods.NotFoundError) and isinstance(error.body, dict):
        found = _POD_PATH.search(error.path)
        return None if found is None else unquote(found[1])
    return None


def reword_for_shell(text: str) -> str:
    """Replace Python in a message of the library, such as ``pods.history()`` by `primepods history`."""
    for pattern, words in _REPLACEMENTS:
        text = pattern.sub(words, text)
    return text


def _option(found: re.Match[str]) -> str:
    """Return the option of a matched parameter: ``--max-price`` for ``max_price``."""
    name = "team" if found[1] == "team_id" else found[1]
    return f"--{name.replace('_', '-')}"


_REPLACEMENTS: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"Pass an `id` from (`\w+\.\w+\(\)`)", r"Give an id from \1"),
        (r"`?(?:client\.)?pods\.(history|list|get|logs|create|sweep)\(\)`?", r"`primepods \1`"),
        (r"`?(?:client\.)?pods\.delete\('([^']*)'\)`?", r"`primepods delete \1`"),
        (r"`?(?:client\.)?disks\.list\(\)`?", "`primepods disks`"),
        (r"`?(?:client\.)?ssh_keys\.list\(\)`?", "`primepods ssh-keys list`"),
        (r"`?(?:client\.)?account\.teams\(\)`?", "`primepods teams`"),
        (r"pods\.wait_ready or ", ""),
        (r"\(ssh_options=\['-i', FILE\], or", "(--ssh-option=-i --ssh-option=FILE, or"),
        (r"\bssh_options\b", "--ssh-option"),
        (r"as ssh_command\b", "as --ssh-command"),
        (r" Pass the command for the pod as command=\.", ""),
        (r"`?pods\.wait_ready\('([^']*)'\)`?", r"`primepods wait \1`"),
        (r"`?pods\.wait_gone\(\)`?", "`primepods wait --until gone`"),
        (r"`?availability\.(?:cheapest|find|gpus)\(\)`?", "`primepods offers`"),
        (r"(?<=\()argument (base_url|context|team_id)(?=\))", _option),
        (r"^(timeout|interval|older_than|max_price|max_hours|max_spend)(?= must be a )", _option),
        (r"the argument api_key(?:, | or )|pass it as api_key or |, or share one client", ""),
        (r"^(?:pod|disk|key|team)_id ", "the id "),
        (r"trying the next spec\b", "trying the next offer"),
        (r"`(?:PodSpec\.)?max_price`", "--max-price"),
        (r"( and set PRIME_API_KEY\.)$", r"\1 Without an account, see `primepods demo`."),
        # Delete technical details.
        (r"(?:^|(?<=: ))\[Errno -?\d+\] ", ""),
        (r"\b(?:Client|Server)\w+Error: | ssl:default| \[(?:Connect call failed|Multiple exc).*?\)\]", ""),
        # Delete a repeated cause: "reset (3 attempts; the previous attempt failed with reset)".
        (
            r": ([^:]+(?::\d+)?(?: \[[^]]+\])?) \((\d+ attempts); the previous attempt failed with \1\)",
            r": \1 (\2)",
        ),
    )
)
"""Patterns in the library's messages, each with its replacement for the shell."""


@contextmanager
def reported_errors(command: str, *, verbose: bool = False) -> Generator[None]:
    """Turn expected errors into one line and an exit code, without a traceback.

    Args:
        command: The command's name as typed, such as ``primepods list``.
        verbose: Whether to show the package's whole log on stderr, not only warnings. It then includes the
            tracebacks of rejected arguments.
    """
    from .stderr import background_stderr

    with background_stderr():
        try:
            with _logging(command, verbose=verbose):
                yield
        except KeyboardInterrupt:
            print_error(command, "interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            # Discard unwritten output, so that the interpreter does not fail to flush it at exit.
            with suppress(OSError):
                sys.stdout.close()
            raise typer.Exit(ExitCode.BROKEN_PIPE) from None
        except (CommandError, primepods.PrimePodsError, OSError, ValueError) as error:
            print_error(command, error)
            if (pod_id := _missing_pod(error)) is not None:
                from primepods.remote import note_hosts

                note_hosts(removed=[pod_id])
            raise typer.Exit(exit_code(error)) from None


def print_errors(command: str, errors: Mapping[str, Exception | str]) -> None:
    """Print the errors of pods or disks by id, one per line."""
    for pod_id, error in errors.items():
        print_error(command, f"{pod_id}: {describe_error(error)}")


def print_errors_and_exit_if_any(command: str, errors: Mapping[str, Exception]) -> None:
    """Print the errors, and exit with the code of the first; return if there are none."""
    print_errors(command, errors)
    if errors:
        raise typer.Exit(exit_code(next(iter(errors.values()))))


def exit_code(error: Exception) -> int:
    """Return the exit code for an error."""
    if isinstance(error, CommandError):
        return error.code
    # A `RunError` knows its own.
    if isinstance(error, primepods.PrimePodsError) and isinstance(
        code := getattr(error, "run_exit_code", None), int
    ):
        return code
    # Two ValueErrors are not rejected arguments: io.UnsupportedOperation, which is also an OSError, and the
    # error of output that stdout cannot encode.
    is_failure = isinstance(error, OSError | UnicodeEncodeError)
    if isinstance(error, primepods.ConfigError) or (isinstance(error, ValueError) and not is_failure):
        return ExitCode.USAGE
    if isinstance(error, primepods.LoginError | primepods.ConnectionLostError):
        return ExitCode.SSH_FAILED
    if isinstance(error, primepods.BudgetExceededError):
        return ExitCode.BUDGET_EXCEEDED
    if isinstance(error, primepods.PodFailedError):
        return ExitCode.POD_FAILED
    return ExitCode.TIMED_OUT if isinstance(error, TimeoutError) else ExitCode.FAILED


@contextmanager
def _logging(command: str, *, verbose: bool) -> Generator[None]:
    """Show the package's log on stderr: warnings, or with ``verbose`` all records."""
    log = logging.getLogger("primepods")
    if any(isinstance(handler, _Handler) for handler in log.handlers):
        yield  # an outer `reported_errors` already shows the log
        return
    handler = _Handler()
    line_format = "%(asctime)s %(levelname)s %(message)s" if verbose else f"{command}: %(message)s"
    handler.setFormatter(logging.Formatter(line_format))
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)
    log.propagate = False
    try:
        yield
    except ValueError:
        _log.debug("an argument or a value was rejected:", exc_info=True)
        raise
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


class _Handler(logging.Handler):
    """Log handler for stderr, also while a live line has replaced it; see :func:`reword_for_shell`."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):
            text = reword_for_shell(self.format(record))
            if record.levelno < logging.WARNING or record.exc_info:
                write(f"{text}\n", err=True)
            else:
                print_info(text)
