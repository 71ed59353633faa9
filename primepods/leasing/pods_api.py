"""Parts that leases, sweeps and orders share, such as searches by name and the server's time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import attrs

from .._operations import listeners_only_context
from .._utils.arguments import check_amount
from .._utils.clock import Clock, ServerClock, doubled
from .._utils.unique_names import is_same_name
from ..errors import ClientClosedError, PrimePodsError, ProtocolError
from ..models import HistoryRecord, Page, Pod, PodState, PodStatus

if TYPE_CHECKING:
    from ..config import Settings
    from ..models.account import Disk
    from ..pagination import AsyncPager
    from ..remote import SSHOptions, Watchdog
    from ..specs import PodSpec
    from ..waiting.wait import OnChange

log: logging.Logger = logging.getLogger("primepods")

LOOKUP_TIMEOUT: Final = 20.0
"""Max seconds to search for the pod or disk of an order that got no usable response."""
LIST_TIMEOUT: Final = 10.0
"""Max seconds to read a list once."""
APPEARS_WITHIN: Final = 600.0
"""Seconds after an order in which its pod may appear, even after a 404 or an empty list (chosen)."""
_MIN_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 5.0
# Max number of history records that are searched.
_MAX_RECORDS: Final = 1_000
# Max difference in seconds between two clocks that agree.
_CLOCK_TOLERANCE: Final = 60.0
# Max difference in seconds between this machine's clock and two responses that agree.
# A larger difference has two possible causes: a wrong clock of this machine, or a proxy that adds a wrong
# time to every response.
_MAX_DIFFERENCE: Final = 4 * 3600.0
_MAX_READINGS: Final = 3


@attrs.frozen
class BareRow:
    """An unreadable row of a list, with its id and, if readable, its name.

    Attributes:
        id: The id.
        name: The name; ``None`` if the row has none that is text.
        price_hr: Unknown.
        created_at: Unknown.
    """

    id: str
    name: str | None
    price_hr: None = None
    created_at: None = None


ListedPod: TypeAlias = Pod | BareRow
Listing: TypeAlias = tuple[list[ListedPod], bool]
"""The listed pods, and whether the list is complete."""


N = TypeVar("N", bound="ListedPod | Disk")


class PodsAPI(Protocol):
    """The methods of ``client.pods`` that leases use; a protocol, to avoid a circular import."""

    def list(self) -> AsyncPager[Pod]:
        """See :class:`primepods.AsyncPods`."""
        ...

    async def get(self, pod_id: str) -> Pod:
        """See :class:`primepods.AsyncPods`."""
        ...

    async def page(self, *, limit: int) -> Page[Pod]:
        """See :class:`primepods.AsyncPods`."""
        ...

    def history(self) -> AsyncPager[HistoryRecord]:
        """See :class:`primepods.AsyncPods`."""
        ...

    async def wait_ready(
        self, pod_id: str, *, timeout: float, interval: float, on_change: OnChange | None
    ) -> PodStatus:
        """See :class:`primepods.AsyncPods`."""
        ...

    async def wait_gone(self, pod_id: str, *, timeout: float, interval: float) -> None:
        """See :class:`primepods.AsyncPods`."""
        ...

    async def delete(self, pod_id: str, *, missing_ok: bool) -> PodState:
        """See :class:`primepods.AsyncPods`."""
        ...


class SharedList:
    """The list of a client's pods; leases that ask while it is being read share the requests."""

    def __init__(self) -> None:
        self._readings: dict[str | None, asyncio.Task[Listing]] = {}

    async def read(self, client: TeamClient, ends_at: float) -> Listing:
        """Return the readable pods of the client's team, and whether the list is complete.

        Args:
            client: The client.
            ends_at: Time at which to give up and return no pods; a reading also ends after 10 s.
        """
        team_id = client.settings.team_id
        reading = self._readings.get(team_id)
        if reading is None or reading.get_loop() is not asyncio.get_running_loop():
            # The context variables of this caller must not reach the reading, which others share.
            reading = asyncio.get_running_loop().create_task(
                read_list(client.listed, client.settings.clock), context=listeners_only_context()
            )
            self._readings[team_id] = reading
            reading.add_done_callback(lambda _: self._readings.pop(team_id, None))
        with suppress(TimeoutError):
            async with client.settings.clock.timeout_at(ends_at):
                # Don't await the task: cancelling one caller would cancel it.
                await asyncio.wait({reading})
        return reading.result() if reading.done() and not reading.cancelled() else ([], False)


@attrs.frozen(kw_only=True)
class TeamClient:
    """The client of leases and sweeps, for the team that pays.

    Attributes:
        pods: ``client.pods``, for the team that pays.
        listed: Returns a pager of the pods. A row needs only an id.
        allow: Checks an order against ``PRIMEPODS_MAX_HOURLY``.
        check_watchdog_key: Raises a ``ConfigError`` if the API says that this key may not delete pods.
        order: Orders a pod. If a response is unreadable, but has the name and an id, the second argument is
            called with the id.
        settings: The client's settings, for that team.
        server_clock: The server's time.
        shared_list: The list of pods, which leases read together.
        describe_disks: Returns a sentence that says which disks stay, and what they cost.
    """

    pods: PodsAPI
    listed: Callable[[], AsyncPager[ListedPod]]
    allow: Callable[[PodSpec], Awaitable[None]]
    check_watchdog_key: Callable[[str], Awaitable[bool]]
    order: Callable[[PodSpec, Callable[[str], Awaitable[None]]], Coroutine[Any, Any, list[Pod]]]
    settings: Settings
    server_clock: ServerClock
    shared_list: SharedList
    describe_disks: Callable[[Sequence[str]], Awaitable[str]]


@attrs.frozen(kw_only=True)
class LeaseOptions:
    """Checked parameters of ``pods.lease``; see there."""

    ready_timeout: float
    interval: float
    max_hours: float | None
    max_spend: float | None
    wind_down: float
    release_timeout: float
    login: bool
    check: str | Sequence[str] | None
    check_timeout: float
    watchdog: Watchdog | None
    ssh: SSHOptions


async def read_list(list_pods: Callable[[], AsyncPager[N]], clock: Clock) -> tuple[list[N], bool]:
    """Return the readable pods, or disks, and whether the list is complete; give up after 10 s."""
    with suppress(TimeoutError):
        async with clock.timeout_at(clock.time() + LIST_TIMEOUT):
            listed, error = await list_pods().collect()
            return listed, error is None
    return [], False


async def find_named(
    list_pods: Callable[[], AsyncPager[N]],
    name: str,
    clock: Clock,
    is_enough: Callable[[list[N]], object] = bool,
    *,
    noun: str = "pod",
) -> tuple[list[N], str]:
    """Search the list for pods, or disks, with a name; give up after :data:`LOOKUP_TIMEOUT`.

    Args:
        list_pods: Returns a pager of the list.
        name: The name.
        clock: The client's clock.
        is_enough: Returns whether the found pods end the search; by default, one pod does.
        noun: Noun for a row, for the phrase.

    Returns:
        The pods, and a phrase for messages that says why there may be none.

    Raises:
        ClientClosedError: The client is closed.
    """
    ends_at = clock.time() + LOOKUP_TIMEOUT
    searches = 0
    found: list[N] = []
    result = "the list could not be read in time"
    while True:
        with suppress(TimeoutError):
            async with clock.timeout_at(ends_at):
                listed, error = await list_pods().collect()
                if isinstance(error, ClientClosedError):
                    raise error
                found = [row for row in listed if is_same_name(name, row.name)]
                result = f"no {noun} has this name"
                if error:
                    result = f"the list could not be read: {str(error).rstrip('.')}"
        seconds_left = ends_at - clock.time()
        if is_enough(found) or seconds_left <= 0:
            return found, result
        await clock.sleep(min(doubled(_MIN_BACKOFF, times=searches, maximum=_MAX_BACKOFF), seconds_left))
        searches += 1


async def read_ended_pods(pods: PodsAPI) -> list[HistoryRecord]:
    """Return the ended pods among up to 1,000 records of the history; stop at an error.

    Raises:
        ClientClosedError: The client is closed.
    """
    ended: list[HistoryRecord] = []
    read = 0
    try:
        async for record in pods.history():
            read += 1
            if record.terminated_at is not None:
                ended.append(record)
            if read == _MAX_RECORDS:
                break
    except ClientClosedError:
        raise
    except PrimePodsError as exc:
        log.info("the history could not be read to its end: %s", exc)
    return ended


def has_ended(name: str, pod_id: str | None, ended: list[HistoryRecord]) -> bool:
    """Return whether an ended pod has the unique name and, if ``pod_id`` is known, this id."""
    return any(is_same_name(name, record.name) and pod_id in {None, record.id} for record in ended)


async def confirmed_time(pods: PodsAPI, server_clock: ServerClock, consequence: str) -> float:
    """Return the server's time, if this machine's clock or a second response agrees.

    A wrong ``Date`` must not make a pod old or expired.

    Args:
        pods: The API, to get another response.
        server_clock: The time of the latest response, and this machine's clock.
        consequence: Phrase for the error, such as "nothing is deleted, because ages are unknown".

    Raises:
        ProtocolError: No response has a usable ``Date``, no two clocks agree, or two responses agree and are
            hours away from this machine's clock.
        PrimePodsError: The API cannot be read.
    """
    problem = "No response had a usable Date, or no two agreed. Have"
    # Differences from this machine's clock: 0 for the clock itself, then one for each response.
    differences = [0.0]
    for reading in range(_MAX_READINGS):
        if reading > 0:
            try:
                await pods.page(limit=1)
            except PrimePodsError:
                # An error response may have a Date, too.
                if server_clock.now() is None:
                    raise
        now = server_clock.now()
        if now is None:
            continue
        difference = now - server_clock.clock.wall()
        if any(abs(difference - other) <= _CLOCK_TOLERANCE for other in differences):
            if abs(difference) <= _MAX_DIFFERENCE:
                return now
            hours = f"{abs(difference) / 3600:.1f} hours {'ahead of' if difference > 0 else 'behind'}"
            clock_is = f"The Date of the responses is {hours} this machine's clock"
            problem = f"{clock_is}. Set the clock if it is wrong; otherwise have"
            break
        differences.append(difference)
    path = "/api/v1/pods/"
    text = f"GET {path}: {consequence}. {problem} your proxy let the API's Date through."
    raise ProtocolError(text, method="GET", url_path=path)


async def expiry_after(hours: float | None, pods: PodsAPI, server_clock: ServerClock) -> float | None:
    """Return the expiry of a pod that is ordered now, by the server's time; ``None`` without hours.

    Raises:
        ValueError: The hours are not a positive number.
        ProtocolError: The server's time is not confirmed, even after a second attempt.
        PrimePodsError: The API cannot be read.
    """
    if hours is None:
        return None
    check_amount("max_hours", hours, "number of hours")
    consequence = "nothing is ordered, because its expiry would be unknown"
    now = await confirmed_time(pods, server_clock, consequence)
    return now + 3600 * hours
