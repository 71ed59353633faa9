"""Waiting for pods."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from .._http.response import missing_row_error
from .._utils.money import money
from .._utils.text import one_line
from ..errors import PodFailedError, WaitTimeoutError
from ..models import PodChange, PodState, PodStatus
from ..results import PodStatuses
from ._watched_pod import WatchedPod
from .conditions import Until, check_until, evaluate, failed, gone, is_over, settled
from .connection import PollerConnection
from .subscription import Subscription

OnChange = Callable[[PodChange], Awaitable[object] | object]
"""Callback for each :class:`~primepods.PodChange` of a wait; an exception that it raises ends the wait.

It may be async, except in the blocking client, which calls it in the caller's thread.
"""

_MAX_NAMED: Final = 5
"""Max number of pending pods that an error names (chosen, like the lengths below)."""
_MAX_STATE_LENGTH: Final = 50
_MAX_REASON_LENGTH: Final = 500


@attrs.define(kw_only=True, eq=False)
class Wait:
    """One call of ``pods.wait``, with its parameters; all times are in seconds."""

    connection: PollerConnection
    pod_ids: list[str]
    until: Until
    timeout: float
    interval: float
    on_change: OnChange | None
    appear_grace: float
    install_grace: float
    _grace_ends: dict[str, float] = attrs.field(factory=dict[str, float], init=False)

    async def run(self) -> PodStatuses:
        """Wait until the condition has been true once for every pod."""
        check_until(self.until)
        if not self.pod_ids:
            return PodStatuses({})
        clock = self.connection.clock
        timeout = clock.timeout_at(clock.time() + self.timeout)
        appear_grace = 0.0 if self.until is gone else self.appear_grace
        async with Subscription(
            self.connection, self.pod_ids, self.interval, appear_grace=appear_grace
        ) as subscription:
            try:
                async with timeout:
                    while subscription.pods:
                        for pod in await subscription.changed():
                            await self._handle_change(pod, subscription)
                    return subscription.statuses()
            except TimeoutError:
                if not timeout.expired():
                    raise
            raise wait_timeout_error(subscription, self.timeout)

    async def _handle_change(self, pod: WatchedPod, subscription: Subscription) -> None:
        """Report a change; remove a pod that fulfils the condition, or raise if it no longer can."""
        pod_id = pod.pod_id
        change = subscription.report(pod)
        # Read this before the callback, during which the pod may appear.
        never_appeared = pod.never_found
        if change is not None and self.on_change is not None:
            outcome = self.on_change(change)
            if inspect.isawaitable(outcome):
                await outcome
        # A response without a change can end a grace period.
        if change is None and pod_id not in self._grace_ends:
            return
        status = subscription.reported[pod_id]
        in_grace = self._update_install_grace(pod, status)
        # These conditions are true for a failed installation, which may recover in the grace period.
        must_wait = in_grace and (self.until is settled or self.until is failed)
        if not must_wait and evaluate(self.until, status):
            subscription.remove_pod(pod_id)
        elif self.until is gone:
            return  # A failed or stopped pod can still become gone.
        elif in_grace:
            # A response after the grace period decides, even if it shows no change.
            pod.notify_on_next_response(subscription)
        elif never_appeared:
            raise missing_row_error(pod_id)
        elif is_over(status):
            raise _pod_failed_error(subscription, pod_id)

    def _update_install_grace(self, pod: WatchedPod, status: PodStatus | None) -> bool:
        """Begin or end the grace period of a failed installation; return whether it still runs."""
        is_failed_installation = status is not None and status.has_failed and status.status != PodState.ERROR
        if not is_failed_installation:
            self._grace_ends.pop(pod.pod_id, None)
            return False
        grace_ends_at = self._grace_ends.setdefault(pod.pod_id, pod.confirmed_at + self.install_grace)
        return pod.confirmed_at < grace_ends_at


def _pod_failed_error(subscription: Subscription, pod_id: str) -> PodFailedError:
    outcome, reason, remedy = _explain_failure(subscription.reported[pod_id])
    others = len(subscription.pods) - 1
    rest = ""
    if others == 1:
        rest = " 1 other pod was still waited for."
    elif others > 1:
        rest = f" {others} other pods were still waited for."
    return PodFailedError(
        f"Pod {pod_id} {outcome}.{rest}",
        remedy=remedy,
        statuses=subscription.statuses(),
        pending=tuple(subscription.pods),
        pod_id=pod_id,
        last=subscription.pods[pod_id].row,
        reason=reason,
    )


def _explain_failure(status: PodStatus | None) -> tuple[str, str, str]:
    """Return a phrase about the end of a pod, the text of ``PodFailedError.reason``, and the remedy."""
    remedy = "Look for it in `pods.history()`."
    if status is None:
        outcome = "is gone: a user, a process or the provider has terminated it"
    elif status.status == PodState.TERMINATED:
        outcome = "was terminated (status TERMINATED)"
    elif status.status == PodState.STOPPED:
        outcome = "was stopped (status STOPPED)"
        remedy = (
            "It can be started again: start it, then wait. While it is stopped, its storage may be billed."
        )
    elif status.status == PodState.DELETING:
        outcome = "is being deleted (status DELETING)"
        remedy = "Wait with `pods.wait_gone()` until it is gone; it may be billed until then."
    else:
        reason = (status.failure or f"status {status.status}")[:_MAX_REASON_LENGTH]
        remedy = "It may still be billed: look at `pods.get()` and `pods.logs()`, and delete it."
        return f"has failed: {reason}", reason, remedy
    return outcome, f"it {outcome}", remedy


def wait_timeout_error(subscription: Subscription, timeout: float) -> WaitTimeoutError:
    """Return the timeout error, with a recent failure, the pending pods, and their cost."""
    pending = tuple(subscription.pods)
    reported = subscription.reported
    names = ", ".join(f"{pod_id} ({_describe(reported.get(pod_id))})" for pod_id in pending[:_MAX_NAMED])
    if len(pending) > _MAX_NAMED:
        names += f" and {len(pending) - _MAX_NAMED} more"
    failures = _recent_failures(subscription)
    seen = [row for pod_id in pending if (row := reported.get(pod_id)) is not None]
    if seen:
        prices = [row.cost_per_hr for row in seen if row.cost_per_hr is not None]
        cost = f"They cost at least {money(sum(prices))} an hour while they run. " if prices else ""
        subject = "They" if len(seen) == len(pending) else "The pods that were seen"
        remedy = f"{cost}{subject} may still be billed: wait again with the same ids, or delete them."
    elif failures:
        remedy = "None of them was seen: wait again with the same ids."
    else:
        remedy = "The API knows none of them yet: check the ids."
    total = len(subscription.pod_ids)
    text = f"{failures}After {timeout:g} s {len(pending)} of {total} pods are still pending: {names}."
    return WaitTimeoutError(text, statuses=subscription.statuses(), pending=pending, remedy=remedy)


def _recent_failures(subscription: Subscription) -> str:
    if subscription.poller.pause_cause is not None:
        return f"The API asked for a pause in requests: {subscription.poller.pause_cause} "
    pods = subscription.pods.values()
    errors = (pod.poll.error or pod.lookup.error for pod in pods)
    first_error = next((error for error in errors if error is not None), None)
    if first_error is not None:
        return f"The last requests failed: {first_error} "
    has_pod_without_response = any(pod.confirmed_at == -math.inf for pod in pods)
    if has_pod_without_response:
        return "The API has not responded yet. "
    return ""


def _describe(status: PodStatus | None) -> str:
    if status is None:
        return "not seen"
    # An unknown state can be any text of any length.
    state = one_line(f"{status.status}")[:_MAX_STATE_LENGTH]
    if status.installation_progress is None:
        return state
    return f"{state}, installation {status.installation_progress} %"
