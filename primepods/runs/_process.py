"""The process of a detached run."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

from ._run import Run

_SHELL_LINE = 'trap "" USR1 USR2; exec "$0" "$@"'
"""Until the process can handle the signals of `primepods stop`, it ignores them."""


def start_process(run: Run, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process for a run, in a new session and with the run's lock; log its messages."""
    argv = [sys.executable, "-m", "primepods", "_run", run.name]
    processes: list[subprocess.Popen[bytes]] = []

    def start(lock: int) -> int:
        with (run.path / "log").open("ab") as log:
            processes.append(
                subprocess.Popen(  # noqa: S603 - this command
                    ["/bin/sh", "-c", _SHELL_LINE, *argv, str(lock)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=[lock],
                )
            )
        return processes[0].pid

    run.lend(start)
    [process] = processes
    # Send the variables through a pipe, so that neither the command line nor a file shows secrets.
    if process.stdin is not None:
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(variables).encode())
    return process
