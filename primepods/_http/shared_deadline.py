"""Deadline of a call that sends many requests."""

from __future__ import annotations

from typing import Final

from .._utils.clock import Clock

_TIMER_TOLERANCE: Final = 0.005
"""Tolerance in seconds, because event loops may call timers slightly early."""


class SharedDeadline:
    """Deadline of a batch call: a countdown of ``seconds``, after which no new request begins.

    Requests in progress are still retried. An attempt starts the countdown unless it already runs. Any
    response stops it; if the countdown was over, new requests may begin again.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._started_at: float | None = None
        """Start of the countdown; ``None`` while it is stopped."""

    def record_request(self) -> None:
        if self._started_at is None:
            self._started_at = self._clock.time()

    def record_response(self) -> None:
        self._started_at = None

    @property
    def is_over(self) -> bool:
        """Whether no new requests may begin."""
        started_at = self._started_at
        return started_at is not None and self._clock.time() >= started_at + self._seconds - _TIMER_TOLERANCE
