"""Failover of a lease: decide whether to repeat an order or to try the next spec."""

from __future__ import annotations

import logging
import math
import re
from typing import Final

from .. import errors
from .._utils.clock import doubled

_log = logging.getLogger("primepods")
_NUMBERS: Final = re.compile(r"[\d.,]+")

_NEXT_SPEC_ERRORS: Final = (
    errors.SoldOutError,
    errors.PriceTooHighError,
    errors.PodFailedError,
    errors.WaitTimeoutError,
    errors.LoginError,
    # The pod of an uncertain order has a unique name, by which the release deletes it if the list shows it.
    errors.CreateUncertainError,
)
_REFUSALS: Final = (errors.SoldOutError, errors.PriceTooHighError, errors.BudgetExceededError)
# If this many pods have refused the user's SSH keys, no other spec is tried.
_MAX_KEY_REFUSALS: Final = 2
# Backoff between two attempts to order, in seconds without jitter: the first and the longest delay.
_MIN_ORDER_DELAY: Final = 5.0
_MAX_ORDER_DELAY: Final = 60.0


def reorder_delay(error: errors.PrimePodsError, refusals: int, rand: float) -> float:
    """Return the seconds until an order is sent again; infinity if it is not.

    It is sent again after a 429, and after a deadline that passed before it was sent.

    Args:
        error: The error of the order.
        refusals: Number of earlier attempts that failed in this way.
        rand: Random number from 0 to 1 for the jitter, so that processes do not order at the same time.
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
    return retry_after + delay * (0.5 + rand)


def should_try_next_spec(failures: list[errors.PrimePodsError]) -> bool:
    """Return whether to try the next spec, given the errors of all specs so far."""
    refusals = [error for error in failures if isinstance(error, errors.LoginError) and error.is_key_refused]
    last = failures[-1]
    # PRIMEPODS_MAX_HOURLY limits all pods together: a cheaper spec may stay below it.
    is_over_hourly_limit = isinstance(last, errors.BudgetExceededError) and last.budget == "hourly"
    return (is_over_hourly_limit or isinstance(last, _NEXT_SPEC_ERRORS)) and len(refusals) < _MAX_KEY_REFUSALS


def log_failover(failures: list[errors.PrimePodsError], name: str, left: int) -> None:
    """Log why the next spec is tried, and how many specs are left.

    For orders that are refused for the same reason, log it once.
    """
    _log.debug("%s", failures[-1])
    reason, *earlier = map(_reason, reversed(failures))
    is_repeated = _NUMBERS.sub("", reason) in {_NUMBERS.sub("", text) for text in earlier}
    level = logging.DEBUG if is_repeated and isinstance(failures[-1], _REFUSALS) else logging.WARNING
    _log.log(level, "%s: %s; trying the next spec (%s left)", name, reason, left)


def _reason(error: errors.PrimePodsError) -> str:
    if isinstance(error, errors.SoldOutError):
        return "sold out"
    return (error.reason if isinstance(error, errors.PodFailedError) else str(error)).rstrip(".")


def replace_remedy_after_deletion(error: BaseException | None, pod_id: str | None) -> None:
    """If the error is a wait's, say in its remedy that the lease has deleted the pod."""
    if isinstance(error, errors.WaitError) and pod_id is not None:
        text = str(error).removesuffix(error.remedy).rstrip()
        error.remedy = f"Its lease has deleted pod {pod_id}."
        error.args = (f"{text} {error.remedy}",)
