"""How a wait that was in vain ends: what is said of its pods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from .._utils.text import one_line
from ..errors import PodFailedError, WaitTimeoutError
from ..models import PodStatus
from ..results import PodStatuses
from ._changes import ChangeTracker
from ._subscription import Subscription

_NAMED: Final = 5
_LONGEST_STATE: Final = 50
_LONGEST_REASON: Final = 500


def as_statuses(pod_ids: Iterable[str], reported: Mapping[str, PodStatus | None]) -> PodStatuses:
    """Return every pod's last state in the order asked; those gone or never seen are ``missing``."""
    rows = {pod_id: row for pod_id in pod_ids if (row := reported.get(pod_id)) is not None}
    return PodStatuses(rows, missing=tuple(pod_id for pod_id in pod_ids if pod_id not in rows))


def pod_failed(
    pod_id: str, pending: Iterable[str], tracker: ChangeTracker, subscription: Subscription
) -> PodFailedError:
    """Build the error for a pod that will not get where it was wanted."""
    status = tracker.reported[pod_id]
    if status is None:
        reason = "it is gone: somebody, or the provider, has terminated it"
        remedy = "Look for it in `pods.history()`."
    else:
        reason = (status.failure or f"status {status.status}")[:_LONGEST_REASON]
        remedy = "It may still be billed: look at `pods.get()` and `pods.logs()`, and delete it."
    pending = tuple(pending)
    others = len(pending) - 1
    rest = f" {others} other pods were still waited for." if others else ""
    return PodFailedError(
        f"Pod {pod_id} has failed: {reason}. {remedy}{rest}",
        statuses=as_statuses(subscription.pod_ids, tracker.reported),
        pending=pending,
        pod_id=pod_id,
        last=subscription.pods[pod_id].row,
        reason=reason,
    )


def timed_out(
    pending: Iterable[str], timeout: float, tracker: ChangeTracker, subscription: Subscription
) -> WaitTimeoutError:
    """Build the error that names who is still pending, what it costs, and what kept failing."""
    pending = tuple(pending)
    reported = tracker.reported
    shown = ", ".join(f"{pod_id} ({_describe(reported.get(pod_id))})" for pod_id in pending[:_NAMED])
    more = f" and {len(pending) - _NAMED} more" if len(pending) > _NAMED else ""
    prices = [
        row.cost_per_hr for pod_id in pending if (row := reported.get(pod_id)) and row.cost_per_hr is not None
    ]
    cost = f" They cost at least {sum(prices):.2f} an hour." if prices else ""
    text = (
        f"After {timeout:g} s {len(pending)} of {len(subscription.pod_ids)} pods are still pending: "
        f"{shown}{more}.{cost} They go on and are billed: wait again with the same ids, or delete them."
        f"{_what_kept_failing(pending, subscription)}"
    )
    return WaitTimeoutError(text, statuses=as_statuses(subscription.pod_ids, reported), pending=pending)


def _what_kept_failing(pending: Iterable[str], subscription: Subscription) -> str:
    pods = [subscription.pods[pod_id] for pod_id in pending]
    troubles = (pod.trouble or pod.lookup_trouble for pod in pods)
    trouble = next((error for error in troubles if error is not None), subscription.pause)
    if trouble is not None:
        return f" What kept failing: {trouble}"
    if any(pod.seen_at == -math.inf for pod in pods):
        return " The API has not answered yet."
    return ""


def _describe(status: PodStatus | None) -> str:
    if status is None:
        return "not seen"
    # A word that only the server knows may hold anything, and any amount of it.
    state, progress = one_line(f"{status.status}")[:_LONGEST_STATE], status.installation_progress
    return f"{state}, installation {progress} %" if progress is not None else state
