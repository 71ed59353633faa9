"""The one deadline of a call that sends many requests."""

from __future__ import annotations

from typing import Final

from .._utils.clock import Clock

_EARLY: Final = 0.005
"""Seconds by which a loop may call a timer early."""


class SharedDeadline:
    """Tells when a call about many gives up: nothing has been answered for so long. It goes on otherwise.

    Args:
        clock: The client's clock.
        seconds: How long nothing may be answered while something is asked.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._silent_since: float | None = None
        """When the first request was sent after the latest response."""

    def note_request(self) -> None:
        """Note that a request is sent."""
        if self._silent_since is None:
            self._silent_since = self._clock.time()

    def note_response(self) -> None:
        """Note that a request was answered."""
        self._silent_since = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be sent."""
        since = self._silent_since
        return since is not None and self._clock.time() >= since + self._seconds - _EARLY
