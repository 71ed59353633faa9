"""Event loops for the option ``--event-loop`` of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clock import CountingExecutor


def plain_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of asyncio's whose threads count their work."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(CountingExecutor())
    return loop


def eager_loop() -> asyncio.AbstractEventLoop:
    """Return a loop whose tasks start before `create_task` returns; Python 3.12 and newer."""
    loop = plain_loop()
    factory: Any = vars(asyncio)["eager_task_factory"]
    loop.set_task_factory(factory)
    return loop


def uv_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop's, which CI installs, or skip the test where it is missing.

    Unlike asyncio's loops, uvloop's hide their work. This one shows the tests' clock how many callbacks were
    `scheduled`, its thread pool, and how many addresses its own threads are `resolving`: one a connect, of
    numeric addresses, too.
    """
    base: Any = pytest.importorskip("uvloop", reason="not asyncio's own").Loop

    def call_soon(self: Any, *args: Any, **more: Any) -> asyncio.Handle:
        self.scheduled += 1
        handle: asyncio.Handle = base.call_soon(self, *args, **more)
        return handle

    def call_soon_threadsafe(self: Any, *args: Any, **more: Any) -> asyncio.Handle:
        self.scheduled += 1
        handle: asyncio.Handle = base.call_soon_threadsafe(self, *args, **more)
        return handle

    async def getaddrinfo(self: Any, *args: Any, **more: Any) -> object:
        self.resolving += 1
        try:
            found: object = await base.getaddrinfo(self, *args, **more)
        finally:
            self.resolving -= 1
        return found

    methods = {function.__name__: function for function in (call_soon, call_soon_threadsafe, getaddrinfo)}
    loop: Any = type("ObservableLoop", (base,), {**methods, "scheduled": 0, "resolving": 0})()
    loop._default_executor = CountingExecutor()
    loop.set_default_executor(loop._default_executor)
    typed: asyncio.AbstractEventLoop = loop
    return typed


LOOPS: Final[dict[str, dict[str, Callable[[], asyncio.AbstractEventLoop]]]] = {
    "asyncio": {"loop_factory": plain_loop},
    "eager": {"loop_factory": eager_loop},
    "uvloop": {"loop_factory": uv_loop},
}
"""Options of anyio's asyncio backend for each."""
