"""Background writer for stderr, so that a reader that stalls cannot delay the deletion of pods."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, TextIO

from primepods.remote import BackgroundWriter

_MAX_PENDING: Final = 1 << 20
"""Max bytes of messages to keep for a reader that stalls; further messages are dropped."""
_MAX_DELAY: Final = 2.0
"""Max seconds to wait for a reader at the end, and before output to the same file."""


@contextmanager
def background_stderr() -> Generator[None]:
    """Write to stderr in a background thread while the block runs.

    At the end of the block, wait at most two seconds for pending messages. A stderr that is closed or in
    memory is not changed.
    """
    stderr = sys.stderr
    try:
        raw = _BackgroundStream(stderr.fileno())
        stderr.flush()
    except (AttributeError, OSError, ValueError):  # closed, or in memory
        yield
        return
    background = io.TextIOWrapper(raw, encoding=stderr.encoding, errors=stderr.errors, write_through=True)
    sys.stderr = background
    try:
        yield
    finally:
        sys.stderr = stderr
        background.detach()
        raw.finish()


def wait_for_stderr() -> None:
    """If stdout and stderr are the same file, wait at most two seconds until pending messages are written."""
    raw = getattr(sys.stderr, "buffer", None)
    if isinstance(raw, _BackgroundStream) and raw.is_same_file(sys.stdout):
        raw.wait()


def finish_stderr() -> None:
    """Close the background stream, and wait at most two seconds for its pending messages."""
    raw = getattr(sys.stderr, "buffer", None)
    if isinstance(raw, _BackgroundStream):
        raw.finish()


class _BackgroundStream(io.FileIO):
    """Stream for messages, whose writes never wait; it keeps at most 1 MiB for a reader that stalls.

    Args:
        descriptor: The file descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._writer = BackgroundWriter(descriptor)
        self._pending = 0
        self._changed = threading.Condition()

    def write(self, data: Any, /) -> int:
        content = bytes(data)
        with self._changed:
            is_full = self._pending + len(content) > _MAX_PENDING
            if not is_full:
                self._pending += len(content)
        if not is_full:
            self._writer.write(content, lambda _: self._forget(len(content)))
        return len(content)

    def is_same_file(self, stream: TextIO) -> bool:
        """Return whether a stream is the same terminal, pipe or file."""
        try:
            return os.path.sameopenfile(self.fileno(), stream.fileno())
        except (OSError, ValueError):  # closed, or in memory
            return False

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending == 0, _MAX_DELAY)

    def finish(self) -> None:
        self._writer.close()
        self._writer.join(_MAX_DELAY)

    def _forget(self, count: int) -> None:
        with self._changed:
            self._pending -= count
            self._changed.notify_all()
