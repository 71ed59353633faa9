"""Output in a background thread, so that a reader that stalls does not block the event loop."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

OnWritten = Callable[[OSError | None], object]

_RETRY_INTERVAL: Final = 0.05


class BackgroundWriter:
    """Writer to a file descriptor, in a daemon thread.

    While a write through the file object waits, it holds the object's lock, and the interpreter cannot flush
    the file at exit. So the thread waits for a reader before the flush, and then writes to the descriptor.

    Args:
        descriptor: The file descriptor.
        flush: Called in the thread before the first write, to empty the buffer of the file object.
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
        """After :meth:`close`, wait until all is written, but at most ``timeout`` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        with suppress(OSError, ValueError):  # the first write reports the error
            self._wait_for_reader()
            self._flush()
        while (item := self._queue.get()) is not None:
            data, on_written = item
            error: OSError | None = None
            try:
                view = memoryview(data)
                while view:
                    try:
                        view = view[os.write(self._descriptor, view) :]
                    except BlockingIOError:  # the descriptor is non-blocking
                        self._wait_for_reader()
            except OSError as exc:
                error = exc
            with suppress(RuntimeError):  # the event loop that waited is closed
                on_written(error)

    def _wait_for_reader(self) -> None:
        try:
            select.select((), (self._descriptor,), ())
        except (OSError, ValueError):  # `select` refuses descriptors from 1,024 on, and pipes on Windows
            time.sleep(_RETRY_INTERVAL)
