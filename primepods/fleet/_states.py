"""Conditions: summaries of a pod's status."""

from __future__ import annotations

from enum import StrEnum

from ..models import PodState, PodStatus


class Condition(StrEnum):
    """Summary of a pod's status in one word. The members are ordered by need for attention."""

    FAILED = "failed"
    """ERROR, or a failed installation, which the platform may retry."""
    INSTALLING = "installing"
    """ACTIVE but not ready: not installed, or a node has no address."""
    PENDING = "pending"
    """PENDING or PROVISIONING: not running yet."""
    UNKNOWN = "unknown"
    """UNKNOWN, no state, or a state that this version does not know."""
    DELETING = "deleting"
    """DELETING or TERMINATED."""
    STOPPED = "stopped"
    """The pod is stopped."""
    READY = "ready"
    """ACTIVE and installed, with an address for every node."""
    GONE = "gone"
    """The pod no longer exists."""


_BY_STATE = {
    PodState.PENDING: Condition.PENDING,
    PodState.PROVISIONING: Condition.PENDING,
    PodState.ACTIVE: Condition.INSTALLING,
    PodState.STOPPED: Condition.STOPPED,
    PodState.DELETING: Condition.DELETING,
    PodState.TERMINATED: Condition.DELETING,
}


def condition_of(status: PodStatus | None) -> Condition:
    """Return the condition of a pod with this status; ``None`` means that the pod is gone."""
    if status is None:
        return Condition.GONE
    if status.has_failed:
        return Condition.FAILED
    if status.is_ready:
        return Condition.READY
    if status.status is None:
        return Condition.UNKNOWN
    return _BY_STATE.get(status.status, Condition.UNKNOWN)
