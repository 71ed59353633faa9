"""The door between threads that block and the loop: started at first use, closed by itself.

Works in notebooks, after a fork, at exit, and in the hands of the garbage collector; see :mod:`._loop`.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

from ._loop import JOIN, PACKAGE, PROCESS, Call, Loop, OnChange, closed

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_END: Final[Any] = object()
"""What an iteration gives after its last item."""


class Portal:
    """Runs coroutines for threads that block until they are done.

    Args:
        aclose: Closes what the coroutines use; called in the loop before it ends.
    """

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        self.closed: bool = False
        self._aclose = aclose
        self._loop: Loop | None = None
        self._warned = False

    def call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``await function(*args, **kwargs)``, run in the loop.

        Whatever interrupts the waiting thread, Ctrl-C above all, cancels the call.
        """
        return self.run(self.loop(), Call(partial(function, *args, **kwargs)))

    def call_back(self, function: Callable[..., Coroutine[Any, Any, R]], on_change: OnChange | None) -> R:
        """Return ``await function(on_change=on_change)``, with ``on_change`` called in the calling thread."""
        if not callable(on_change):
            return self.call(function, on_change=on_change)
        call: Call[R] = Call(lambda: function(on_change=call.tell), on_change)
        return self.run(self.loop(), call)

    def loop(self) -> Loop:
        """Return the running loop of this process, started if need be.

        Raises:
            ClientClosedError: The client is closed.
        """
        loop = self._loop
        if loop is not None and not loop.inherited:
            return loop
        with PROCESS.lock:
            if self.closed or PROCESS.exiting:
                PROCESS.let_go()
                raise closed("This client is closed." if self.closed else "The interpreter is exiting.")
            loop = self._loop
            if loop is None or loop.inherited:
                loop = Loop(self._aclose)
                loop.start()
                self._loop = loop
                if self.closed:
                    # By a finalizer or a signal handler, in this thread.
                    self.close()
            return loop

    def run(self, loop: Loop, call: Call[R]) -> R:
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
        with PROCESS.lock:
            loop, self._loop, self.closed = self._loop, None, True
        if loop is not None:
            loop.request_stop()
            loop.join(JOIN)

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
            while (item := self._portal.run(loop, Call(iteration.pull))) is not _END:
                yield item
        finally:
            # Not waited for: this may be the garbage collector's call, in any thread.
            loop.fire(iteration.aclose)

    def close(self) -> None:
        """End all iterations, also those that wait for an item in another thread."""
        self.closings += 1
        for iteration in list(self._open):
            if iteration.loop.runs:
                self._portal.run(iteration.loop, Call(iteration.aclose))


class _Iteration(Generic[T]):
    """One run through an asynchronous iterator; its methods run in the loop.

    Args:
        source: Makes the iterator.
        loop: The loop.
        open_: Where this is while it is to be closed.
    """

    def __init__(self, source: Callable[[], AsyncIterator[T]], loop: Loop, open_: set[_Iteration[T]]) -> None:
        self.loop = loop
        self._source = source
        self._open = open_
        self._iterator: AsyncIterator[T] | None = None
        self._pulling: asyncio.Task[Any] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def pull(self) -> T:
        """Return the next item; ``_END`` after the last, and when this is closed."""
        if self._iterator is None:
            self.loop.unclosed.add(self)
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
        self.loop.unclosed.discard(self)


def _depth_outside() -> int:
    """Return the ``stacklevel`` of the first caller outside this package."""
    depth, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        depth, frame = depth + 1, frame.f_back
    return depth
