"""How a command ends: its exit codes, and one line on stderr for what went wrong."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum

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


class CommandError(Exception):
    """The command cannot do what was asked; its text is the line that the user sees."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def complain(command: str, message: object) -> None:
    """Write one line to stderr: which command, and what is wrong."""
    typer.echo(f"{command}: {printable(str(message), longest=_LONGEST)}", err=True)


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
        complain(command, f"{pod_id}: {error}")


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
    if isinstance(error, primepods.PodFailedError):
        return ExitCode.POD_FAILED
    return ExitCode.TIMED_OUT if isinstance(error, TimeoutError) else ExitCode.FAILED


@contextmanager
def _logging(command: str, *, verbose: bool) -> Generator[None]:
    """Show the package's log on stderr: warnings, or with ``verbose`` every request."""
    handler = logging.StreamHandler(sys.stderr)
    form = "%(asctime)s %(levelname)s %(message)s" if verbose else f"{command}: %(message)s"
    handler.setFormatter(logging.Formatter(form))
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


def _close_stdout() -> None:
    """Let what is still unwritten go nowhere, so that the interpreter's exit does not complain."""
    with suppress(OSError):
        sys.stdout.close()
