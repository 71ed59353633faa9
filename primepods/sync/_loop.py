"""Event loops of blocking clients, one per client, each in its own thread."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from ..errors import ClientClosedError, PrimePodsError

if TYPE_CHECKING:
    from ._call import BlockingCall

R = TypeVar("R")

_JOIN_TIMEOUT: Final = 5.0
"""Seconds for loops to end, at ``close`` and at exit."""


class Loops:
    """The loops of all blocking clients of this process."""

    def __init__(self) -> None:
        # Reentrant: a finalizer or signal handler may close a client in the thread that is starting one.
        self.lock = threading.RLock()
        self.running: set[Loop] = set()
        self.is_exiting = False
        self._inherited: set[Loop] = set()

    def after_fork(self) -> None:
        """Mark all loops as inherited in the child process: their threads run only in the parent."""
        self.lock = threading.RLock()
        for loop in self.running:
            loop.is_inherited = True
        # Keep a reference: closing the loops would unregister the parent's sockets from the epoll instance
        # that both processes share.
        self._inherited |= self.running
        self.running.clear()

    def exit(self) -> None:
        self.is_exiting = True
        loops = list(self.running)
        for loop in loops:
            loop.request_stop()
        ends_at = time.monotonic() + _JOIN_TIMEOUT
        for loop in loops:
            loop.join(max(0.0, ends_at - time.monotonic()))

    def runs_here(self) -> bool:
        return any(loop.runs_here() for loop in list(self.running))

    def exit_daemon_thread(self) -> None:
        """End this thread silently if it is a daemon thread and the interpreter is exiting."""
        if self.is_exiting and threading.current_thread().daemon:
            sys.exit()


LOOPS: Final = Loops()
atexit.register(LOOPS.exit)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=LOOPS.after_fork)


class Loop:
    """An event loop and the thread that runs it.

    Args:
        aclose: Closes the client; awaited in the loop before the loop ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self.calls: set[BlockingCall[Any]] = set()
        """Calls in progress, which end with the loop."""
        self.is_inherited = False
        """Whether the loop belongs to a parent process, and does not run here."""
        self._aclose = aclose
        self._stop = asyncio.Event()
        loop: Any = asyncio.new_event_loop()
        loop.run_in_executor = _run_in_daemon_thread
        self._loop: asyncio.AbstractEventLoop = loop
        # A daemon thread: the interpreter would join any other thread before the exit handler that ends it.
        self._thread = threading.Thread(target=self._run, name="primepods", daemon=True)

    def start(self) -> None:
        LOOPS.running.add(self)
        try:
            self._thread.start()
        except BaseException as exc:
            # After Ctrl-C, the thread may run nevertheless: end it without closing the client,
            # because closing it can start another loop.
            self._aclose = partial(asyncio.sleep, 0)
            self.request_stop()
            if isinstance(exc, RuntimeError):
                # No thread could be started, so `_run` will not end the loop.
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
        LOOPS.running.discard(self)
        for call in list(self.calls):
            call.end(closed_error("The client was closed during the call."))

    def call_soon(self, callback: Callable[..., object]) -> bool:
        """Schedule ``callback``; return ``False`` if the loop has ended, or belongs to a parent process."""
        if self.is_inherited:
            return False
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The loop is closed.
            return False
        return True

    def request_stop(self) -> None:
        """Ask the loop to close its client and end; never block, for finalizers and signal handlers."""
        self.call_soon(self._stop.set)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the loop has ended, at most ``timeout`` seconds; by default ``_JOIN_TIMEOUT``."""
        if self.is_inherited or self.runs_here():
            # The thread runs in the parent process, or would wait for itself.
            return
        if self._thread.is_alive():
            self._thread.join(_JOIN_TIMEOUT if timeout is None else timeout)

    def runs_here(self) -> bool:
        return self._thread is threading.current_thread()

    def check(self) -> None:
        """Raise an error if the calling thread would wait forever."""
        if self.is_inherited:
            raise PrimePodsError(
                "This iterator, wait or lease began in the parent process and cannot continue after the "
                "fork: start a new one."
            )
        if self.runs_here():
            raise PrimePodsError(
                "A callback in the client's own loop, such as an `until` function, called the client: the "
                "call would wait for itself forever. Make it outside the callback."
            )


def _run_in_daemon_thread(_: object, func: Callable[..., R], *args: Any) -> asyncio.Future[R]:
    """Run a function, such as a name lookup, in a daemon thread of its own; replaces ``run_in_executor``.

    The default executor delays the interpreter's exit until the last name server times out, and refuses work
    once the main thread has ended, even if other threads still make calls.
    """
    future: Future[R] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(func(*args))
        except BaseException as exc:  # noqa: BLE001 - raised where the result is awaited
            future.set_exception(exc)

    threading.Thread(target=work, name="primepods-worker", daemon=True).start()
    return asyncio.wrap_future(future)


def closed_error(what: str) -> ClientClosedError:
    return ClientClosedError(f"{what} Make a new one.")
