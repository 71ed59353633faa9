"""Event loop threads that run the asynchronous client for blocking callers.

A client has one event loop in a separate thread (:class:`_Loop`), run by anyio from its first call until
``close``, the interpreter's exit or the garbage collector ends it. A call (:class:`_Call`) starts a task in
the loop, in the caller's context; the calling thread sleeps on a queue until the task has ended or needs
``on_change`` called. :class:`Portal` makes calls, :class:`Stream` iterates.

anyio's own BlockingPortal would take two hops per call, go on after Ctrl-C and hang after a fork, and an
interrupt can leave the locks of its futures locked. A ``SimpleQueue`` has no such window.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import queue
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

import anyio

from .._utils.text import quote
from ..errors import ClientClosedError, PrimePodsError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_JOIN_TIMEOUT: Final = 5.0
"""Seconds for loops to end, at ``close`` and at exit."""
_CANCEL_TIMEOUT: Final = 1.0
"""Seconds for a call to clean up when its caller was interrupted."""
_PACKAGE: Final = __name__.partition(".")[0]
_SIGNAL_INTERVAL: Final = 0.2
"""Seconds between two checks for signals in a waiting main thread: not all wake it, on Windows none."""


class _Loops:
    """All loops of this process."""

    def __init__(self) -> None:
        # Reentrant: a finalizer or signal handler may close a client in the thread that is starting one.
        self.lock = threading.RLock()
        self.running: set[_Loop] = set()
        self.exiting = False
        self._inherited: set[_Loop] = set()

    def after_fork(self) -> None:
        """Forget, in the child process, the loops whose threads only the parent has."""
        self.lock = threading.RLock()
        for loop in self.running:
            loop.inherited = True
        # Keep a reference: garbage collection would close the parent's sockets.
        self._inherited |= self.running
        self.running.clear()

    def exit(self) -> None:
        """End all loops before the interpreter exits."""
        self.exiting = True
        loops = list(self.running)
        for loop in loops:
            loop.request_stop()
        ends_at = time.monotonic() + _JOIN_TIMEOUT
        for loop in loops:
            loop.join(max(0.0, ends_at - time.monotonic()))

    def exit_daemon_thread(self) -> None:
        """End the calling thread silently if the interpreter is exiting, which would end it anyway."""
        if self.exiting and threading.current_thread().daemon:
            sys.exit()


_LOOPS: Final = _Loops()
atexit.register(_LOOPS.exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_LOOPS.after_fork)


class _Loop:
    """An event loop and the thread that runs it.

    Args:
        aclose: Closes the client; awaited in the loop before it ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self.calls: set[_Call[Any]] = set()
        self.inherited = False
        """True for the copy of a parent process's loop, which does not run here."""
        self._aclose = aclose
        self._stop = asyncio.Event()
        loop: Any = asyncio.new_event_loop()
        loop.run_in_executor = _run_in_daemon_thread
        self._loop: asyncio.AbstractEventLoop = loop
        # A daemon: the interpreter joins other threads before the exit handler that ends this one.
        self._thread = threading.Thread(target=self._run, name="primepods", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        _LOOPS.running.add(self)
        try:
            self._thread.start()
        except BaseException as exc:
            # The thread may run despite the interruption: it then ends at once and leaves the client open.
            self._aclose = _nothing
            self.request_stop()
            if isinstance(exc, RuntimeError):
                # No thread can be started.
                self._end()
            raise

    def _run(self) -> None:
        try:
            anyio.run(self._main, backend_options={"loop_factory": lambda: self._loop})
        finally:
            self._end()

    async def _main(self) -> None:
        try:
            await self._stop.wait()
        finally:
            await self._aclose()

    def _end(self) -> None:
        self._loop.close()
        _LOOPS.running.discard(self)
        for call in list(self.calls):
            call.end(_closed("The client was closed during the call."))

    def call_soon(self, callback: Callable[..., object]) -> bool:
        """Schedule ``callback`` in the loop; return whether it is still open. Never blocks."""
        try:
            if not self.inherited:
                self._loop.call_soon_threadsafe(callback)
                return True
        except RuntimeError:
            # The loop is closed.
            pass
        return False

    def request_stop(self) -> None:
        """Ask the loop to close its client and end. Never blocks: safe in finalizers and signal handlers."""
        self.call_soon(self._stop.set)

    def join(self, timeout: float) -> None:
        """Wait until the loop has ended."""
        if not self.inherited and self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def check(self) -> None:
        """Raise an error if the calling thread would wait forever."""
        if self.inherited:
            raise PrimePodsError(
                "This began in the parent process and cannot continue after the fork: start again."
            )
        if self._thread is threading.current_thread():
            raise PrimePodsError(
                "Called from inside the client's own loop (by `until`?), which cannot wait for itself."
            )


def _run_in_daemon_thread(_: object, func: Callable[..., R], *args: Any) -> asyncio.Future[R]:
    """Run a host name lookup in a daemon thread, in place of the loop's executor.

    The executor's threads delay the interpreter's exit until the last name server times out, and refuse work
    once the main thread has ended, even if other threads still make calls.
    """
    future: Future[R] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(func(*args))
        except BaseException as exc:  # noqa: BLE001 - raised where the result is awaited
            future.set_exception(exc)

    threading.Thread(target=work, name="primepods-lookup", daemon=True).start()
    return asyncio.wrap_future(future)


async def _nothing() -> None:
    """Do nothing."""


def _closed(what: str) -> ClientClosedError:
    return ClientClosedError(f"{what} Make a new one.")


class _CallerCallback:
    """Callback that runs in the calling thread, not in the loop's thread."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function


def in_calling_thread(callback: T) -> T:
    """Mark a keyword argument of :meth:`Portal.call` as a callback to run in the calling thread."""
    return cast("T", _CallerCallback(callback)) if callable(callback) else callback


class _Call(Generic[R]):
    """One call: a coroutine function that a loop runs while the calling thread waits.

    A keyword argument marked by :func:`in_calling_thread` is called in the waiting thread.
    """

    def __init__(self, function: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> None:
        self._callback: _CallerCallback | None = None
        for name, value in kwargs.items():
            if isinstance(value, _CallerCallback):
                self._callback, self._callback_name = value, name
                kwargs[name] = self._request_callback
        self._work = partial(function, *args, **kwargs)
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._result: R | None = None
        self._error: BaseException | None = None
        # Messages to the waiting thread: arguments for the callback; `None` at the end.
        self._queue: queue.SimpleQueue[tuple[object, asyncio.Event] | None] = queue.SimpleQueue()

    # These run in the loop's thread.

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            self._result = await self._work()
        except asyncio.CancelledError:
            self.end(_closed("The client was closed during the call."))
        except BaseException as exc:  # noqa: BLE001 - any error is raised in the calling thread
            # An API error needs no frames of the client. An error about an argument, in `until`, or of a
            # defect keeps all frames below this one.
            trace = None if isinstance(exc, PrimePodsError) else exc.__traceback__
            self.end(exc.with_traceback(trace and trace.tb_next))
        else:
            self.end()

    async def _request_callback(self, change: object) -> None:
        is_handled = asyncio.Event()
        self._queue.put((change, is_handled))
        await is_handled.wait()

    def _cancel(self) -> None:
        if self._task is None:
            # Interrupted before the loop started it.
            self.end()
        else:
            self._task.cancel()
            # A task cancelled before its first step cannot report its end itself.
            self._task.add_done_callback(lambda _: self.end())

    def end(self, error: BaseException | None = None) -> None:
        """Notify the waiting thread of the end, once."""
        if not self._ended:
            self._ended, self._error = True, error
            self._queue.put(None)

    # These run in the calling thread.

    def run(self, loop: _Loop) -> R:
        """Run it in ``loop`` and wait for its end. An interruption of the waiting thread cancels it."""
        try:
            loop.calls.add(self)
            if not loop.call_soon(self.start):
                self.end(_closed("This client is closed."))
            while (request := self._next_callback()) is not None:
                change, is_handled = request
                self._call_back(change)
                # This process may be the child of a fork by now.
                loop.check()
                loop.call_soon(is_handled.set)
        except BaseException as exc:
            if not self._ended and loop.call_soon(self._cancel):
                ends_at = time.monotonic() + _CANCEL_TIMEOUT
                while self._next_callback(max(0.0, ends_at - time.monotonic())) is not None:
                    pass
            if self._result is not None:
                # The result may be a new pod that nothing else refers to.
                exc.add_note(f"The call had succeeded by then: {quote(self._result)}")
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

    def _next_callback(self, timeout: float | None = None) -> tuple[object, asyncio.Event] | None:
        """Wait for the next call of the callback; ``None`` at the end, or after ``timeout`` seconds."""
        look = timeout is None and threading.current_thread() is threading.main_thread()
        while True:
            try:
                return self._queue.get(timeout=_SIGNAL_INTERVAL if look else timeout)
            except queue.Empty:
                if not look:
                    return None

    def _call_back(self, change: object) -> None:
        if self._callback is None:
            return
        result = self._callback.function(change)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                f"{self._callback_name} of the blocking client must be a plain function, not `async def`"
            )


class Portal:
    """Runs coroutines for blocking callers.

    Args:
        aclose: Closes the client; called in the loop before it ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self.closed: bool = False
        self._aclose = aclose
        self._loop: _Loop | None = None
        self._warned = False

    def call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``await function(*args, **kwargs)``; see :class:`_Call`."""
        return self.run(_Call(function, *args, **kwargs))

    def run(self, call: _Call[R], loop: _Loop | None = None) -> R:
        """Run ``call`` in ``loop``, by default this process's loop; return its result."""
        loop = loop or self.loop()
        loop.check()
        self._warn_in_loop()
        try:
            return call.run(loop)
        except ClientClosedError:
            _LOOPS.exit_daemon_thread()
            raise

    def loop(self) -> _Loop:
        """Return the loop of this process; start it if needed.

        Raises:
            ClientClosedError: The client is closed.
        """
        loop = self._loop
        if loop is not None and not loop.inherited:
            return loop
        with _LOOPS.lock:
            if self.closed or _LOOPS.exiting:
                _LOOPS.exit_daemon_thread()
                raise _closed("This client is closed." if self.closed else "The interpreter is exiting.")
            loop = self._loop
            if loop is None or loop.inherited:
                loop = _Loop(self._aclose)
                loop.start()
                self._loop = loop
                if self.closed:
                    # Closed meanwhile by a finalizer or signal handler in this thread.
                    self.close()
            return loop

    def close(self) -> None:
        """Close the client and end the loop's thread; calls in progress end with ClientClosedError."""
        try:
            loop = self._stop_loop()
        except BaseException:
            # Ctrl-C, or a signal handler's exception, before the loop was notified.
            self._stop_loop()
            raise
        if loop is not None:
            loop.join(_JOIN_TIMEOUT)

    def __del__(self) -> None:
        if self._loop is not None:
            self._loop.request_stop()

    def _stop_loop(self) -> _Loop | None:
        """Request the end of the loop, and start no other. Idempotent."""
        with _LOOPS.lock:
            self.closed = True
            loop = self._loop
            if loop is not None:
                loop.request_stop()
            self._loop = None
        return loop

    def _warn_in_loop(self) -> None:
        """Warn once that the running loop is blocked; in notebooks that is normal."""
        if self._warned or asyncio._get_running_loop() is None or "ipykernel" in sys.modules:  # noqa: SLF001 - public by its documentation
            return
        self._warned = True
        depth, frame = 1, inspect.currentframe()
        while frame is not None and str(frame.f_globals.get("__package__")).partition(".")[0] == _PACKAGE:
            depth, frame = depth + 1, frame.f_back
        text = "primepods.Client blocks the event loop of this thread; use primepods.AsyncClient there."
        warnings.warn(text, RuntimeWarning, stacklevel=depth)


class Streams:
    """The active iterations of a pager or a watch, in any threads."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._open: weakref.WeakValueDictionary[int, Stream[Any]] = weakref.WeakValueDictionary()

    def iterate(self, source: AsyncIterator[Any], *, in_batches: bool = False) -> Stream[Any]:
        """Return an iterator over the items of ``source``, or over those of its batches."""
        stream = Stream[Any](self._portal, source, in_batches=in_batches)
        self._open[id(stream)] = stream
        return stream

    def close(self) -> None:
        """Close all iterations, also those that wait for an item in another thread."""
        for ref in self._open.valuerefs():
            stream = ref()
            if stream is not None:
                stream.close()


class Stream(Iterator[T]):
    """A blocking iterator over an asynchronous one, which it also closes.

    After an interruption it continues where it was, as the asynchronous one does after a cancelled ``anext``.
    """

    def __init__(self, portal: Portal, source: Any, *, in_batches: bool) -> None:
        self._portal = portal
        self._loop = portal.loop()
        self._source = source
        self._in_batches = in_batches
        self._items: deque[T] = deque()

    def __next__(self) -> T:
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                pass
            if not self._portal.run(_Call(self._pull), self._loop):
                raise StopIteration

    async def _pull(self) -> bool:
        """Read the next items; return whether there were any. After an interruption, the items are kept."""
        try:
            item = await anext(self._source)
        except StopAsyncIteration:
            return False
        self._items.extend(item if self._in_batches else (item,))
        return True

    def close(self) -> None:
        """Close it, also if another thread waits for an item, and cancel its requests."""
        self._items.clear()
        if not self._loop.inherited:
            with suppress(ClientClosedError):
                self._portal.run(_Call(self._source.aclose), self._loop)
