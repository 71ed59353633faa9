"""Processes that share their imports: a server imports modules once, and forks for each module to run.

`python -m tests.support.fork_server MODULE…` reads a line of JSON for each process and prints its id.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.readme_blocks import ROOT


class Fork:
    """A process of a fork server.

    Args:
        pid: Its id, which is that of its session, too.
        log: The file with its output.
    """

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log
        self._handle = os.pidfd_open(pid)

    def send(self, number: int) -> None:
        """Send a signal."""
        signal.pidfd_send_signal(self._handle, number)

    def wait(self, timeout: float = 250.0) -> None:
        """Return when it has ended."""
        if not select.select([self._handle], [], [], timeout)[0]:
            self.send(signal.SIGKILL)
            raise TimeoutError(f"process {self.pid} has not ended within {timeout} s: {self.log.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, and return when it has ended."""
        self.send(number)
        self.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return not select.select([self._handle], [], [], 0)[0]

    def __del__(self) -> None:
        os.close(self._handle)


class ForkServer:
    """A process that has imported modules, in an environment that its forks can add to.

    Args:
        modules: What it imports.
        environment: Its environment.
    """

    def __init__(self, modules: Iterable[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", *modules],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> Fork:
        """Start a module as a program; its output goes to a file, in whose folder it runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        log.touch()
        order = {
            "argv": [module, *arguments],
            "environment": dict(environment or {}),
            "log": str(log),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Fork(int(self._process.stdout.readline()), log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not killed: it takes notice of its forks.
        self._process.communicate()


def reap() -> None:
    """Take notice of forks that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def become(order: dict[str, Any]) -> None:
    """Run a module in this process, which has just been forked."""
    os.setsid()
    log = Path(order["log"])
    os.chdir(log.parent)
    log_handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for handle, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log_handle, 1), (log_handle, 2)):
        os.dup2(handle, target)
    os.environ.update(order["environment"])
    tempfile.tempdir = None  # what the environment says
    sys.argv = list(order["argv"])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def serve() -> None:
    """Fork for each line until there are no more; each fork returns when its module has ended."""
    for module in sys.argv[1:]:
        import_module(module)
    # What is shared stays shared: no garbage collection of a fork touches it.
    gc.collect()
    gc.freeze()
    while line := sys.stdin.readline():
        # Not before: until then, the id belongs to the fork that `run` is told of.
        reap()
        if (pid := os.fork()) == 0:
            return become(json.loads(line))
        print(pid, flush=True)  # noqa: T201 - what `run` reads
    return reap()


if __name__ == "__main__":
    serve()
