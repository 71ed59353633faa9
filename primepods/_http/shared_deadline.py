"""Deadline of a call that sends many requests."""

from __future__ import annotations

from typing import Final

from .._utils.clock import Clock

_TIMER_TOLERANCE: Final = 0.005
"""Max seconds by which an event loop calls a timer early."""


class SharedDeadline:
    """Deadline of a batch call: it expires when no response has come for ``seconds``.

    Args:
        clock: The client's clock.
        seconds: Max time without a response while requests are in flight.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._silent_since: float | None = None
        """Time of the first request after the latest response; ``None`` without such a request."""

    def note_request(self) -> None:
        """Record that a request is sent."""
        if self._silent_since is None:
            self._silent_since = self._clock.time()

    def note_response(self) -> None:
        """Record that a response has come."""
        self._silent_since = None

    @property
    def is_over(self) -> bool:
        """True if no more requests may be sent."""
        since = self._silent_since
        return since is not None and self._clock.time() >= since + self._seconds - _TIMER_TOLERANCE
