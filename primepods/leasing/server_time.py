"""The server's time, confirmed: a wrong ``Date`` must not make a pod old or expired."""

from __future__ import annotations

from typing import Final

from .._utils.clock import ServerClock
from ..errors import PrimePodsError, ProtocolError
from .pods_api import PodsAPI

# Max difference in seconds between two clocks that agree.
_TOLERANCE: Final = 60.0
# Max difference in seconds between this machine's clock and two responses that agree.
# A larger difference has two possible causes: a wrong clock of this machine, or a proxy that adds its own
# wrong time to every response.
_MAX_DIFFERENCE: Final = 4 * 3600.0
_MAX_READINGS: Final = 3
# Seconds after which an order that expires reads an unknown time again: one proxy of several may be wrong.
_RETRY_AFTER: Final = 5.0


async def confirmed_time(pods: PodsAPI, server_clock: ServerClock, consequence: str) -> float:
    """Return the server's time, if this machine's clock or a second response agrees.

    Args:
        pods: The API, to get another response.
        server_clock: The time of the latest response; has this machine's clock, too.
        consequence: Effect of an unknown time, for the error.

    Raises:
        ProtocolError: Neither this machine's clock nor a second response agrees, or two responses agree and
            are hours away from this machine's clock.
        PrimePodsError: The API cannot be read.
    """
    problem = "no usable Date, or no two that agree. Have"
    # Differences from this machine's clock: its own, which is 0, and those of the responses.
    differences = [0.0]
    for reading in range(_MAX_READINGS):
        if reading > 0:
            await _read_date(pods, server_clock)
        now = server_clock.now()
        if now is None:
            continue
        difference = now - server_clock.clock.wall()
        if any(abs(difference - other) <= _TOLERANCE for other in differences):
            if abs(difference) <= _MAX_DIFFERENCE:
                return now
            hours = f"{abs(difference) / 3600:.1f} hours {'ahead of' if difference > 0 else 'behind'}"
            clock_is = f"the Date of its responses is {hours} this machine's clock"
            problem = f"{clock_is}. Set the clock if it is wrong; otherwise have"
            break
        differences.append(difference)
    path = "/api/v1/pods/"
    text = f"GET {path}: {consequence}: {problem} your proxy let the API's Date through."
    raise ProtocolError(text, method="GET", url_path=path)


async def _read_date(pods: PodsAPI, server_clock: ServerClock) -> None:
    """Send a request to get the ``Date`` of its response; error responses have a ``Date``, too."""
    try:
        await pods.page(limit=1)
    except PrimePodsError:
        if server_clock.now() is None:
            raise


async def expiry_after(hours: float | None, pods: PodsAPI, server_clock: ServerClock) -> float | None:
    """Return the time when a pod expires that is ordered now; ``None`` without hours.

    The server's time is used because other machines, which may read the name, have other clocks. If it is
    unknown, it is read again.

    Raises:
        ProtocolError: The server's time is not confirmed.
        PrimePodsError: The API cannot be read.
    """
    if hours is None:
        return None
    consequence = "nothing is ordered, because its expiry would be unknown"
    try:
        now = await confirmed_time(pods, server_clock, consequence)
    except ProtocolError:
        await server_clock.clock.sleep(_RETRY_AFTER)
        now = await confirmed_time(pods, server_clock, consequence)
    return now + 3600 * hours
