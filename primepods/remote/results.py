"""Results of commands on pods, and lines of their output."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

import attrs

from .._utils.plain import ToDict

Stream = Literal["stdout", "stderr"]


@attrs.frozen(kw_only=True)
class CommandResult(ToDict):
    """Result of a command on a pod.

    Attributes:
        exit_code: Its exit code; 128 plus the signal's number if a signal ended it.
        stdout: The end of its standard output, at most 16 MiB, or 64 KiB if the output was streamed.
        stderr: The end of its standard error, with the same limits.
        seconds: Its run time.
        is_truncated: Whether the start of ``stdout`` or ``stderr`` is missing. If you need the whole
            output, write it to a file and download the file.
    """

    exit_code: int
    stdout: str
    stderr: str
    seconds: float
    is_truncated: bool = False


@attrs.frozen(kw_only=True)
class OutputLine(ToDict):
    """Line of a command's output on a pod; ``str(line)`` is its text, so that ``print`` shows it.

    Attributes:
        text: The line without its line end. It comes from the pod and may contain control characters.
        stream: ``"stdout"`` or ``"stderr"``.
        offset: Offset from which a job's output continues after this line; 0 for a line of ``run``.
        node: The number of the pod's node, from 0, for a line of ``run_all``.
    """

    text: str
    stream: Stream
    offset: int = 0
    node: int = 0

    def __str__(self) -> str:
        return self.text


@attrs.frozen(kw_only=True)
class JobState(ToDict):
    """State of a job on a pod.

    Attributes:
        name: Its name.
        started_at: When it began, by the pod's clock.
        ended_at: When it ended, by the pod's clock; ``None`` if it has no exit code.
        exit_code: Its exit code; 128 plus the signal's number if a signal ended it. ``None`` if it runs, or
            has ended without one, for example because the pod was restarted.
        is_running: Whether it runs.
    """

    name: str
    started_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    is_running: bool


@attrs.frozen
class UploadSize:
    """Size of an upload.

    Attributes:
        files: Number of files and links.
        bytes: Total size of the files.
    """

    files: int
    bytes: int


OnLine = Callable[[OutputLine], Awaitable[object] | object]
"""Callback for each line of output; it may be async, except in the blocking client."""
OnProgress = Callable[[int], Awaitable[object] | object]
"""Callback for the bytes copied so far; it may be async, except in the blocking client."""
