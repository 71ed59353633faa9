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
_MAX_READINGS: Final = 3


async def confirmed_time(pods: PodsAPI, server_clock: ServerClock, clock: Clock) -> float | None:
    """Return the server's time, if another response or this machine's clock agrees; ``None`` if not."""
    # Differences from this machine's clock; the first is that of this clock itself.
    differences = [0.0]
    for reading in range(_MAX_READINGS):
        if reading > 0:
            with suppress(PrimePodsError):
                await pods.page(limit=1)
        now = server_clock.now()
        if now is None:
            continue
        difference = now - clock.wall()
        if any(abs(difference - other) <= _TOLERANCE for other in differences):
            return now
        differences.append(difference)
    return None


async def expiring_name(
    beginning: str, hours: float, *, pods: PodsAPI, server_clock: ServerClock, clock: Clock
) -> UniqueName:
    """Return a unique name that contains when its pod expires, if the server's time is confirmed.

    The server's time is used because other machines, which may read the name, have other clocks.
    """
    now = await confirmed_time(pods, server_clock, clock)
    if now is None:
        log.warning("the server's time is unknown: the name of the pod does not contain when it expires")
        return unique_name(beginning, clock.random)
    return unique_name(beginning, clock.random, expires_at=now + 3600 * hours)
