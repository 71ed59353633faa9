"""Conditions of waits: functions of a pod's status, or of ``None`` if the pod does not exist."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from .._utils.arguments import check_callable
from .._utils.text import quote
from ..models import PodStatus

Until = Callable[[PodStatus | None], bool]
"""Condition of a wait: returns whether a status meets it; called with ``None`` if the pod does not exist.

``primepods.ready``, ``failed``, ``gone`` and ``settled`` are such functions.
"""


def ready(status: PodStatus | None) -> bool:
    """Return whether a pod is ACTIVE and installed, and every node has an address."""
    return status is not None and status.is_ready


def failed(status: PodStatus | None) -> bool:
    """Return whether a pod or its installation is in the state ERROR, and the pod has not ended.

    A wait counts a failed installation only after ``install_grace``. A pod that was stopped, is being deleted
    or is gone has ended.
    """
    return status is not None and status.has_failed


def gone(status: PodStatus | None) -> bool:
    """Return whether the pod no longer exists, or never existed."""
    return status is None


def settled(status: PodStatus | None) -> bool:
    """Return whether a pod is ready, STOPPED, DELETING, TERMINATED or gone, or has failed."""
    return ready(status) or is_over(status)


def is_over(status: PodStatus | None) -> bool:
    """Return whether a pod has failed, was stopped or deleted, is being deleted, or is gone."""
    return status is None or status.has_failed or status.has_ended


def check_until(until: object) -> None:
    """Check that a condition is a plain function.

    Raises:
        TypeError: It cannot be called, or is ``async def``. An awaitable would always be true.
    """
    check_callable("until", until)
    # An object may have an `async def __call__`.
    if any(map(inspect.iscoroutinefunction, (until, type(until).__call__))):
        raise _async_condition_error(until)


def evaluate(until: Until, status: PodStatus | None) -> bool:
    """Return whether ``until`` is met; raise a TypeError if its result is awaitable."""
    outcome: object = until(status)
    if inspect.isawaitable(outcome):
        if inspect.iscoroutine(outcome):
            outcome.close()
        raise _async_condition_error(until)
    return bool(outcome)


def _async_condition_error(until: object) -> TypeError:
    return TypeError(
        f"until must be a plain function that returns a bool, but {quote(until)} is async. Await in "
        "`on_change`, or iterate over `pods.watch`."
    )
