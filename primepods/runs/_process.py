"""The process of a detached run, and when it can be stopped: by SIGTERM, while its lease handles that."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

from ._run import STOP_SIGNALS, Run


@contextmanager
def delayed_stop(*, is_delayed: bool = True) -> Generator[None]:
    """Delay the signals that stop a run until the end of the block, or let them arrive in the block.

    A process that is started in the block delays them, too.
    """
    if sys.platform == "win32":
        yield
        return
    how = signal.SIG_BLOCK if is_delayed else signal.SIG_UNBLOCK
    before = signal.pthread_sigmask(how, {*STOP_SIGNALS, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stop() -> None:
    """Ignore the requests of `primepods stop` from now on, also delayed ones: the run has ended."""
    for number in STOP_SIGNALS:
        with suppress(ValueError):  # another thread than the main one
            signal.signal(number, signal.SIG_IGN)


def start_process(run: Run, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process for a run, in a new session and with the run's lock; log its messages.

    A stop waits until the process can handle it.
    """
    processes: list[subprocess.Popen[bytes]] = []

    def start(lock: int) -> int:
        with (run.path / "log").open("ab") as log, delayed_stop():
            processes.append(
                subprocess.Popen(  # noqa: S603 - this command
                    [sys.executable, "-m", "primepods", "_run", str(lock), "--", run.name],
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
