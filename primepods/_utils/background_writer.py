"""Output in a background thread, so that a reader that stalls delays nobody."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

_MAX_PENDING: Final = 1 << 20
"""Bytes of messages to keep while nobody reads; later ones are dropped."""

OnWritten = Callable[[OSError | None], object]


class BackgroundWriter:
    """Writer to a file descriptor, in a thread of its own, which does not keep the process running.

    The thread writes to the descriptor itself: one that waits in a file object would hold its lock, and the
    interpreter could not flush that file at its exit.

    Args:
        descriptor: The file descriptor.
        flush: Called before the first write, to write what the file object has buffered.
    """

    def __init__(self, descriptor: int, flush: Callable[[], object] = bool) -> None:
        self._descriptor = descriptor
        self._flush = flush
        self._queue: SimpleQueue[tuple[bytes, OnWritten] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def write(self, data: bytes, on_written: OnWritten) -> None:
        """Write ``data`` later; then call ``on_written`` in the thread, with the error if there was one."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="primepods-output", daemon=True)
            self._thread.start()
        self._queue.put((data, on_written))

    def close(self) -> None:
        """End the thread when all is written."""
        self._queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait until all is written after :meth:`close`, or for ``timeout`` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        with suppress(OSError, ValueError):  # the first write fails, too
            self._flush()
        while (item := self._queue.get()) is not None:
            data, on_written = item
            error: OSError | None = None
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as exc:
                error = exc
            with suppress(RuntimeError):  # the event loop that waited is closed
                on_written(error)


class BackgroundStream(io.RawIOBase):
    """File for messages whose writes never wait: at most 1 MiB is kept for a reader that stalls.

    Args:
        descriptor: The file descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writer = BackgroundWriter(descriptor)
        self._pending = 0
        self._lock = threading.Lock()

    def write(self, data: object, /) -> int:
        """Write later, or drop the data if too much is pending."""
        content = bytes(memoryview(data))  # type: ignore[arg-type]  # the type of RawIOBase is not public
        with self._lock:
            is_full = self._pending + len(content) > _MAX_PENDING
            if not is_full:
                self._pending += len(content)
        if not is_full:
            self._writer.write(content, lambda _: self._forget(len(content)))
        return len(content)

    def finish(self, timeout: float) -> None:
        """Wait until all is written, or for ``timeout`` seconds."""
        self._writer.close()
        self._writer.join(timeout)

    def writable(self) -> bool:
        """Return ``True``."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether the file is a terminal."""
        return os.isatty(self._descriptor)

    def _forget(self, count: int) -> None:
        with self._lock:
            self._pending -= count
