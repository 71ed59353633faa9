"""Event loops for the option ``--event-loop`` of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final


def eager_loop() -> asyncio.AbstractEventLoop:
    """Return a loop whose tasks start before `create_task` returns; Python 3.12 and newer."""
    loop = asyncio.new_event_loop()
    factory: Any = vars(asyncio)["eager_task_factory"]
    loop.set_task_factory(factory)
    return loop


LOOPS: Final[dict[str, dict[str, Callable[[], asyncio.AbstractEventLoop]]]] = {
    "asyncio": {},
    "eager": {"loop_factory": eager_loop},
}
"""Options of anyio's asyncio backend for each."""
