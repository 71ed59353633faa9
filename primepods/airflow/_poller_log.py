"""Forwarding of the shared poller's warnings to the logs of waiting tasks.

The poller belongs to no task, so its warnings ("Still waiting, but …") would go only to the triggerer's log,
which users of a task do not read.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Protocol

_is_in_task: ContextVar[bool] = ContextVar("is_in_task", default=False)
"""``True`` in the context of a wait: Airflow already writes its records to the task's log."""
_POLLER_LOG = logging.getLogger("primepods.poller")


class TaskLog(Protocol):
    """Interface of a task's log."""

    def warning(self, event: str, /) -> object:
        """Log a warning."""


class _Relay(logging.Handler):
    """Handler that passes the records of pollers, of any connection, to all waiting tasks."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.task_logs: dict[object, tuple[Context, TaskLog]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if _is_in_task.get():
            return
        for context, log in list(self.task_logs.values()):
            # Airflow finds the file of the task's log by the context.
            context.run(log.warning, record.getMessage())


_relay = _Relay()


@contextmanager
def poller_warnings(log: TaskLog) -> Generator[None]:
    """Forward the shared poller's warnings to a task's log until the block ends."""
    key = object()
    token = _is_in_task.set(True)
    _relay.task_logs[key] = copy_context(), log
    _POLLER_LOG.addHandler(_relay)  # adds it only once
    try:
        yield
    finally:
        _is_in_task.reset(token)
        del _relay.task_logs[key]
        if not _relay.task_logs:
            _POLLER_LOG.removeHandler(_relay)
