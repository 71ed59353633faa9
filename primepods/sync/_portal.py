"""Portal through which blocking callers run the asynchronous client.

A client has one event loop in a separate thread (``_loop.Loop``). The loop starts at first use and ends at
``close``, at the interpreter's exit or when the client is garbage-collected. A call (``_call.BlockingCall``)
starts a task in the loop, in the caller's context. The calling thread waits for messages in a queue, which
ask it to run a callback or report the task's end.

anyio's BlockingPortal is not used: it waits for the loop's thread twice per call, continues after Ctrl-C,
hangs after a fork, and may leave locks of its futures locked after Ctrl-C. A ``SimpleQueue`` is not left
locked.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from ..errors import ClientClosedError
from ._call import BlockingCall
from ._loop import LOOPS, Loop, closed_error

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE: Final = __name__.partition(".")[0]


class Portal:
    """Runner of coroutines for blocking callers.

    Args:
        aclose: Closes the client; called in the loop before the loop ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self.is_closed: bool = False
        self._aclose = aclose
        self._loop: Loop | None = None
        self._has_warned = False

    def call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``await function(*args, **kwargs)``; see :class:`BlockingCall`."""
        return self.run(BlockingCall(function, *args, **kwargs))

    def run(self, call: BlockingCall[R], loop: Loop | None = None) -> R:
        """Run ``call`` in ``loop``, by default this process's loop; return its result."""
        loop = loop or self.loop()
        loop.check()
        self._warn_in_loop()
        try:
            return call.run(loop)
        except ClientClosedError:
            LOOPS.exit_daemon_thread()
            raise

    def loop(self) -> Loop:
        """Return the loop of this process; start it if needed.

        Raises:
            ClientClosedError: The client is closed, or the interpreter is exiting.
        """
        loop = self._loop
        if loop is not None and not loop.is_inherited:
            return loop
        with LOOPS.lock:
            if self.is_closed or LOOPS.is_exiting:
                LOOPS.exit_daemon_thread()
                raise closed_error(
                    "This client is closed." if self.is_closed else "The interpreter is exiting."
                )
            loop = self._loop
            if loop is None or loop.is_inherited:
                loop = Loop(self._aclose)
                loop.start()
                self._loop = loop
                if self.is_closed:
                    # A finalizer or signal handler in this thread has closed the client meanwhile.
                    self.close()
            return loop

    def close(self) -> None:
        """Close the client and end the loop's thread; calls in progress end with ClientClosedError."""
        try:
            loop = self._stop_loop()
        except BaseException:
            # Ctrl-C, or a signal handler's exception, came before the loop was notified.
            self._stop_loop()
            raise
        if loop is not None:
            loop.join()

    def __del__(self) -> None:
        if self._loop is not None:
            self._loop.request_stop()

    def _stop_loop(self) -> Loop | None:
        """Request the end of the loop, if there is one, and prevent a new one; return the loop."""
        with LOOPS.lock:
            self.is_closed = True
            loop = self._loop
            if loop is not None:
                loop.request_stop()
            self._loop = None
        return loop

    def _warn_in_loop(self) -> None:
        """Warn once if this thread runs an event loop, which the call blocks, except in notebooks."""
        if self._has_warned or asyncio._get_running_loop() is None or "ipykernel" in sys.modules:  # noqa: SLF001 - public by its documentation
            return
        self._has_warned = True
        depth, frame = 1, inspect.currentframe()
        while frame is not None and str(frame.f_globals.get("__package__")).partition(".")[0] == _PACKAGE:
            depth, frame = depth + 1, frame.f_back
        text = "primepods.Client blocks the event loop of this thread; use primepods.AsyncClient there."
        warnings.warn(text, RuntimeWarning, stacklevel=depth)
