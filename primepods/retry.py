"""When to try again, and how long to wait: pure decisions, nothing here sleeps or sends."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import attrs

from ._utils.text import quote

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


def _at_least(minimum: float) -> Callable[[Any, Any, Any], None]:
    def check(_: object, attribute: attrs.Attribute[float], value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            msg = f"RetryPolicy.{attribute.name} must be a number, got {quote(value)}"
            raise TypeError(msg)
        if not minimum <= value <= sys.float_info.max:
            allowed = f"a finite number of at least {minimum}"
            msg = f"RetryPolicy.{attribute.name} must be {allowed}, got {quote(value)}"
            raise ValueError(msg)

    return check


def _flag(_: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        msg = f"RetryPolicy.{attribute.name} must be True or False, got {quote(value)}"
        raise TypeError(msg)


def _whole(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int):
        msg = f"RetryPolicy.{attribute.name} must be an integer, got {quote(value)}"
        raise TypeError(msg)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How a client repeats what failed for a passing reason.

    GET and DELETE are repeated after every error whose ``transient`` is true; POST only when the server
    provably received nothing. The wait before attempt ``n + 1`` is
    ``base_delay * 2 ** (n - 1)`` seconds, at most ``max_delay``, times a random number from 0 to 1 with
    ``jitter``. A ``Retry-After`` up to ``max_delay`` is waited for (plus some jitter); a longer one raises at
    once, with the error's ``retry_after`` set.

    Attributes:
        attempts: How often a request is sent at most, the first time included; 1 means no retry.
        base_delay: Seconds before the second attempt.
        max_delay: Longest wait in seconds.
        jitter: Whether waits are randomised, so that many clients do not return in step.
    """

    attempts: int = attrs.field(default=5, validator=[_whole, _at_least(1)])
    base_delay: float = attrs.field(default=0.5, validator=_at_least(0))
    max_delay: float = attrs.field(default=30.0, validator=_at_least(0))
    jitter: bool = attrs.field(default=True, validator=_flag)


class RetryBudget:
    """Keeps the callers of one client from storming an API that is down.

    A retry takes a token, a success brings one back. While most attempts succeed the budget stays full; when
    most fail it runs out, and failures are then reported without a retry until successes have refilled it.

    Args:
        capacity: How many retries may fail in a row.
    """

    def __init__(self, capacity: int = 100) -> None:
        self._capacity = capacity
        self._tokens = capacity

    def take(self) -> bool:
        """Take the token for a retry; ``False`` if there is none."""
        if not self._tokens:
            return False
        self._tokens -= 1
        return True

    def give(self) -> None:
        """Bring back a token after a success."""
        self._tokens = min(self._capacity, self._tokens + 1)


@attrs.frozen(kw_only=True)
class Failure:
    """What the retry decision needs to know of an attempt that failed.

    Attributes:
        reason: For the log and the error, such as ``"503"`` or ``"connection reset"``.
        transient: Whether trying again can help at all.
        maybe_received: Whether the server may have received the request.
        retry_after: Seconds the server asked to wait.
    """

    reason: str
    transient: bool = True
    maybe_received: bool = True
    retry_after: float | None = None


def decide(
    policy: RetryPolicy, *, attempt: int, method: str, failure: Failure, chance: float
) -> float | None:
    """Return the seconds to wait before the next attempt, or ``None`` to give up.

    Args:
        policy: The client's policy.
        attempt: Number of the attempt that failed, from 1.
        method: HTTP method.
        failure: What went wrong.
        chance: A random number from 0 to 1.
    """
    if not failure.transient or attempt >= policy.attempts:
        return None
    if failure.maybe_received and method not in IDEMPOTENT_METHODS:
        return None
    if failure.retry_after is None:
        return backoff(policy, attempt, chance)
    if failure.retry_after > policy.max_delay:
        return None
    return failure.retry_after + (backoff(policy, attempt, chance) if policy.jitter else 0.0)


def backoff(policy: RetryPolicy, attempt: int, chance: float) -> float:
    """Return the seconds between attempt ``attempt`` and the next; ``chance`` is a random number below 1."""
    # 2.0 ** 1024 overflows; max_delay has long won by then.
    longest = min(policy.max_delay, policy.base_delay * 2.0 ** min(attempt - 1, 60))
    return longest * (chance if policy.jitter else 1.0)


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Read a ``Retry-After`` header, seconds or an HTTP date; ``None`` where it is neither.

    Args:
        value: The header's value.
        now: Seconds since the epoch, against which a date is counted.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = (date - datetime.fromtimestamp(now, UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
