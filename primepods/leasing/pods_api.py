"""The calls of ``client.pods`` that leases and sweeps use, and searches by the unique name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from .._utils.clock import Clock
from .._utils.text import quote
from .._utils.unique_names import is_same_name, may_be_shortened_name
from ..errors import AuthenticationError, ClientClosedError, PermissionDeniedError, PrimePodsError
from ..models import HistoryRecord, Page, Pod, PodState, PodStatus
from ..pagination import AsyncPager
from ..waiting import OnChange

log: logging.Logger = logging.getLogger("primepods")

KEY_REJECTIONS: Final = (AuthenticationError, PermissionDeniedError)
"""Rejections of the key: a gateway that repeats an order gets them both times, so there is no pod."""
LOOKUP_TIMEOUT: Final = 20.0
"""Seconds to search for the pod of an order that got no usable response."""
_MIN_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 5.0
APPEARS_WITHIN: Final = 600.0
"""Seconds after its order in which a pod may appear, even after a 404 or an empty list."""
_MAX_RECORDS: Final = 1_000
"""Max number of history records that are searched, the latest first."""


class PodsAPI(Protocol):
    """The methods of ``client.pods`` that leases use; a protocol, to avoid a circular import."""

    def list(self, *, page_size: int = 100) -> AsyncPager[Pod]:
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


async def find_namesakes(
    pods: PodsAPI, name: str, clock: Clock, is_enough: Callable[[list[Pod]], bool] = bool
) -> tuple[list[Pod], str]:
    """Search the list for pods with a name, for :data:`LOOKUP_TIMEOUT` at most.

    Args:
        pods: The API.
        name: The name.
        clock: The client's clock.
        is_enough: Returns whether the found pods end the search; by default, one pod does.

    Returns:
        The pods, and the result of the last search as a phrase for messages.
    """
    ends_at = clock.time() + LOOKUP_TIMEOUT
    backoff = _MIN_BACKOFF
    found: list[Pod] = []
    result = "the list could not be read in time"
    while True:
        with suppress(TimeoutError):
            async with clock.timeout_at(ends_at):
                listed, error = await pods.list().collect()
                if isinstance(error, ClientClosedError):
                    raise error
                found = [pod for pod in listed if is_same_name(name, pod.name)]
                result = f"the list could not be read: {error}" if error else "no pod has this name"
        seconds_left = ends_at - clock.time()
        if is_enough(found) or seconds_left <= 0:
            return found, result
        await clock.sleep(min(backoff, seconds_left))
        backoff = min(2 * backoff, _MAX_BACKOFF)


async def is_named(pods: PodsAPI, pod_id: str, name: str) -> bool | None:
    """Read a pod; return whether it may have been ordered as ``name``, or ``None`` if it cannot be read."""
    try:
        pod = await pods.get(pod_id)
    except (PrimePodsError, ValueError) as exc:
        log.info("the name of pod %s could not be read: %s", quote(pod_id), exc)
        return None
    return may_have_name(pod, name)


def may_have_name(pod: Pod, name: str) -> bool:
    """Return whether a pod may have been ordered as ``name``: a server may change or drop names."""
    return pod.name is None or may_be_shortened_name(name, pod.name)


async def read_ended_pods(pods: PodsAPI) -> list[HistoryRecord]:
    """Return the ended pods of the history, the latest first; after an error, those read before it."""
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
    """Return whether a pod is one of the ended ones: by its id or, without an id, by its unique name."""
    if pod_id is not None:
        return any(record.id == pod_id for record in ended)
    return any(is_same_name(name, record.name) for record in ended)
