"""What can be waited for: functions of a pod's status, ``None`` standing for a pod that is gone."""

from __future__ import annotations

from collections.abc import Callable

from ..models import PodStatus

Until = Callable[[PodStatus | None], bool]


def ready(status: PodStatus | None) -> bool:
    """Tell whether a pod can be used: ACTIVE, installed, and an address for every node."""
    return status is not None and status.is_ready


def failed(status: PodStatus | None) -> bool:
    """Tell whether a pod will not become ready by itself: ERROR, STOPPED, DELETING, TERMINATED, gone, or an
    installation that ended in ERROR (which a wait believes when it stays for ``install_grace``).
    """
    return status is None or status.has_failed


def gone(status: PodStatus | None) -> bool:
    """Tell whether the API has no such pod any more."""
    return status is None


def settled(status: PodStatus | None) -> bool:
    """Tell whether a pod is ready or has failed: nothing more is to be expected of it."""
    return ready(status) or failed(status)
