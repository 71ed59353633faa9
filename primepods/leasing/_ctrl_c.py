"""Interception of Ctrl-C while pods are released in the main thread's event loop.

Python may raise ``KeyboardInterrupt`` between any two instructions of the main thread. If the event loop is
passing a response to a task at that moment, the response may be lost. A task that deletes a pod would then
wait until a timeout, or forever.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Final

Handler = Callable[[int, FrameType | None], Any]

# If the loop has not reacted to a Ctrl-C for this many seconds, the next Ctrl-C raises.
_BLOCKED_LOOP_TIMEOUT: Final = 1.0


class _CtrlC:
    """Wrapper of the SIGINT handler while pods are released."""

    def __init__(self) -> None:
        self._callbacks: dict[Callable[[], None], asyncio.AbstractEventLoop] = {}
        self._wrapped: Handler = signal.default_int_handler
        self._wrapper: Handler | None = None
        self._pending_since: float | None = None
        """Time of the first Ctrl-C to which the loop has not reacted."""
        if sys.platform != "win32":
            # A forked child releases nothing, so its Ctrl-C must work as usual.
            os.register_at_fork(after_in_child=self._callbacks.clear)

    def intercept(self, callback: Callable[[], None]) -> None:
        """Let a Ctrl-C that would raise ``KeyboardInterrupt`` call ``callback`` in the running loop instead.

        In a thread other than the main one, this does nothing, since Ctrl-C raises nothing there.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if handler is not self._wrapper and callable(handler):
            # Wrap each handler anew: other code's handler may call an earlier wrapper, and a shared wrapper
            # would then call itself without end.
            wrapper = partial(self._on_sigint, handler)
            # A subinterpreter, which gets no signals, raises ValueError.
            with suppress(ValueError):
                signal.signal(signal.SIGINT, wrapper)
                self._wrapped, self._wrapper = handler, wrapper
        self._callbacks[callback] = asyncio.get_running_loop()

    def stop_intercepting(self, callback: Callable[[], None]) -> None:
        """Stop calling ``callback``; after the last callback, restore the earlier handler."""
        if self._callbacks.pop(callback, None) is None or self._callbacks or self._wrapper is None:
            return
        # Other code may have installed another handler since.
        if signal.getsignal(signal.SIGINT) is self._wrapper:
            signal.signal(signal.SIGINT, self._wrapped)
        self._wrapper = self._pending_since = None

    def _clear_pending(self) -> None:
        self._pending_since = None

    def _on_sigint(self, handler: Handler, number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except KeyboardInterrupt:
            running = [(call, loop) for call, loop in self._callbacks.items() if loop.is_running()]
            if not running:
                raise
            now = running[0][1].time()
            if self._pending_since is None:
                self._pending_since = now
            elif now - self._pending_since >= _BLOCKED_LOOP_TIMEOUT:
                # The user's code blocks the loop: interrupt it.
                raise
            for callback, loop in running:
                loop.call_soon_threadsafe(callback)
                loop.call_soon_threadsafe(self._clear_pending)


ctrl_c: Final = _CtrlC()
