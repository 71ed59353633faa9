"""Runs in this process, and in one that outlives the terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import BinaryIO, NoReturn

import typer

from primepods.runs import Run

from ._command import Api
from ._errors import ExitCode, reported_errors
from ._runner import Runner
from ._table import print_info

_POLL_INTERVAL = 0.2
_CHUNK_SIZE = 65_536


def run_here(api: Api, run: Run, variables: dict[str, str]) -> int:
    """Do a run in this process, and return its exit code."""
    if not run.claim():
        # Another process has taken it over.
        return 0
    run.save(pid=os.getpid())
    code: int = ExitCode.FAILED
    try:
        with reported_errors(api.command):
            code = api.run(Runner(api.command, run, variables).execute)
    except typer.Exit as exc:
        code = exc.exit_code
    finally:
        run.save(exit_code=code, ended_at=time.time())
        if not run.record.is_detached:
            run.remove()
    return code


def start_process(run: Run, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the process of a run: in a session of its own, with its messages in a file."""
    with (run.path / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - this command
            [sys.executable, "-m", "primepods", "_run", run.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    # Secrets are in no argument and in no file.
    if process.stdin is not None:
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(variables).encode())
    return process


def run_in_background(api: Api, run: Run, variables: dict[str, str]) -> NoReturn:
    """Start a run, show its messages until its command has started, and print its name.

    Raises:
        typer.Exit: Always.
    """
    process = start_process(run, variables)
    shown = show(run, only_messages=True)
    try:
        while process.poll() is None and run.reload().job is None:
            next(shown)
            time.sleep(_POLL_INTERVAL)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
    next(shown)
    code = run.reload().exit_code
    if run.record.job is None:
        run.remove()
        raise typer.Exit(process.wait() if code is None else code)
    process.returncode = 0  # it outlives this process, of which Popen would warn
    print_info(f"It goes on without this terminal: {api.command.rpartition(' ')[0]} attach {run.name}")
    typer.echo(run.name)
    raise typer.Exit


def show(run: Run, *, tail: int | None = None, only_messages: bool = False) -> Iterator[None]:
    """Write the output and the messages of a run to stdout and stderr, all that there is at each step."""
    names = ("log",) if only_messages else ("log", "stderr", "stdout")
    with ExitStack() as files:
        opened: dict[str, BinaryIO] = {}
        for name in names:
            path = run.path / name
            path.touch(mode=0o600)
            opened[name] = files.enter_context(path.open("rb"))
            if tail is not None:
                lines = opened[name].read().splitlines(keepends=True)
                opened[name].seek(0 if tail >= len(lines) else sum(map(len, lines[: len(lines) - tail])))
        while True:
            for name, file in opened.items():
                stream = sys.stdout if name == "stdout" else sys.stderr
                binary = getattr(stream, "buffer", None)
                while piece := file.read(_CHUNK_SIZE):
                    if binary is None:
                        stream.write(piece.decode(errors="replace"))
                    else:
                        binary.write(piece)
                stream.flush()
            yield
