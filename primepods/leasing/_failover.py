"""Failover of a lease: after which errors an order is repeated, or the next spec is tried."""

from __future__ import annotations

import logging
import math
from typing import Final

from .. import errors
from .._utils.clock import doubled

_log = logging.getLogger("primepods")

_NEXT_SPEC_ERRORS: Final = (
    errors.SoldOutError,
    errors.PriceTooHighError,
    errors.PodFailedError,
    errors.WaitTimeoutError,
    errors.LoginError,
    errors.ConnectionLostError,
    # An uncertain order's pod has a unique name, by which the lease deletes it if it appears later.
    errors.CreateUncertainError,
)
# Number of pods that refuse the user's keys, after which no more are ordered: they would refuse, too.
_MAX_KEY_REFUSALS: Final = 2
# Seconds between two orders that the rate limit refuses; doubled each time.
_MIN_ORDER_DELAY: Final = 5.0
_MAX_ORDER_DELAY: Final = 60.0


def reorder_delay(error: errors.PrimePodsError, refusals: int, rand: float) -> float:
    """Return the seconds until an order is sent again; infinity if it is not.

    Args:
        error: The error of the order. The order is sent again after a refusal by the rate limit, and if it
            got no turn within its call's deadline.
        refusals: Number of such errors before.
        rand: Random, so that processes that were refused together do not order together; from 0 to 1.
    """
    retry_after = 0.0
    if isinstance(error, errors.RequestTimeoutError):
        if error.limit != "deadline" or error.maybe_received:
            return math.inf
    elif isinstance(error, errors.RateLimitError):
        retry_after = error.retry_after or 0.0
    else:
        return math.inf
    delay = doubled(_MIN_ORDER_DELAY, times=refusals, maximum=_MAX_ORDER_DELAY)
    return max(retry_after, delay) * (0.5 + rand)


def tries_next_spec(failures: list[errors.PrimePodsError]) -> bool:
    """Return whether the next spec is tried after these errors of the earlier ones."""
    refusals = [error for error in failures if isinstance(error, errors.LoginError) and error.is_key_refused]
    last = failures[-1]
    # The limit of all pods: a cheaper spec may keep within it.
    is_too_dear = isinstance(last, errors.BudgetExceededError) and last.budget == "hourly"
    return (is_too_dear or isinstance(last, _NEXT_SPEC_ERRORS)) and len(refusals) < _MAX_KEY_REFUSALS


def log_failover(error: errors.PrimePodsError, name: str, pod_id: str | None, left: int) -> None:
    """Say why the pod of this name, which is deleted now, is not used, and how many specs are left."""
    say_deleted(error, pod_id)
    _log.debug("%s", error)
    reason = error.reason if isinstance(error, errors.PodFailedError) else str(error)
    if isinstance(error, errors.SoldOutError):
        reason = "sold out"
    _log.warning("%s: %s; trying the next spec (%s left)", name, reason.rstrip("."), left)


def say_deleted(error: BaseException | None, pod_id: str | None) -> None:
    """Say in a wait's error that the pod is deleted, in place of the advice for a pod that runs."""
    if isinstance(error, errors.WaitError) and pod_id is not None:
        text = str(error).removesuffix(error.remedy).rstrip()
        error.remedy = f"Its lease has deleted pod {pod_id}."
        error.args = (f"{text} {error.remedy}",)
