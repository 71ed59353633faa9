"""One event loop in a thread of its own, for callers that block: started at first use, closed by itself."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import inspect
import os
import queue
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import anyio
import attrs
from anyio.from_thread import BlockingPortal

from .errors import ClientClosedError, PrimePodsError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_JOIN: Final = 5.0
_END: Final[Any] = object()
_portals: weakref.WeakSet[Portal] = weakref.WeakSet()


@attrs.frozen(eq=False)
class _Live:
    """A running loop thread."""

    portal: BlockingPortal
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    thread: threading.Thread

    def request_stop(self) -> None:
        """Have the loop close its client and end. Never blocks; safe from any thread and finalizer."""
        try:
            self.loop.call_soon_threadsafe(self.stop.set)
        except RuntimeError:
            # The loop has ended already.
            return


class Portal:
    """Runs coroutines for threads that block until they are done.

    Args:
        aclose: Closes what the coroutines use; called in the loop before it ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self._aclose = aclose
        self._lock = threading.Lock()
        self._live: _Live | None = None
        self._closed = False
        self._warned = False
        _portals.add(self)

    def call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``await function(*args, **kwargs)``, run in the loop.

        Whatever interrupts the waiting thread, Ctrl-C above all, cancels the call.
        """
        return self._result(self._submit(partial(function, *args, **kwargs)))

    def _result(self, future: concurrent.futures.Future[R]) -> R:
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            error: BaseException = ClientClosedError("The client was closed during the call. Make a new one.")
        except PrimePodsError as exc:
            # The frames of the loop's thread explain nothing to the caller.
            error = exc.with_traceback(None)
        except BaseException:
            future.cancel()
            raise
        raise error

    def call_back(
        self, function: Callable[..., Coroutine[Any, Any, R]], on_change: Callable[[T], object] | None
    ) -> R:
        """Return ``await function(on_change=on_change)``, with ``on_change`` called in the calling thread."""
        if not callable(on_change):
            return self.call(function, on_change=on_change)
        calls: queue.SimpleQueue[tuple[T, asyncio.Future[None]] | None] = queue.SimpleQueue()

        async def bridge(change: T) -> None:
            done = asyncio.get_running_loop().create_future()
            calls.put((change, done))
            await done

        future = self._submit(partial(function, on_change=bridge))
        future.add_done_callback(lambda _: calls.put(None))
        try:
            while (call := calls.get()) is not None:
                _answer(call[1], on_change, call[0])
        except BaseException:
            future.cancel()
            raise
        return self._result(future)

    def iterate(self, source: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Yield what the asynchronous iterator of ``source`` yields, one pull into the loop an item."""
        iterator = self.call(_begin, source)
        try:
            while (item := self.call(_next, iterator)) is not _END:
                yield item
        finally:
            # Not waited for: this may be the garbage collector's call, in any thread.
            self.fire(getattr(iterator, "aclose", _nothing))

    def fire(self, function: Callable[[], Awaitable[object]]) -> None:
        """Run ``function`` in the loop if it still runs, and wait for nothing: for finalizers."""
        live = self._live
        if live is not None and not self._closed:
            coroutine = _ignore(function)
            try:
                live.loop.call_soon_threadsafe(lambda: live.loop.create_task(coroutine))
            except RuntimeError:
                coroutine.close()

    def close(self) -> None:
        """Close the client and end the loop's thread; calls in progress end with ClientClosedError."""
        with self._lock:
            live, self._live, self._closed = self._live, None, True
        if live is None:
            return
        live.request_stop()
        if live.thread is not threading.current_thread():
            live.thread.join(_JOIN)

    def __del__(self) -> None:
        live = self._live
        if live is not None:
            live.request_stop()

    def _submit(self, work: Callable[[], Awaitable[R]]) -> concurrent.futures.Future[R]:
        live = self._start()
        if live.thread is threading.current_thread():
            msg = "Called from inside the client's own loop (by `until`?), which cannot wait for itself."
            raise PrimePodsError(msg)
        self._warn_in_loop()
        try:
            return live.portal.start_task_soon(work)
        except RuntimeError:
            if self._closed or not live.thread.is_alive():
                raise self._closed_error() from None
            raise

    def _start(self) -> _Live:
        live = self._live
        if live is not None:
            return live
        with self._lock:
            if self._closed:
                raise self._closed_error()
            if self._live is None:
                self._live = _start_loop(self._aclose)
            return self._live

    def _warn_in_loop(self) -> None:
        """Say once that the running loop is blocked. Notebooks do that all the time, and mean it."""
        if self._warned or "ipykernel" in sys.modules:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self._warned = True
        warnings.warn(
            "primepods.Client blocks the event loop that runs in this thread; "
            "use primepods.AsyncClient and `await` there.",
            RuntimeWarning,
            stacklevel=_depth_outside(),
        )

    def forget(self) -> None:
        """Forget, in the child, a thread that only the parent has; its sockets stay open in the parent."""
        self._lock = threading.Lock()
        if self._live is not None:
            _inherited.append(self._live)
            self._live = None

    def _closed_error(self) -> ClientClosedError:
        return ClientClosedError("This client is closed. Make a new one.")


_inherited: list[_Live] = []
"""Loops of a parent process: kept, since collecting them would warn of sockets that are not ours to close."""


def _start_loop(aclose: Callable[[], Awaitable[None]]) -> _Live:
    started: concurrent.futures.Future[tuple[BlockingPortal, asyncio.AbstractEventLoop, asyncio.Event]]
    started = concurrent.futures.Future()

    async def main() -> None:
        stop = asyncio.Event()
        async with BlockingPortal() as portal:
            started.set_result((portal, asyncio.get_running_loop(), stop))
            await stop.wait()
            await aclose()
            await portal.stop(cancel_remaining=True)

    # A daemon: the interpreter joins all other threads at exit before it runs what would end this one.
    thread = threading.Thread(target=partial(anyio.run, main), name="primepods", daemon=True)
    thread.start()
    portal, loop, stop = started.result()
    return _Live(portal, loop, stop, thread)


def _answer(done: asyncio.Future[None], function: Callable[[T], object], value: T) -> None:
    """Call ``function`` here and pass on, to the loop that waits for it, how it ended."""
    loop = done.get_loop()
    try:
        told = function(value)
        if inspect.iscoroutine(told):
            told.close()
            msg = "on_change of the blocking client must be a plain function, not `async def`"
            raise TypeError(msg)  # noqa: TRY301 - travels like what the function itself raises
    except Exception as exc:  # noqa: BLE001 - it ends the wait, which raises it
        error = exc
    else:
        loop.call_soon_threadsafe(_settle, done, None)
        return
    loop.call_soon_threadsafe(_settle, done, error)


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


async def _begin(source: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T]:
    return source()


async def _next(iterator: AsyncIterator[T]) -> T:
    return await anext(iterator, _END)


async def _nothing() -> None:
    """Stand in for an iterator's missing ``aclose``."""


async def _ignore(function: Callable[[], Awaitable[object]]) -> None:
    await function()


def _depth_outside() -> int:
    """Return the ``stacklevel`` of the first caller outside this package."""
    depth, frame = 0, inspect.currentframe()
    package = __name__.partition(".")[0]
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        depth, frame = depth + 1, frame.f_back
    return depth


def _close_all() -> None:
    for portal in list(_portals):
        portal.close()


def _forget_all() -> None:
    for portal in list(_portals):
        portal.forget()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
