"""Whether to try again, and when: decisions without I/O."""

from __future__ import annotations

from typing import Final

from .._utils.clock import Clock
from ..errors import APIError, ProtocolError, RateLimitError, TransportError
from ..retry import RetryPolicy

CallError = APIError | TransportError | ProtocolError

_IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_BUDGET: Final = 100
_RESERVE: Final = 20
_REFILL_PER_SECOND: Final = 1.0
_SHORTEST_RATE_LIMIT_DELAY: Final = 0.25
"""Seconds before a request is repeated that was answered with 429, which is not counted as an attempt."""


class RetryBudget:
    """Keeps the callers of one client from storming an API that is down.

    A retry takes a token; a success brings one back, and so does every second. The last ones are kept for
    deletions: what is not deleted is billed.

    Args:
        clock: Tells the seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens = float(_BUDGET)
        self._filled_at: float | None = None

    def take(self, method: str) -> bool:
        """Take the token for repeating a request of ``method``; ``False`` if there is none for it."""
        now = self._clock.time()
        if self._filled_at is not None:
            self._add((now - self._filled_at) * _REFILL_PER_SECOND)
        self._filled_at = now
        if self._tokens < 1 + (0 if method == "DELETE" else _RESERVE):
            return False
        self._tokens -= 1
        return True

    def give(self) -> None:
        """Bring back a token after a success."""
        self._add(1)

    def _add(self, tokens: float) -> None:
        self._tokens = min(_BUDGET, self._tokens + tokens)


def is_idempotent(method: str) -> bool:
    """Tell whether sending a request twice does what sending it once does."""
    return method in _IDEMPOTENT_METHODS


def retry_delay(
    policy: RetryPolicy,
    error: CallError,
    *,
    failures: int,
    rate_limited: int,
    chance: float,
) -> float | None:
    """Return the seconds to wait before a request is repeated, or ``None`` to give up.

    Args:
        policy: The client's policy.
        error: Why the last attempt failed.
        failures: How many attempts of this call have failed, not counting those answered with 429.
        rate_limited: How many were answered with 429.
        chance: A random number from 0 to 1.
    """
    if not error.transient or policy.attempts == 1:
        return None
    retry_after = error.retry_after if isinstance(error, APIError) else None
    if retry_after is not None and retry_after > policy.max_delay:
        return None
    # A 429 says that all callers together ask too much, not that this call is hopeless.
    is_limited = isinstance(error, RateLimitError)
    if not is_limited and failures >= policy.attempts:
        return None
    delay = backoff(policy, rate_limited if is_limited else failures, chance)
    if retry_after is not None:
        delay = retry_after + (delay if policy.jitter else 0.0)
    return max(delay, _SHORTEST_RATE_LIMIT_DELAY) if is_limited else delay


def backoff(policy: RetryPolicy, attempt: int, chance: float) -> float:
    """Return the seconds between attempt ``attempt`` and the next; ``chance`` is a random number below 1."""
    # 2.0 ** 1024 overflows; max_delay has long won by then.
    longest = min(policy.max_delay, policy.base_delay * 2.0 ** min(attempt - 1, 60))
    return longest * (chance if policy.jitter else 1.0)
