"""The server's time, confirmed: one wrong ``Date`` must not make a pod old or expired."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from .._utils.clock import Clock, ServerClock
from .._utils.unique_names import UniqueName, unique_name
from ..errors import PrimePodsError
from .pods_api import PodsAPI

log: logging.Logger = logging.getLogger("primepods")

_TOLERANCE: Final = 60.0
"""Maximum difference in seconds between two clocks that agree."""


async def confirmed_time(pods: PodsAPI, server_clock: ServerClock, clock: Clock) -> float | None:
    """Return the server's time, if another response or this machine's clock agrees; ``None`` if not."""
    ahead_by = [0.0]
    for is_last in (False, False, True):
        if (now := server_clock.now()) is not None:
            ahead = now - clock.wall()
            if any(abs(ahead - other) <= _TOLERANCE for other in ahead_by):
                return now
            ahead_by.append(ahead)
        if not is_last:
            with suppress(PrimePodsError):
                await pods.page(limit=1)
    return None


async def expiring_name(
    beginning: str, hours: float, *, pods: PodsAPI, server_clock: ServerClock, clock: Clock
) -> UniqueName:
    """Return a unique name that contains when its pod expires; without that if the time is not confirmed.

    Two machines have only the server's time in common.
    """
    now = await confirmed_time(pods, server_clock, clock)
    if now is None:
        log.warning("the server's time is unknown: the name of the pod does not contain when it expires")
    return unique_name(beginning, clock.random, None if now is None else now + 3600 * hours)
