"""One event loop in a thread of its own, for callers that block: started at first use, closed by itself.

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
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from traceback import walk_tb
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

import anyio

from .errors import ClientClosedError, PrimePodsError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

OnChange = Callable[[Any], object]

_JOIN: Final = 5.0
"""Seconds for a loop to end when its client is closed."""
_UNWIND: Final = 1.0
"""Seconds for a call to clean up behind itself when its caller was interrupted."""
_SLICE: Final = 0.2
"""Seconds between two looks of a waiting main thread for Ctrl-C.

A signal that comes just as the thread falls asleep does not wake it; on Windows none does.
"""
_END: Final[Any] = object()
_PACKAGE: Final = __name__.partition(".")[0]


def _ignore(change: object) -> None:
    """Do nothing about a change."""


class _Call(Generic[R]):
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
        self._mail: queue.SimpleQueue[_Told | None] = queue.SimpleQueue()

    def start(self, loop: _Loop) -> None:
        """Begin; in the loop."""
        self._loop = loop
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            self._result = await self._work()
        except asyncio.CancelledError:
            self._error = _closed("The client, or what was iterated, was closed during the call.")
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
        told = _Told(change, self._on_change)
        self._mail.put(told)
        await told.answered

    def news(self, timeout: float | None = None) -> _Told | None:
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
        if _process.exiting and isinstance(error, ClientClosedError) and threading.current_thread().daemon:
            # The interpreter exits and takes this thread along: no error, and nothing to be printed.
            sys.exit()
        try:
            raise error
        finally:
            # The traceback holds this frame: both would wait for the garbage collector.
            del error


class _Told:
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


class _Loop:
    """A loop and the thread that runs it.

    Args:
        aclose: Closes what the calls use; awaited in the loop before it ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self.calls: set[_Call[Any]] = set()
        self.iterations: set[_Iteration[Any]] = set()
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
        _process.running.add(self)
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

    def submit(self, call: _Call[Any]) -> None:
        """Have ``call`` started.

        Raises:
            ClientClosedError: The loop has ended.
        """
        self.calls.add(call)
        if not _call_soon(self._loop, call.start, self):
            self.calls.discard(call)
            raise _closed("This client is closed.")

    def fire(self, work: Callable[[], Awaitable[object]]) -> None:
        """Have ``work`` done if the loop still runs, and wait for nothing: for finalizers."""
        if self.runs:
            call = _Call(work)
            self.calls.add(call)
            _call_soon(self._loop, call.start, self)

    def cancel(self, call: _Call[Any]) -> None:
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
            # One after the other: calls use iterations, and both use what is left.
            await _cancel({call.task for call in self.calls})
            for iteration in list(self.iterations):
                await iteration.aclose()
            await _cancel(asyncio.all_tasks() - {asyncio.current_task()})

    def _end(self) -> None:
        self._loop.close()
        _process.running.discard(self)
        # What was submitted too late to be started.
        for call in list(self.calls):
            call.fail(_closed("The client was closed during the call."))


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


class _Process:
    """All loops of this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while a portal starts or closes; a finalizer may close another one in the same thread then."""
        self.running: set[_Loop] = set()
        self.exiting = False
        self._inherited: list[_Loop] = []

    def fork(self) -> None:
        """Forget, in the child, the loops whose threads only the parent has."""
        self.lock = threading.RLock()
        for loop in self.running:
            loop.inherited = True
        # Kept: their sockets are the parent's, and collecting them would close those.
        self._inherited += self.running
        self.running.clear()

    def exit(self) -> None:
        """End all loops before the interpreter does."""
        self.exiting = True
        loops = list(self.running)
        for loop in loops:
            loop.request_stop()
        ends_at = time.monotonic() + _JOIN
        for loop in loops:
            loop.join(max(0.0, ends_at - time.monotonic()))


_process = _Process()
atexit.register(_process.exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.fork)


class Portal:
    """Runs coroutines for threads that block until they are done.

    Args:
        aclose: Closes what the coroutines use; called in the loop before it ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self.closed: bool = False
        self._aclose = aclose
        self._loop: _Loop | None = None
        self._warned = False

    def call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``await function(*args, **kwargs)``, run in the loop.

        Whatever interrupts the waiting thread, Ctrl-C above all, cancels the call.
        """
        return self.run(self.loop(), _Call(partial(function, *args, **kwargs)))

    def call_back(self, function: Callable[..., Coroutine[Any, Any, R]], on_change: OnChange | None) -> R:
        """Return ``await function(on_change=on_change)``, with ``on_change`` called in the calling thread."""
        if not callable(on_change):
            return self.call(function, on_change=on_change)
        call: _Call[R] = _Call(lambda: function(on_change=call.tell), on_change)
        return self.run(self.loop(), call)

    def loop(self) -> _Loop:
        """Return the running loop of this process, started if need be.

        Raises:
            ClientClosedError: The client is closed.
        """
        loop = self._loop
        if loop is not None and not loop.inherited:
            return loop
        with _process.lock:
            if self.closed or _process.exiting:
                raise _closed("This client is closed." if self.closed else "The interpreter is exiting.")
            loop = self._loop
            if loop is None or loop.inherited:
                loop = _Loop(self._aclose)
                loop.start()
                self._loop = loop
                if self.closed:
                    # By a finalizer or a signal handler, in this thread.
                    self.close()
            return loop

    def run(self, loop: _Loop, call: _Call[R]) -> R:
        """Run ``call`` in ``loop``, and its ``on_change`` here, until it is done."""
        loop.check()
        self._warn_in_loop()
        try:
            loop.submit(call)
            while (told := call.news()) is not None:
                told.pass_on()
                loop.check()
        except BaseException:
            loop.cancel(call)
            raise
        return call.outcome()

    def close(self) -> None:
        """Close the client and end the loop's thread; calls in progress end with ClientClosedError."""
        with _process.lock:
            loop, self._loop, self.closed = self._loop, None, True
        if loop is not None:
            loop.request_stop()
            loop.join(_JOIN)

    def __del__(self) -> None:
        if self._loop is not None:
            self._loop.request_stop()

    def _warn_in_loop(self) -> None:
        """Say once that the running loop is blocked. Notebooks do that all the time, and mean it."""
        if self._warned or asyncio._get_running_loop() is None or "ipykernel" in sys.modules:  # noqa: SLF001 - public by its documentation
            return
        self._warned = True
        warnings.warn(
            "primepods.Client blocks the event loop that runs in this thread; "
            "use primepods.AsyncClient and `await` there.",
            RuntimeWarning,
            stacklevel=_depth_outside(),
        )


class Stream(Generic[T]):
    """What threads iterate: items pulled one by one from asynchronous iterators.

    Args:
        portal: Where those run.
    """

    def __init__(self, portal: Portal) -> None:
        self.closings: int = 0
        """How often this was closed: what an iteration that began before has in hand is not wanted."""
        self._portal = portal
        self._open: set[_Iteration[T]] = set()

    def iterate(self, source: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Yield what the iterator that ``source`` makes yields, one hop an item."""
        loop = self._portal.loop()
        iteration = _Iteration(source, loop, self._open)
        try:
            while (item := self._portal.run(loop, _Call(iteration.pull))) is not _END:
                yield item
        finally:
            # Not waited for: this may be the garbage collector's call, in any thread.
            loop.fire(iteration.aclose)

    def close(self) -> None:
        """End all iterations, also those that wait for an item in another thread."""
        self.closings += 1
        for iteration in list(self._open):
            if iteration.loop.runs:
                self._portal.run(iteration.loop, _Call(iteration.aclose))


class _Iteration(Generic[T]):
    """One run through an asynchronous iterator; its methods run in the loop.

    Args:
        source: Makes the iterator.
        loop: The loop.
        open_: Where this is while it is to be closed.
    """

    def __init__(
        self, source: Callable[[], AsyncIterator[T]], loop: _Loop, open_: set[_Iteration[T]]
    ) -> None:
        self.loop = loop
        self._source = source
        self._open = open_
        self._iterator: AsyncIterator[T] | None = None
        self._pulling: asyncio.Task[Any] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def pull(self) -> T:
        """Return the next item; ``_END`` after the last, and when this is closed."""
        if self._iterator is None:
            self.loop.iterations.add(self)
            self._open.add(self)
            self._iterator = self._source()
        self._pulling = asyncio.current_task()
        try:
            return await anext(self._iterator, _END)
        except asyncio.CancelledError:
            if self._closing is None:
                raise
            return cast("T", _END)
        finally:
            self._pulling = None

    async def aclose(self) -> None:
        """End it, whatever it is doing, and free its requests."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._pulling is not None:
            self._pulling.cancel()
            await asyncio.wait([self._pulling])
        aclose = getattr(self._iterator, "aclose", None)
        if aclose is not None:
            await aclose()
        self._open.discard(self)
        self.loop.iterations.discard(self)


async def _cancel(tasks: AbstractSet[asyncio.Task[Any] | None]) -> None:
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


def _closed(what: str) -> ClientClosedError:
    return ClientClosedError(f"{what} Make a new one.")


def _presentable(error: BaseException) -> BaseException:
    """Drop the frames of the loop's thread where they explain nothing to the caller.

    That is so for the API's errors, and for those about arguments. Of others, a defect's or those of a
    function like ``until``, only the portal's own frame is dropped.
    """
    *_, (innermost, _line) = walk_tb(error.__traceback__)
    name, function = innermost.f_globals.get("__name__", ""), innermost.f_code.co_name
    checked = name == f"{_PACKAGE}._wire" or (
        name.startswith(f"{_PACKAGE}.") and function.startswith("_check")
    )
    if isinstance(error, PrimePodsError) or (checked and isinstance(error, TypeError | ValueError)):
        return error.with_traceback(None)
    trace = error.__traceback__
    return error.with_traceback(trace and trace.tb_next)


def _depth_outside() -> int:
    """Return the ``stacklevel`` of the first caller outside this package."""
    depth, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        depth, frame = depth + 1, frame.f_back
    return depth
