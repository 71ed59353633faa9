"""What the log says of polling that fails."""

from __future__ import annotations

import logging
import math
from typing import Final

from .._utils.clock import Clock
from .._utils.text import one_line
from ..errors import RateLimitError
from ._pause import PollPause

_SPACING: Final = 60.0

log = logging.getLogger("primepods")


class TroubleLog:
    """Warns of the first trouble at once, then once a minute, however many wait.

    Args:
        clock: The clients' clock.
        pause: The poller's pause.

    Attributes:
        next_at: When the next line may come.
    """

    def __init__(self, clock: Clock, pause: PollPause) -> None:
        self.next_at = -math.inf
        self._clock = clock
        self._pause = pause
        self._said: RateLimitError | None = None

    def failed(self, error: Exception, pods: int, of: int) -> None:
        """Say that a request for ``pods`` of ``of`` pods failed."""
        self._warn(
            "Waiting goes on, but a request for %d of %d pods failed: %s This is said at most once a minute.",
            *(pods, of, one_line(str(error))),
        )

    def paused(self, *, is_new: bool) -> None:
        """Say that nothing is asked for some time, if there is a pause.

        Args:
            is_new: Whether somebody has just begun to wait: then once a pause, whenever the last line was.
        """
        cause = self._pause.cause
        if cause is None:
            return
        if is_new and cause is not self._said:
            self._said, self.next_at = cause, -math.inf
        self._warn(
            "Waiting goes on, but the API asked for a pause, and nothing is asked for another %.0f s: %s",
            *(self._pause.until - self._clock.time(), one_line(str(cause))),
        )

    def _warn(self, text: str, *args: object) -> None:
        now = self._clock.time()
        if now >= self.next_at:
            self.next_at = now + _SPACING
            log.warning(text, *args)
