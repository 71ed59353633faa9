"""The one deadline of a call that sends many requests."""

from __future__ import annotations

from typing import Final

from .._utils.clock import Clock

_EARLY: Final = 0.005
"""Seconds by which a loop may call a timer early."""


class SharedDeadline:
    """The time at which a call about many gives up, put off by each response: while they come, it goes on.

    Args:
        clock: The client's clock.
        seconds: How long nothing may be answered.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._ends_at = clock.time() + seconds

    def extend(self) -> None:
        """Note that something was answered."""
        self._ends_at = self._clock.time() + self._seconds

    @property
    def is_over(self) -> bool:
        """Whether nothing has been answered for so long."""
        return self._clock.time() >= self._ends_at - _EARLY
