"""Retry decisions and backoff, without I/O."""

from __future__ import annotations

from typing import Final

from .._utils.clock import Clock, doubled
from ..errors import APIError, ProtocolError, RateLimitError, TransportError
from ..retry import RetryPolicy

CallError = APIError | TransportError | ProtocolError

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_IDEMPOTENT_METHODS: Final = SAFE_METHODS | {"DELETE"}
_MAX_TOKENS: Final = 100
_RESERVED_TOKENS: Final = 20
_REFILL_PER_SECOND: Final = 1.0
_MIN_RATE_LIMIT_DELAY: Final = 0.25
"""Min seconds before a retry after a 429, because the number of these retries is not limited."""


class RetryBudget:
    """Retry budget of one transport, so that its calls do not overload an API that is down.

    A retry takes a token, unless it follows a 429. Each success gives a token back, and so does each second,
    up to the maximum. The last tokens are reserved for deletions, because a pod that is not deleted is
    billed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens = float(_MAX_TOKENS)
        self._refilled_at: float | None = None

    def take(self, method: str) -> bool:
        """Take a token for a retry; return ``False`` if none is left for ``method``."""
        now = self._clock.time()
        if self._refilled_at is not None:
            self._add((now - self._refilled_at) * _REFILL_PER_SECOND)
        self._refilled_at = now
        reserved = 0 if method == "DELETE" else _RESERVED_TOKENS
        if self._tokens < 1 + reserved:
            return False
        self._tokens -= 1
        return True

    def give(self) -> None:
        self._add(1)

    def _add(self, tokens: float) -> None:
        self._tokens = min(_MAX_TOKENS, self._tokens + tokens)


def is_idempotent(method: str) -> bool:
    """Return whether a request with this method may be sent again after a lost response.

    PUT is treated like POST, though HTTP defines it as idempotent.
    """
    return method in _IDEMPOTENT_METHODS


def retry_delay(
    policy: RetryPolicy,
    error: CallError,
    *,
    failures: int,
    rate_limits: int,
    rand: float,
) -> float | None:
    """Return the seconds to wait before the next retry, or ``None`` to give up.

    Args:
        policy: The retry policy.
        error: The error of the last attempt.
        failures: Number of failed attempts of this call, without 429s.
        rate_limits: Number of attempts that got a 429.
        rand: A random number from 0 (inclusive) to 1 (exclusive).
    """
    if not error.transient or policy.attempts == 1:
        return None
    retry_after = error.retry_after if isinstance(error, APIError) else None
    if retry_after is not None and retry_after > policy.max_delay:
        return None
    # A 429 does not count as a failure: other callers may have caused it, so a retry can succeed.
    is_rate_limit = isinstance(error, RateLimitError)
    if not is_rate_limit and failures >= policy.attempts:
        return None
    delay = backoff(policy, rate_limits if is_rate_limit else failures, rand)
    if retry_after is not None:
        # With jitter, the backoff is random, and spreads clients that got the same `Retry-After`.
        delay = retry_after + (delay if policy.jitter else 0.0)
    return max(delay, _MIN_RATE_LIMIT_DELAY) if is_rate_limit else delay


def backoff(policy: RetryPolicy, attempt: int, rand: float) -> float:
    """Return the seconds to wait after failure number ``attempt``; ``rand`` is a random number below 1."""
    delay = doubled(policy.base_delay, times=attempt - 1, maximum=policy.max_delay)
    return delay * rand if policy.jitter else delay
