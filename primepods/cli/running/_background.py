"""Processes of runs: this process, or one that continues without the terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

import typer

from primepods.runs import EachRunner, Run, Runner, delayed_stop, ignore_stop, start_process

from .._shared.command import Api
from .._shared.errors import CommandError, ExitCode, reported_errors
from .._shared.stderr import wait_for_stderr
from .._shared.table import print_info, write
from ._run_host import Terminal

_POLL_INTERVAL = 0.2
_CHUNK_SIZE = 65_536


def run_here(api: Api, run: Run, variables: dict[str, str]) -> int:
    """Execute a run in this process, and return its exit code; its last line is the verdict.

    The record stays if the run is detached, or if `primepods stop` waits for its verdict.
    """
    with delayed_stop():
        code = _run_here(api, run, variables)
        ignore_stop()
    return code


def _run_here(api: Api, run: Run, variables: dict[str, str]) -> int:
    host = Terminal(api.command)
    runner = (EachRunner if run.record.pods else Runner)(host, run, variables)
    code: int = ExitCode.FAILED
    try:
        with reported_errors(api.command):
            try:
                code = api.run(runner.execute)
            finally:
                # Before the error is shown, and while the live line's stderr is open.
                host.waiting("")
    except typer.Exit as exc:
        code = exc.exit_code
    finally:
        # If this process could not take over the run's lease, another process may try again.
        if not runner.must_take_over:
            try:
                run.end(code, runner.verdict(code))
            except OSError as exc:
                host.problem(run.describe_problem(exc))
        if not run.record.is_detached:
            if run.record.verdict:
                print_info(run.record.verdict)
            if not runner.interruptions.is_from_stop:
                run.remove()
    return code


def run_in_background(api: Api, run: Run, variables: dict[str, str]) -> NoReturn:
    """Start a run, show its messages until its command has started, and print its name.

    Raises:
        typer.Exit: With code 0 if the command has started. If the run ended before that, or Ctrl-C was
            pressed, the code is the run's, or 1 if it has none.
        CommandError: The process has died, and the pod may be billed.
    """
    process = start_process(run, variables)
    shown = show(run, only_messages=True)
    is_interrupted = False
    try:
        while process.poll() is None and run.reload().job is None:
            next(shown)
            time.sleep(_POLL_INTERVAL)
    except KeyboardInterrupt:
        is_interrupted = True
        with suppress(ProcessLookupError):
            run.stop()
        process.wait()
    if next(shown, run) is run:
        # Ctrl-C has ended the generator: show all messages again, since the last ones may be new.
        next(show(run, only_messages=True))
    record, command = run.reload(), api.command.rpartition(" ")[0]
    has_ordered = record.lease_file is not None or run.may_have_pod
    if process.returncode is not None and record.exit_code is None and has_ordered:
        problem = f"the process of {run.name} has died, and its pod{'s' * (record.pods > 1)} may be billed"
        raise CommandError(f"{problem}. To take over the run, run `{command} attach {run.name}`")
    if process.returncode is not None and record.exit_code is None and record.job is None:
        run.remove()
        raise CommandError(f"the process of {run.name} was killed before its order: nothing was rented")
    if record.verdict:
        print_info(record.verdict)
    if record.job is None or (is_interrupted and record.exit_code == ExitCode.INTERRUPTED):
        run.remove()
        raise typer.Exit(ExitCode.FAILED if record.exit_code is None else record.exit_code)
    process.returncode = 0  # otherwise Popen would warn that it still runs
    print_info(f"The command has started. To see its output, run `{command} attach {run.name}`.")
    if record.watchdog is None:
        print_info("Its limit holds while this machine is awake: see --watchdog of `primepods run`.")
    write(f"{run.name}\n")
    raise typer.Exit((record.exit_code or 0) if is_interrupted else 0)


def show(run: Run, *, tail: int | None = None, only_messages: bool = False) -> Iterator[None]:
    """Copy a run's output and messages to stdout and stderr; each step copies the new text.

    Each file is shown from its last ``tail`` lines on, by default from its start. On several nodes, each line
    of output begins with the node's number.
    """
    with ExitStack() as files:
        opened: dict[Path, BinaryIO] = {}
        while True:
            nodes = 0 if only_messages else run.record.nodes
            shown = [(run.path / "log", "")]
            for node in range(nodes):
                label = f"{node}: " if nodes > 1 else ""
                shown += [(path, label) for path in run.files(node).values()]
            for path, label in shown:
                if path not in opened:
                    path.touch(mode=0o600)
                    opened[path] = files.enter_context(path.open("rb"))
                    _seek_last_lines(opened[path], tail)
                if path.name == "log":
                    _show_messages(opened[path])
                    continue
                stream = sys.stdout if path.name.startswith("stdout") else sys.stderr
                wait_for_stderr()
                _copy(opened[path], stream, label, is_last=run.record.exit_code is not None)
                stream.flush()
            yield


def _show_messages(file: BinaryIO) -> None:
    """Show the complete lines of the rest of a file."""
    while (line := file.readline()).endswith(b"\n"):
        print_info(line.decode(errors="replace").removesuffix("\n"))
    file.seek(-len(line), os.SEEK_CUR)


def _seek_last_lines(file: BinaryIO, tail: int | None) -> None:
    if tail is None:
        return
    start, data = file.seek(0, os.SEEK_END), b""
    while start and len(data.splitlines()) <= tail:
        # Double the data, so that the time is linear.
        size = min(start, max(_CHUNK_SIZE, len(data)))
        start -= size
        file.seek(start)
        data = file.read(size) + data
    lines = data.splitlines(keepends=True)
    file.seek(start + sum(map(len, lines[: max(0, len(lines) - tail)])))


def _copy(file: BinaryIO, stream: TextIO, label: str, *, is_last: bool) -> None:
    """Copy the rest of a file; with a label, leave an incomplete line for later unless ``is_last``."""
    binary = getattr(stream, "buffer", None)
    while piece := file.readline() if label else file.read(_CHUNK_SIZE):
        if label and not piece.endswith(b"\n"):
            if not is_last:
                file.seek(-len(piece), os.SEEK_CUR)
                return
            piece += b"\n"
        data = label.encode() + piece
        if binary is None:
            stream.write(data.decode(errors="replace"))
        else:
            binary.write(data)
