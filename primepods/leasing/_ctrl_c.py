"""Ctrl-C while pods are released in the main thread's event loop: noted instead of raised.

Python raises ``KeyboardInterrupt`` between any two instructions of the main thread. If that happens while the
event loop hands a response to the task that awaits it, the response is lost, and the deletion of a pod would
wait for it until its timeout or forever.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Final

Handler = Callable[[int, FrameType | None], Any]

_BLOCKED_AFTER: Final = 1.0
"""Seconds after a Ctrl-C to which the loop has not reacted: the next Ctrl-C raises ``KeyboardInterrupt``."""


class _CtrlC:
    """Wrapper of the SIGINT handler while there are releases; used in the main thread only."""

    def __init__(self) -> None:
        self._releases: dict[Callable[[], None], asyncio.AbstractEventLoop] = {}
        self._before: Handler = signal.default_int_handler
        self._ours: Handler | None = None
        self._unheard_since: float | None = None
        if hasattr(os, "register_at_fork"):
            # A forked child releases nothing, so its Ctrl-C must work as usual.
            os.register_at_fork(after_in_child=self._releases.clear)

    def hold_back(self, note: Callable[[], None]) -> None:
        """Let Ctrl-C call ``note`` in the running loop instead of raising ``KeyboardInterrupt``.

        Does nothing outside the main thread, where Ctrl-C never raises.

        Args:
            note: The callback; registering it twice has no effect.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if handler is not self._ours and callable(handler):
            # A new wrapper for each handler: a handler installed later may call our previous wrapper.
            ours = partial(self._on_sigint, handler)
            # Not in a subinterpreter, which gets no signals.
            with suppress(ValueError):
                signal.signal(signal.SIGINT, ours)
                self._before, self._ours = handler, ours
        self._releases[note] = asyncio.get_running_loop()

    def let_go(self, note: Callable[[], None]) -> None:
        """Stop calling ``note``."""
        if self._releases.pop(note, None) is None or self._releases or self._ours is None:
            return
        # A handler set meanwhile is left alone.
        if signal.getsignal(signal.SIGINT) is self._ours:
            signal.signal(signal.SIGINT, self._before)
        self._ours = self._unheard_since = None

    def _heard(self) -> None:
        self._unheard_since = None

    def _on_sigint(self, handler: Handler, number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except KeyboardInterrupt:
            running = [(note, loop) for note, loop in self._releases.items() if loop.is_running()]
            if not running:
                raise
            now = running[0][1].time()
            if self._unheard_since is None:
                self._unheard_since = now
            elif now - self._unheard_since >= _BLOCKED_AFTER:
                # The user's code blocks the loop, and the user wants to interrupt that code.
                raise
            for note, loop in running:
                loop.call_soon_threadsafe(note)
                loop.call_soon_threadsafe(self._heard)


ctrl_c: Final = _CtrlC()
