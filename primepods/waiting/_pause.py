"""The pause that a rate limit asks for."""

from __future__ import annotations

import math
from typing import Final

from .._utils.clock import Clock
from ..errors import RateLimitError

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
"""Seconds, where the answer does not say how long."""
MAX_RETRY_AFTER: Final = 300.0
"""Seconds that are obeyed at most: some servers send the time of day, or an hour for a burst."""


class PollPause:
    """While it lasts, nothing is asked: the whole hub pauses when one of its requests is answered with 429.

    It lasts as long as ``Retry-After`` says, but at most five minutes, and up to half of that longer, at
    random.

    Args:
        clock: The clients' clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limit: RateLimitError | None = None
        self._next = _FIRST_PAUSE
        self.until = -math.inf

    @property
    def cause(self) -> RateLimitError | None:
        """The answer that asked for the pause; ``None`` when it is over."""
        return self._limit if self._clock.time() < self.until else None

    def reset(self) -> None:
        """Begin with short pauses again: a request was answered."""
        self._next = _FIRST_PAUSE

    def apply_rate_limit(self, limit: RateLimitError) -> None:
        """Pause. Of several answers that ask for the same, the first counts.

        The longest of many random pauses would be about as long in every process, and all come back together.
        """
        now = self._clock.time()
        if limit.retry_after is None and now < self.until:
            return
        seconds = self._next if limit.retry_after is None else min(limit.retry_after, MAX_RETRY_AFTER)
        if now + seconds <= self.until:
            return
        if limit.retry_after is None:
            self._next = min(2 * self._next, _LONGEST_PAUSE)
        # With the exact time many processes would come back in step.
        self.until = now + seconds + max(1.0, 0.5 * seconds) * self._clock.random()
        self._limit = limit
