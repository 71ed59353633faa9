"""Brings the shared poller's warnings into the logs of the tasks that wait.

The poller belongs to no task, and so its warnings ("Waiting goes on, but …") go to the log of the triggerer,
where nobody looks who looks for what a task does.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Protocol

_has_own_log: ContextVar[bool] = ContextVar("has_own_log", default=False)
_POLLER_LOG = logging.getLogger("primepods")


class TaskLog(Protocol):
    """What is needed of a task's log, whichever library it is of."""

    def warning(self, event: str, /) -> object:
        """Write a line."""


class _Relay(logging.Handler):
    """Repeats records that belong to no task in the context of each task that waits."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.waiting: dict[object, tuple[Context, TaskLog]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != _POLLER_LOG.name or _has_own_log.get():
            return
        for context, log in list(self.waiting.values()):
            context.run(log.warning, record.getMessage())


_relay = _Relay()


@contextmanager
def poller_warnings(log: TaskLog) -> Generator[None]:
    """Within the block, write what the shared poller warns of to ``log``, too, in the block's own context.

    Args:
        log: The log of the task.
    """
    key = object()
    token = _has_own_log.set(True)
    _relay.waiting[key] = copy_context(), log
    _POLLER_LOG.addHandler(_relay)  # once, however often
    try:
        yield
    finally:
        _has_own_log.reset(token)
        del _relay.waiting[key]
        if not _relay.waiting:
            _POLLER_LOG.removeHandler(_relay)
