"""Event loops for the option ``--event-loop`` of the tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final
from weakref import WeakValueDictionary


def eager_loop() -> asyncio.AbstractEventLoop:
    """Return a loop whose tasks start before `create_task` returns; Python 3.12 and newer."""
    loop = asyncio.new_event_loop()
    factory: Any = vars(asyncio)["eager_task_factory"]
    loop.set_task_factory(factory)
    return loop


def uv_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop's that shows what is ready to run, as asyncio's does: `ManualClock` looks."""
    base: Any = import_module("uvloop").Loop

    class UvLoop(base):  # type: ignore[misc]  # installed for this only
        def __init__(self) -> None:
            super().__init__()
            self._numbers = itertools.count()
            self._waiting: WeakValueDictionary[int, asyncio.Handle] = WeakValueDictionary()

        @property
        def _ready(self) -> list[asyncio.Handle]:
            return [handle for handle in self._waiting.values() if not handle.cancelled()]

        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
            number = next(self._numbers)

            def call() -> None:
                self._waiting.pop(number, None)
                callback(*args)

            handle: asyncio.Handle = super().call_soon(call, context=context)
            self._waiting[number] = handle
            return handle

    loop: asyncio.AbstractEventLoop = UvLoop()
    return loop


LOOPS: Final[dict[str, dict[str, Callable[[], asyncio.AbstractEventLoop]]]] = {
    "asyncio": {},
    "eager": {"loop_factory": eager_loop},
    "uvloop": {"loop_factory": uv_loop},
}
"""Options of anyio's asyncio backend for each."""
