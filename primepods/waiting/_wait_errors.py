"""How a wait that was in vain ends: what is said of its pods."""

from __future__ import annotations

import math
from typing import Final

from .._utils.text import one_line
from ..errors import PodFailedError, WaitTimeoutError
from ..models import PodState, PodStatus
from ._subscription import Subscription

_NAMED: Final = 5
_LONGEST_STATE: Final = 50
_LONGEST_REASON: Final = 500


def pod_failed(subscription: Subscription, pod_id: str) -> PodFailedError:
    """Build the error for a pod that will not get where it was wanted."""
    happened, reason, remedy = _explain(subscription.reported[pod_id])
    others = len(subscription.pods) - 1
    rest = f" {others} other pod{'s were' if others > 1 else ' was'} still waited for." if others else ""
    return PodFailedError(
        f"Pod {pod_id} {happened}. {remedy}{rest}",
        statuses=subscription.statuses(),
        pending=tuple(subscription.pods),
        pod_id=pod_id,
        last=subscription.pods[pod_id].row,
        reason=reason,
    )


def _explain(status: PodStatus | None) -> tuple[str, str, str]:
    """Return what has happened to a pod, the same as a reason, and what to do about it."""
    remedy = "Look for it in `pods.history()`."
    if status is None:
        happened = "is gone: somebody, or the provider, has terminated it"
    elif status.status == PodState.TERMINATED:
        happened = "was terminated (status TERMINATED)"
    elif status.status == PodState.STOPPED:
        happened = "was stopped (status STOPPED)"
        remedy = "It can be started again: start it, then wait again. Until then its storage may be billed."
    elif status.status == PodState.DELETING:
        happened = "is being deleted (status DELETING)"
        remedy = "Wait with `pods.wait_gone()` until it is gone; it may be billed until then."
    else:
        reason = (status.failure or f"status {status.status}")[:_LONGEST_REASON]
        remedy = "It may still be billed: look at `pods.get()` and `pods.logs()`, and delete it."
        return f"has failed: {reason}", reason, remedy
    return happened, f"it {happened}", remedy


def timed_out(subscription: Subscription, timeout: float) -> WaitTimeoutError:
    """Build the error that says what kept failing, who is still pending, and what that costs."""
    pending, reported = tuple(subscription.pods), subscription.reported
    shown = ", ".join(f"{pod_id} ({_describe(reported.get(pod_id))})" for pod_id in pending[:_NAMED])
    more = f" and {len(pending) - _NAMED} more" if len(pending) > _NAMED else ""
    failing = _what_kept_failing(subscription)
    seen = [row for pod_id in pending if (row := reported.get(pod_id)) is not None]
    if seen:
        advice = _advise(seen, len(pending))
    elif failing:
        advice = "Nothing was seen of any of them: wait again with the same ids."
    else:
        advice = "The API knows none of them (yet): check the ids."
    text = (
        f"{failing}After {timeout:g} s {len(pending)} of {len(subscription.pod_ids)} pods are still pending: "
        f"{shown}{more}. {advice}"
    )
    return WaitTimeoutError(text, statuses=subscription.statuses(), pending=pending)


def _what_kept_failing(subscription: Subscription) -> str:
    if subscription.hub.pause is not None:
        return f"The API asked for a pause, in which nothing is asked: {subscription.hub.pause} "
    pods = subscription.pods.values()
    troubles = (pod.trouble or pod.lookup_trouble for pod in pods)
    if trouble := next((error for error in troubles if error is not None), None):
        return f"Asking kept failing: {trouble} "
    if any(pod.seen_at == -math.inf for pod in pods):
        return "The API has not answered yet. "
    return ""


def _advise(seen: list[PodStatus], pending: int) -> str:
    """Say what those that were seen cost, and what to do."""
    prices = [row.cost_per_hr for row in seen if row.cost_per_hr is not None]
    cost = f"They cost at least {sum(prices):.2f} an hour. " if prices else ""
    who = "They go" if len(seen) == pending else "Those that were seen go"
    return f"{cost}{who} on and are billed: wait again with the same ids, or delete them."


def _describe(status: PodStatus | None) -> str:
    if status is None:
        return "not seen"
    # A word that only the server knows may hold anything, and any amount of it.
    state, progress = one_line(f"{status.status}")[:_LONGEST_STATE], status.installation_progress
    return f"{state}, installation {progress} %" if progress is not None else state
