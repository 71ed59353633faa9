"""Child processes of a benchmark: each reads its orders, works, and writes its result, all as JSON lines."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .server import environment

_READY = "up\n"


class Child:
    """A child process, started and waiting for its orders."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def wait_until_ready(self) -> None:
        """Wait until the process has imported its modules."""
        assert self._stdout.readline() == _READY

    def order(self, *arguments: Any) -> None:
        """Start the work of the process."""
        self._stdin.write(json.dumps(arguments) + "\n")
        self._stdin.flush()

    def result(self) -> Any:
        """Return the result of the work."""
        return json.loads(self._stdout.read())


@contextmanager
def children(module: str, count: int) -> Iterator[list[Child]]:
    """Start processes of a module that calls :func:`serve` on ``--one``; wait until all are ready."""
    command = [sys.executable, "-m", module, "--one"]
    with ExitStack() as stack:
        started = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
            )
            for _ in range(count)
        ]
        running = [Child(stack.enter_context(process)) for process in started]
        for child in running:
            child.wait_until_ready()
        yield running


def serve(work: Callable[..., Coroutine[Any, Any, Any]]) -> None:
    """Run as a child process: read the orders, work, write the result."""
    sys.stdout.write(_READY)
    sys.stdout.flush()
    print(json.dumps(asyncio.run(work(*json.loads(sys.stdin.readline())))), flush=True)
