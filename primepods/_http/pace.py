"""Rate limiter of this process's requests to one API with one key."""

from __future__ import annotations

import math
from collections import deque
from typing import Final
from weakref import WeakValueDictionary

from .._utils.clock import Clock
from ..config import Settings
from ..errors import RateLimitError

_FIRST_PAUSE: Final = 1.0
"""Seconds of the first pause after a 429 without ``Retry-After``; each next one is twice as long."""
_MAX_PAUSE: Final = 60.0
"""Max seconds of these pauses."""
_PACE_WINDOW: Final = 5.0
"""Seconds over which requests are counted, to measure and to raise the rate."""
_MIN_FIRST_RATE: Final = 1.0
"""Min requests per second of the first limit, so that 429s after few requests do not stop all calls."""
_FIRST_RATE_FACTOR: Final = 0.5
"""Factor of the measured rate that gives the first limit."""
_RATE_FACTOR: Final = 0.8
"""Factor by which the limit falls at each later 429."""
_PAUSE_MEMORY: Final = 60.0
"""Seconds after a pause within which another 429 means that the rate is too high."""
_RATE_INCREASE: Final = 0.1
"""Requests per second by which the rate grows in each window, if all requests succeed."""
_MAX_RELATIVE_INCREASE: Final = 0.2
"""Max fraction by which one response raises the rate; it matters for low rates."""
_MIN_RATE: Final = 1 / 60
"""Lowest limit, in requests per second."""
_MAX_RATE: Final = 100.0
"""Requests per second above which there is no limit."""
MAX_RETRY_AFTER: Final = 300.0
"""Max seconds of a pause, without the random extra; this API documents no limit of ``Retry-After``."""


class Pace:
    """Rate limiter that begins without a limit and adapts to 429s.

    After a 429, polling pauses for the time in ``Retry-After``, at most five minutes. Without that header,
    the pauses grow from one second to a minute. A random time is added: up to half of the pause, or up to a
    second if that is more. Other calls continue, since the 429 may be about one endpoint. A second 429, up to
    a minute after the pause, limits the rate of all requests. The limit grows with successful responses and
    falls with 429s, so that independent processes share the API's limit. The time between two requests is
    then random, from half to one and a half of the mean, so that the processes do not stay in step.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_rate_limit: RateLimitError | None = None
        self._next_pause = _FIRST_PAUSE
        self._rate = math.inf
        self._sent_times: deque[float] = deque()
        self._next_turn_at = -math.inf
        self.paused_until: float = -math.inf

    @property
    def pause_cause(self) -> RateLimitError | None:
        """The 429 that caused the current pause, or ``None``."""
        return self._last_rate_limit if self._clock.time() < self.paused_until else None

    @property
    def next_at(self) -> float:
        """The earliest time at which polling may send its next request."""
        return max(self.paused_until, self._next_turn_at)

    def take_turn(self, *, ends_at: float = math.inf) -> float | None:
        """Reserve the next turn for a request, and return the seconds until the turn.

        If the rate limit allows no turn before ``ends_at``, reserve nothing and return ``None``.
        """
        now = turn_at = self._clock.time()
        if self._rate < math.inf:
            turn_at = max(now, self._next_turn_at)
            if turn_at >= ends_at:
                return None
            self._next_turn_at = turn_at + (0.5 + self._clock.random()) / self._rate
        self._sent_times.append(now)
        while self._sent_times[0] <= now - _PACE_WINDOW:
            self._sent_times.popleft()
        return turn_at - now

    async def wait_for_turn(self) -> RateLimitError | None:
        """Wait for a turn, unless polling is paused; return the cause of the pause, if any."""
        if self.pause_cause is None:
            delay = self.take_turn()
            if delay:
                await self._clock.sleep(delay)
        return self.pause_cause

    def record_response(self) -> None:
        """Increase the rate and reset the length of pauses, after a successful response."""
        self._next_pause = _FIRST_PAUSE
        if self._rate < math.inf:
            responses_per_window = max(self._rate * _PACE_WINDOW, 1.0)
            increase = _RATE_INCREASE / responses_per_window
            self._rate += min(increase, _MAX_RELATIVE_INCREASE * self._rate)
            if self._rate > _MAX_RATE:
                self._rate = math.inf

    def apply_rate_limit(self, error: RateLimitError) -> bool:
        """Begin or extend the pause, and perhaps lower the rate; return whether the pause was changed.

        During a pause, a 429 counts only if its ``Retry-After`` ends later. If every 429 drew a random extra,
        the longest extra would decide, and all processes would resume at nearly the same time.
        """
        now = self._clock.time()
        if error.retry_after is not None:
            seconds = min(error.retry_after, MAX_RETRY_AFTER)
            if now + seconds <= self.paused_until:
                return False
        elif now < self.paused_until:
            return False
        else:
            seconds = self._next_pause
            self._next_pause = min(2 * seconds, _MAX_PAUSE)
        # The limit depends on the pause before this one.
        self._lower_rate(is_first=now >= self.paused_until + _PAUSE_MEMORY)
        if self._rate < math.inf:
            next_turn_at = now + seconds + self._clock.random() / self._rate
            self._next_turn_at = max(self._next_turn_at, next_turn_at)
        self.paused_until = now + seconds + max(1.0, 0.5 * seconds) * self._clock.random()
        self._last_rate_limit = error
        return True

    def _lower_rate(self, *, is_first: bool) -> None:
        """Lower the limit; if there is none, set one by the recent requests, but not at a first 429."""
        if self._rate < math.inf:
            self._rate = max(_MIN_RATE, _RATE_FACTOR * self._rate)
        elif not is_first:
            measured = len(self._sent_times) / _PACE_WINDOW
            self._rate = max(_MIN_FIRST_RATE, _FIRST_RATE_FACTOR * measured)


_paces: WeakValueDictionary[tuple[str, str, int], Pace] = WeakValueDictionary()


def shared_pace(settings: Settings) -> Pace:
    """Return the rate limiter for the API and the key of ``settings``.

    All clients of the process with this API and key share it, because the API probably limits them together.
    A simulated event loop has another clock, and so another rate limiter.
    """
    # Use the clock's id: a reference would keep a clock alive that references the `Pace`.
    key = (settings.base_url, settings.api_key, id(settings.clock))
    pace = _paces.get(key)
    if pace is None:
        pace = _paces[key] = Pace(settings.clock)
    return pace
