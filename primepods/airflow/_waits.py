"""Waits in a worker: the check before a wait is deferred, or the whole wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final

from airflow.providers.common.compat.sdk import conf

from .. import Client, HistoryRecord, NotFoundError, PodStatus, PrimePodsError
from ._events import PodEvent, failure, success
from .triggers import Goal

_MAX_RECORDS: Final = 1_000
"""Max history records to search for a pod."""
_GONE_TIMEOUT: Final = 2.0
"""Seconds for which a worker waits for a deletion before it defers the task."""
_GONE_INTERVAL: Final = 0.5
"""Seconds between two polls for that deletion."""


def find_in_history(client: Client, pod_id: str) -> HistoryRecord | None:
    """Return the history record of a pod, if it is among the first 1,000 records."""
    with client.pods.history() as records:
        return next((record for record in islice(records, _MAX_RECORDS) if record.id == pod_id), None)


def check_before_deferral(client: Client, pod_id: str, until: Goal) -> PodEvent | None:
    """Return the event of a wait that is already over; ``None`` if the wait must be deferred.

    After a failed request, the result is also ``None``, and the deferred wait handles the error.
    """
    try:
        if until == "gone":
            client.pods.wait_gone(pod_id, timeout=_GONE_TIMEOUT, interval=_GONE_INTERVAL)
            return success(pod_id, None)
        status = client.pods.status(pod_id)
    except NotFoundError:
        return _terminated_event(client, pod_id)
    except PrimePodsError:
        return None
    return success(pod_id, status) if status.is_ready else None


def _terminated_event(client: Client, pod_id: str) -> PodEvent | None:
    try:
        record = find_in_history(client, pod_id)
    except PrimePodsError:
        return None
    if record is None or record.terminated_at is None:
        return None
    message = f"Pod {pod_id} was terminated at {record.terminated_at.isoformat()}: it will not become ready."
    return {"status": "failed", "message": message, "pod": None}


def wait_here(  # noqa: PLR0913 - all parameters of a wait
    client: Client, pod_id: str, until: Goal, *, timeout: float, interval: float, log: Any
) -> PodEvent:
    """Wait in this process, like :class:`PrimePodTrigger` in a triggerer."""
    wait: Callable[..., PodStatus | None]
    wait = client.pods.wait_gone if until == "gone" else client.pods.wait_ready
    try:
        status = wait(pod_id, timeout=timeout, interval=interval, on_change=partial(log.info, "%s"))
    except PrimePodsError as exc:
        return failure(exc)
    return success(pod_id, status)


def default_deferrable() -> bool:
    """Return Airflow's configured default of ``deferrable``."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
