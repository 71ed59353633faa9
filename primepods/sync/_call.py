"""Calls of blocking clients: a coroutine runs in the client's loop while the calling thread waits."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from .._utils.text import quote
from ..errors import PrimePodsError
from ._loop import Loop, closed_error

R = TypeVar("R")
T = TypeVar("T")

_CANCEL_TIMEOUT: Final = 1.0
"""Seconds for a cancelled call to clean up."""
_SIGNAL_INTERVAL: Final = 0.2
"""Seconds after which the waiting main thread wakes up.

Python runs signal handlers only in the main thread, and not every signal interrupts its ``queue.get``.
"""


class _CallerCallback:
    """Callback that runs in the calling thread, not in the loop's thread."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function


def in_calling_thread(callback: T) -> T:
    """Mark a keyword argument of :meth:`Portal.call` as a callback to run in the calling thread."""
    return cast("T", _CallerCallback(callback)) if callable(callback) else callback


class BlockingCall(Generic[R]):
    """One call: a coroutine function that a loop runs while the calling thread waits.

    A keyword argument marked by :func:`in_calling_thread` is called in the waiting thread.
    """

    def __init__(self, function: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> None:
        self._callback: _CallerCallback | None = None
        for name, value in kwargs.items():
            if isinstance(value, _CallerCallback):
                self._callback = value
                self._callback_name = name
                kwargs[name] = self._request_callback
        self._work = partial(function, *args, **kwargs)
        self._task: asyncio.Task[None] | None = None
        self._has_ended = False
        self._result: R | None = None
        self._error: BaseException | None = None
        # Messages to the waiting thread: an argument for the callback; `None` at the end.
        self._queue: queue.SimpleQueue[tuple[object, asyncio.Event] | None] = queue.SimpleQueue()

    # The following methods run in the loop's thread, except `end`, which either thread may call.

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            self._result = await self._work()
        except asyncio.CancelledError:
            # Closing the client cancels the task. `_cancel_in` does too, but then `run` raises another error.
            self.end(closed_error("The client was closed during the call."))
        except BaseException as exc:  # noqa: BLE001 - any error is raised in the calling thread
            if isinstance(exc, PrimePodsError):
                # The client's frames do not help the user of an API error.
                self.end(exc.with_traceback(None))
            else:
                # Keep the frames of other errors, such as a bug in `until`, but not this frame.
                trace = exc.__traceback__
                self.end(exc if trace is None else exc.with_traceback(trace.tb_next))
        else:
            self.end()

    async def _request_callback(self, argument: object) -> None:
        is_handled = asyncio.Event()
        self._queue.put((argument, is_handled))
        await is_handled.wait()

    def _cancel(self) -> None:
        if self._task is None:
            # The call was interrupted before `start` was scheduled.
            self.end()
        else:
            self._task.cancel()
            # A task that is cancelled before its first step cannot report its end.
            self._task.add_done_callback(lambda _: self.end())

    def end(self, error: BaseException | None = None) -> None:
        """Notify the waiting thread of the end.

        Later calls do nothing. If both threads call this at the same time, either error may be raised, and a
        second ``None`` may stay unread in the queue.
        """
        if not self._has_ended:
            self._has_ended = True
            self._error = error
            self._queue.put(None)

    # The following methods run in the calling thread.

    def run(self, loop: Loop) -> R:
        """Run the call in ``loop`` and wait for its end. An exception in this thread cancels the call."""
        try:
            loop.calls.add(self)
            if not loop.call_soon(self.start):
                self.end(closed_error("This client is closed."))
            while (request := self._next_request()) is not None:
                argument, is_handled = request
                self._call_back(argument)
                # The callback may have forked: raise an error in the child process.
                loop.check()
                loop.call_soon(is_handled.set)
        except BaseException as exc:
            self._cancel_in(loop)
            if isinstance(exc.__context__, queue.Empty):
                # The signal came when a wait in `_next_request` had just timed out.
                exc.__context__ = None
            if self._result is not None:
                # The result may be a new pod that nothing else refers to.
                exc.add_note(f"The call had succeeded: {quote(self._result)}")
            raise
        finally:
            loop.calls.discard(self)
        error, self._error = self._error, None
        if error is None:
            return cast("R", self._result)
        try:
            raise error
        finally:
            # Break the reference cycle between the traceback and this frame.
            del error

    def _cancel_in(self, loop: Loop) -> None:
        """Cancel the call if it has not ended, and give it a second to clean up."""
        if not self._has_ended and loop.call_soon(self._cancel):
            ends_at = time.monotonic() + _CANCEL_TIMEOUT
            while (request := self._next_request(max(0.0, ends_at - time.monotonic()))) is not None:
                # Skip the callback, but do not let the cleanup wait for it.
                loop.call_soon(request[1].set)

    def _next_request(self, timeout: float | None = None) -> tuple[object, asyncio.Event] | None:
        """Return the next argument of the callback, and the event to set after the callback.

        Waits for them; returns ``None`` at the end of the call, or after ``timeout`` seconds.
        """
        if timeout is None and threading.current_thread() is threading.main_thread():
            while True:
                with suppress(queue.Empty):
                    return self._queue.get(timeout=_SIGNAL_INTERVAL)
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    def _call_back(self, argument: object) -> None:
        if self._callback is None:
            return
        result = self._callback.function(argument)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                f"{self._callback_name} of the blocking client must be a plain function, not `async def`"
            )
