"""Event loops for the option ``--event-loop`` of the tests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple

import pytest

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class PlainLoop(asyncio.SelectorEventLoop):
    """A loop of asyncio's that shows the tests' clock what it does."""

    _ready: Any
    activity = 0
    """How many turns have had something else to do than to wait for timers."""
    jobs = 0
    """Jobs in threads, as those of `asyncio.to_thread`, that tasks wait for.

    Not by the executor's own count of idle threads: in CPython 3.13 it goes wrong for good where a thread
    takes the next job before `submit` has looked for an idle one.
    """
    resolving = 0

    def _process_events(self, events: Any) -> None:
        # `_ready` holds what other turns have left, and not the timers of this one.
        self.activity += bool(events or self._ready)
        super()._process_events(events)  # type: ignore[misc]  # asyncio's own

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Count the job until the loop has its result."""
        job = super().run_in_executor(executor, func, *args)
        self.jobs += 1
        job.add_done_callback(self._end_job)
        return job

    def _end_job(self, job: Any) -> None:
        self.jobs -= 1


def eager_loop() -> asyncio.AbstractEventLoop:
    """Return a loop whose tasks start before `create_task` returns; Python 3.12 and newer."""
    loop = PlainLoop()
    factory: Any = vars(asyncio)["eager_task_factory"]
    loop.set_task_factory(factory)
    return loop


def uv_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop's, which CI installs, or skip the test where it is missing.

    Unlike asyncio's loops, uvloop's hide their work. This one shows the tests' clock how many callbacks were
    scheduled, its `jobs`, and how many addresses its own threads are `resolving`: one a connect, of numeric
    addresses, too.
    """
    base: Any = pytest.importorskip("uvloop", reason="not asyncio's own").Loop

    def call_soon(self: Any, *args: Any, **more: Any) -> asyncio.Handle:
        self.activity += 1
        handle: asyncio.Handle = base.call_soon(self, *args, **more)
        return handle

    def call_soon_threadsafe(self: Any, *args: Any, **more: Any) -> asyncio.Handle:
        self.activity += 1
        handle: asyncio.Handle = base.call_soon_threadsafe(self, *args, **more)
        return handle

    async def getaddrinfo(self: Any, *args: Any, **more: Any) -> object:
        self.resolving += 1
        try:
            found: object = await base.getaddrinfo(self, *args, **more)
        finally:
            self.resolving -= 1
        return found

    def run_in_executor(self: Any, *args: Any) -> Any:
        job = base.run_in_executor(self, *args)
        self.jobs += 1
        job.add_done_callback(self._end_job)
        return job

    methods = {function.__name__: function for function in (call_soon, call_soon_threadsafe, getaddrinfo)}
    counts = {"activity": 0, "jobs": 0, "resolving": 0, "_end_job": PlainLoop._end_job}
    loop: asyncio.AbstractEventLoop = type(
        "ObservableLoop", (base,), {**methods, **counts, "run_in_executor": run_in_executor}
    )()
    return loop


LOOPS: Final[dict[str, dict[str, Callable[[], asyncio.AbstractEventLoop]]]] = {
    "asyncio": {"loop_factory": PlainLoop},
    "eager": {"loop_factory": eager_loop},
    "uvloop": {"loop_factory": uv_loop},
}
"""Options of anyio's asyncio backend for each."""
