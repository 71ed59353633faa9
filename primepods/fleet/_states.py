"""The few words that sum up how a pod is."""

from __future__ import annotations

from enum import StrEnum

from ..models import PodState, PodStatus


class Condition(StrEnum):
    """How a pod is, in a word; in the order in which a person wants to know."""

    FAILED = "failed"
    """ERROR, or a failed installation, which may yet recover."""
    INSTALLING = "installing"
    """ACTIVE, and not ready: the installation goes on, or a node has no address."""
    PENDING = "pending"
    """PENDING or PROVISIONING: not running yet."""
    UNKNOWN = "unknown"
    """UNKNOWN, no status, or a state that this version does not know."""
    DELETING = "deleting"
    """DELETING or TERMINATED: on its way out."""
    STOPPED = "stopped"
    """STOPPED: can be started again."""
    READY = "ready"
    """ACTIVE, installed, an address for every node."""
    GONE = "gone"
    """The API has no such pod any more."""


_BY_STATE = {
    PodState.PENDING: Condition.PENDING,
    PodState.PROVISIONING: Condition.PENDING,
    PodState.ACTIVE: Condition.INSTALLING,
    PodState.STOPPED: Condition.STOPPED,
    PodState.DELETING: Condition.DELETING,
    PodState.TERMINATED: Condition.DELETING,
}


def condition_of(status: PodStatus | None) -> Condition:
    """Return how a pod is, in a word.

    Args:
        status: Its status; ``None`` for a pod that is gone.
    """
    if status is None:
        return Condition.GONE
    if status.has_failed:
        return Condition.FAILED
    if status.is_ready:
        return Condition.READY
    return Condition.UNKNOWN if status.status is None else _BY_STATE.get(status.status, Condition.UNKNOWN)
