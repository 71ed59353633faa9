"""Processes of tests: with pipes for text, and killed at the end of their blocks."""

import os
import subprocess
import sys
from types import TracebackType
from typing import IO, Any


class Process(subprocess.Popen[str]):
    """A process whose output a test reads; with ``stdin=subprocess.PIPE``, also what it is told."""

    stdin: IO[str]
    stdout: IO[str]
    stderr: IO[str]

    def __init__(self, *argv: str, stdin: int | None = None, **options: Any) -> None:
        pipe = subprocess.PIPE
        super().__init__(argv, stdin=stdin, stdout=pipe, stderr=pipe, text=True, **options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Kill it, if it has not ended."""
        self.kill()
        super().__exit__(kind, error, at)

    def line(self) -> str:
        """Return its next line of output."""
        return self.stdout.readline().removesuffix("\n")


def start_python(*words: str, environment: dict[str, str] | None = None, **options: Any) -> Process:
    """Start Python with these arguments, and these variables beside those of the test."""
    return Process(sys.executable, *words, env={**os.environ, **(environment or {})}, **options)


def start_command(*words: str) -> Process:
    """Start the command."""
    return start_python("-m", "primepods", *words)
