"""What a command on a pod leaves, and what it prints meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import attrs

from .._utils.plain import ToDict

Stream = Literal["stdout", "stderr"]


@attrs.frozen(kw_only=True)
class CommandResult(ToDict):
    """How a command on a pod ended, and what it printed.

    Attributes:
        exit_code: Its exit code; 128 and the signal's number for one that a signal has ended.
        stdout: The end of its standard output: at most 16 MiB, at most 64 KiB of what was streamed.
        stderr: The same of its standard error.
        seconds: How long it ran.
        is_truncated: Whether one of them lacks its beginning. Download a file where all of it matters.
    """

    exit_code: int
    stdout: str
    stderr: str
    seconds: float
    is_truncated: bool = False


@attrs.frozen(kw_only=True)
class OutputLine(ToDict):
    """A line that a command on a pod has printed; ``str`` of it is its text, so that ``print`` shows it.

    Attributes:
        text: The line without its end. It comes from the pod: it may hold anything.
        stream: Where it was printed: ``"stdout"`` or ``"stderr"``.
    """

    text: str
    stream: Stream

    def __str__(self) -> str:
        return self.text


OnLine = Callable[[OutputLine], Awaitable[object] | object]
"""Callback for each line of output; it may be async, except in the blocking client."""
OnProgress = Callable[[int], Awaitable[object] | object]
"""Callback for the bytes copied so far; it may be async, except in the blocking client."""
