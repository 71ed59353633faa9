"""What the blocking client runs its calls in: an event loop, the thread that runs it, and the calls.

A call is one hop: the calling thread has the loop start a task, and sleeps on its mailbox until the task is
done, or wants ``on_change`` called. The loop is run by anyio; the calls are tasks of their own, in the
caller's context. (anyio's BlockingPortal takes two hops for a call, and its cancel scopes would cancel again
and again the clean-up of what they cancel.)
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
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from traceback import walk_tb
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar

import anyio

from .errors import ClientClosedError, PrimePodsError

P = ParamSpec("P")
R = TypeVar("R")

OnChange = Callable[[Any], object]

JOIN: Final = 5.0
"""Seconds for a loop to end when its client is closed."""
PACKAGE: Final = __name__.partition(".")[0]
_CHECKING: Final = frozenset({f"{PACKAGE}._utils.arguments", f"{PACKAGE}._http.request"})

_UNWIND: Final = 1.0
"""Seconds for a call to clean up behind itself when its caller was interrupted."""
_SLICE: Final = 0.2
"""Seconds between two looks of a waiting main thread for Ctrl-C.

A signal that comes just as the thread falls asleep does not wake it; on Windows none does.
"""


def _ignore(change: object) -> None:
    """Do nothing about a change."""


class Call(Generic[R]):
    """One call of a thread, run as a task of the loop.

    Args:
        work: What to await there.
        on_change: What :meth:`tell` tells, in the calling thread.
    """

    def __init__(self, work: Callable[[], Awaitable[R]], on_change: OnChange = _ignore) -> None:
        self._work = work
        self._on_change = on_change
        self.task: asyncio.Task[None] | None = None
        self._result: R
        self._error: BaseException | None = None
        self._mail: queue.SimpleQueue[Told | None] = queue.SimpleQueue()

    def start(self, loop: Loop) -> None:
        """Begin; in the loop."""
        self._loop = loop
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            self._result = await self._work()
        except asyncio.CancelledError:
            self._error = closed("The client, or what was iterated, was closed during the call.")
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is raised in the calling thread
            self._error = _presentable(exc)
        finally:
            self._end()

    def _end(self, _: object = None) -> None:
        self._loop.calls.discard(self)
        self._mail.put(None)

    def cancel(self) -> None:
        """Give up; in the loop, after :meth:`start`."""
        if self.task is not None:
            # A task that has not begun yet never will, nor say that it has ended.
            self.task.add_done_callback(self._end)
            self.task.cancel()

    def fail(self, error: BaseException) -> None:
        """End with ``error``, never having begun."""
        self._error = error
        self._mail.put(None)

    async def tell(self, change: object) -> None:
        """Have ``change`` passed to the caller's ``on_change``, and wait until that has returned."""
        told = Told(change, self._on_change)
        self._mail.put(told)
        await told.answered

    def news(self, timeout: float | None = None) -> Told | None:
        """Wait for what the task wants told; ``None`` when it is done, or after ``timeout`` seconds."""
        signalled = threading.current_thread() is threading.main_thread()
        while True:
            try:
                return self._mail.get(timeout=_SLICE if timeout is None and signalled else timeout)
            except queue.Empty:
                if timeout is not None:
                    return None

    def outcome(self) -> R:
        """Return the result or raise the error; in the calling thread, once."""
        error, self._error = self._error, None
        if error is None:
            return self._result
        if isinstance(error, ClientClosedError):
            PROCESS.let_go()
        try:
            raise error
        finally:
            # The traceback holds this frame: both would wait for the garbage collector.
            del error


class Told:
    """A change that ``on_change`` is to be told while a task waits; made in the loop."""

    def __init__(self, change: object, on_change: OnChange) -> None:
        self._change = change
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[None] = self._loop.create_future()

    def pass_on(self) -> None:
        """Call ``on_change``; in the calling thread."""
        answer = self._on_change(self._change)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            msg = "on_change of the blocking client must be a plain function, not `async def`"
            raise TypeError(msg)
        # If the loop has ended meanwhile, the call has too, and says so itself.
        _call_soon(self._loop, self._settle)

    def _settle(self) -> None:
        if not self.answered.done():
            self.answered.set_result(None)


class Closable(Protocol):
    """Something of the loop's that is to be closed before it ends."""

    async def aclose(self) -> None:
        """Close it."""
        ...


class Loop:
    """A loop and the thread that runs it.

    Args:
        aclose: Closes what the calls use; awaited in the loop before it ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self.calls: set[Call[Any]] = set()
        self.unclosed: set[Closable] = set()
        self.inherited = False
        """Whether this is a copy, in the child, of a parent's loop: no thread runs it."""
        self._aclose = aclose
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_Daemons())
        # Ending the executor wants a new thread, which an interpreter that exits does not give.
        self._loop.shutdown_default_executor = _nothing  # type: ignore[method-assign]
        # A daemon: the interpreter joins all other threads at exit before it runs what would end this one.
        self._thread = threading.Thread(target=self._run, name="primepods", daemon=True)

    @property
    def runs(self) -> bool:
        """Whether it is of any use to this process."""
        return not (self.inherited or self._loop.is_closed())

    def check(self) -> None:
        """Raise an error where the calling thread would wait for ever."""
        if self.inherited:
            msg = "This began in the parent process and cannot go on after the fork: begin again."
            raise PrimePodsError(msg)
        if self._thread is threading.current_thread():
            msg = "Called from inside the client's own loop (by `until`?), which cannot wait for itself."
            raise PrimePodsError(msg)

    def start(self) -> None:
        """Start the thread."""
        PROCESS.running.add(self)
        try:
            self._thread.start()
        except RuntimeError:
            # There is no thread to be had.
            self._end()
            raise
        except BaseException:
            # Interrupted: the thread may run, and ends then; the client goes on with another.
            self._aclose = _nothing
            self.request_stop()
            raise

    def submit(self, call: Call[Any]) -> None:
        """Have ``call`` started.

        Raises:
            ClientClosedError: The loop has ended.
        """
        self.calls.add(call)
        if not _call_soon(self._loop, call.start, self):
            self.calls.discard(call)
            PROCESS.let_go()
            raise closed("This client is closed.")

    def fire(self, work: Callable[[], Awaitable[object]]) -> None:
        """Have ``work`` done if the loop still runs, and wait for nothing: for finalizers."""
        if self.runs:
            call = Call(work)
            self.calls.add(call)
            _call_soon(self._loop, call.start, self)

    def cancel(self, call: Call[Any]) -> None:
        """Have ``call`` cancelled, and wait a moment for it to clean up behind itself."""
        if self.inherited or not _call_soon(self._loop, call.cancel):
            return
        ends_at = time.monotonic() + _UNWIND
        while call.news(max(0.0, ends_at - time.monotonic())) is not None:
            pass

    def request_stop(self) -> None:
        """Have the loop close its client and end. Never blocks; safe from any thread and finalizer."""
        if not self.inherited:
            _call_soon(self._loop, self._stop.set)

    def join(self, timeout: float) -> None:
        """Wait until the loop has ended."""
        here = threading.current_thread()
        if not self.inherited and self._thread is not here and self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            anyio.run(self._main, backend_options={"loop_factory": lambda: self._loop})
        finally:
            self._end()

    async def _main(self) -> None:
        await self._stop.wait()
        try:
            await self._aclose()
        finally:
            # One after the other: calls use what is unclosed, and both use the rest.
            await _cancel(call.task for call in list(self.calls))
            for closable in list(self.unclosed):
                await closable.aclose()
            await _cancel(asyncio.all_tasks() - {asyncio.current_task()})

    def _end(self) -> None:
        self._loop.close()
        PROCESS.running.discard(self)
        # What was submitted too late to be started.
        for call in list(self.calls):
            call.fail(closed("The client was closed during the call."))


class _Daemons(ThreadPoolExecutor):
    """Runs the loop's look-ups of host names, each in a thread for which nothing waits.

    The threads of the usual executor hold up the interpreter's exit until the last name server has given up,
    and refuse work as soon as the main thread has ended, though others still make calls.
    """

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Start a thread."""
        future: Future[R] = Future()
        threading.Thread(
            target=_fulfil, args=(future, partial(fn, *args, **kwargs)), name="primepods-lookup", daemon=True
        ).start()
        return future


def _fulfil(future: Future[R], work: Callable[[], R]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as exc:  # noqa: BLE001 - it is raised where the result is awaited
        future.set_exception(exc)
    else:
        future.set_result(result)


class Process:
    """All loops of this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while a portal starts or closes; a finalizer may close another one in the same thread then."""
        self.running: set[Loop] = set()
        self.exiting = False
        self._inherited: list[Loop] = []

    def fork(self) -> None:
        """Forget, in the child, the loops whose threads only the parent has."""
        self.lock = threading.RLock()
        for loop in self.running:
            loop.inherited = True
        # Kept: their sockets are the parent's, and collecting them would close those.
        self._inherited += self.running
        self.running.clear()

    def let_go(self) -> None:
        """End the calling thread without a word if the interpreter exits and takes it along anyway."""
        if self.exiting and threading.current_thread().daemon:
            sys.exit()

    def exit(self) -> None:
        """End all loops before the interpreter does."""
        self.exiting = True
        loops = list(self.running)
        for loop in loops:
            loop.request_stop()
        ends_at = time.monotonic() + JOIN
        for loop in loops:
            loop.join(max(0.0, ends_at - time.monotonic()))


PROCESS: Final = Process()
atexit.register(PROCESS.exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PROCESS.fork)


async def _cancel(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel ``tasks`` and wait until they have ended."""
    found = [task for task in tasks if task is not None]
    for task in found:
        task.cancel()
    if found:
        await asyncio.wait(found)


async def _nothing(*_: object) -> None:
    """Close nothing."""


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> bool:
    """Have ``loop`` call ``callback``; returns whether it still can."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return False
    return True


def closed(what: str) -> ClientClosedError:
    """Build the error for a call that comes too late."""
    return ClientClosedError(f"{what} Make a new one.")


def _presentable(error: BaseException) -> BaseException:
    """Drop the frames of the loop's thread where they explain nothing to the caller.

    That is so for the API's errors, and for those about arguments. Of others, a defect's or those of a
    function like ``until``, only the portal's own frame is dropped.
    """
    *_, (innermost, _line) = walk_tb(error.__traceback__)
    name, function = innermost.f_globals.get("__name__", ""), innermost.f_code.co_name
    checked = name in _CHECKING or (name.startswith(f"{PACKAGE}.") and function.startswith("_check"))
    if isinstance(error, PrimePodsError) or (checked and isinstance(error, TypeError | ValueError)):
        return error.with_traceback(None)
    trace = error.__traceback__
    return error.with_traceback(trace and trace.tb_next)
