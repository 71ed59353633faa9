"""Ctrl-C while pods are released in the main thread's event loop: noted instead of raised.

Python raises ``KeyboardInterrupt`` between any two instructions of the main thread. In an event loop these
can be the ones that hand a response to the task that awaits it: the deletion of a pod would then wait for a
response that has come, until its timeout or forever.
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

_BLOCKED: Final = 1.0
"""Seconds after which a loop that has not heard of a Ctrl-C is taken for blocked: the next one is raised."""


class _CtrlC:
    """Wrapper of the SIGINT handler while there are releases; used in the main thread only."""

    def __init__(self) -> None:
        self._releases: dict[Callable[[], None], asyncio.AbstractEventLoop] = {}
        self._before: Handler = signal.default_int_handler
        self._ours: Handler | None = None
        self._unheard_since: float | None = None
        if hasattr(os, "register_at_fork"):
            # What is released is the parent's; a Ctrl-C of the child is the child's.
            os.register_at_fork(after_in_child=self._releases.clear)

    def hold_back(self, note: Callable[[], None]) -> None:
        """Call ``note`` in the running loop where Ctrl-C would raise; outside the main thread it never does.

        Args:
            note: What to call; the same once more changes nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if handler is not self._ours and callable(handler):
            # One for each that is found: a handler set meanwhile may call the last one of ours.
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
            elif now - self._unheard_since >= _BLOCKED:
                # By what somebody waits for to end, and by nothing of ours.
                raise
            for note, loop in running:
                loop.call_soon_threadsafe(note)
                loop.call_soon_threadsafe(self._heard)


ctrl_c: Final = _CtrlC()
