"""The shared poller's record of one pod and its subscribers. No I/O, no clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from .._operations import LISTENERS
from .._utils.exceptions import copy_exception
from .._utils.fault_search import FaultSearch
from ..errors import PrimePodsError
from ..models import Pod, PodState, PodStatus

if TYPE_CHECKING:
    from .._operations.hook import Listeners

MISSES_BEFORE_GONE: Final = 2
"""Status responses without a row, after which a GET confirms whether the pod is gone."""
LOOKUP_INTERVAL: Final = 30.0
"""Min seconds between two GETs of the same pod."""


PodSearch: TypeAlias = "FaultSearch[WatchedPod, Exception]"


class Subscriber:
    """Poller's view of a subscription: its pods, its interval, and methods to notify it.

    Args:
        pod_ids: Ids of the pods.
        interval: Seconds between two polls of each.

    Attributes:
        pod_ids: Ids of the pods, without duplicates.
        interval: Seconds between two polls of each.
        listeners: Listeners of the polls, or ``None``.
        sequence: Its sequence number; only responses to requests with a higher number count for it.
        pods: Pods that it still subscribes to.
    """

    def __init__(self, pod_ids: Iterable[str], interval: float) -> None:
        self.pod_ids: dict[str, None] = dict.fromkeys(pod_ids)
        self.interval = interval
        self.listeners: Listeners | None = LISTENERS.get()
        self.sequence: int = 0
        self.pods: dict[str, WatchedPod] = {}
        self._changed: dict[WatchedPod, None] = {}
        self._error: Exception | None = None
        self._has_news = asyncio.Event()

    def notify(self, pod: WatchedPod) -> None:
        """Record that a pod has changed, and wake the subscriber."""
        self._changed[pod] = None
        self._has_news.set()

    def end(self, error: Exception) -> None:
        """End the subscription with a copy of ``error``: subscribers must not share tracebacks and notes."""
        if self._error is None:
            self._error = copy_exception(error)
            self._has_news.set()


@attrs.define(eq=False)
class WatchedPod:
    """State of one pod, from the responses to the requests of all subscribers.

    Attributes:
        pod_id: Its id.
        row: The last status row as received; kept when the pod is gone.
        status: ``row``, with the address from ``get`` if it lacks one; ``None`` if the pod does not exist.
        gone: Whether it existed and is confirmed gone.
        never_found: Whether it was never seen, and is confirmed not to exist.
        poll_error: Error of its last status request; ``None`` if that succeeded.
        refused_since: Time at which the current series of refusals began; ``None`` if there is none.
        lookup_error: Error of the last GET.
        lookup_refused_since: Time at which the current series of refused GETs began, or ``None``.
        search: The search for the pods that make a batch fail, if this pod may be one of them.
        is_polled_alone: Whether each request for it has no other pod, because it makes batches fail.
        poll_sequence: Sequence number of its last status request.
        polled_at: Time at which that request was sent.
        confirmed_at: Time of the last response that confirmed the current state.
        in_flight: Whether a status request is in flight or about to be sent.
        looking_up: Whether a GET is in flight.
        lookup_at: Earliest time of the next GET.
        subscriptions: Its subscribers, in the order in which they were added.
    """

    pod_id: str
    row: PodStatus | None = None
    status: PodStatus | None = None
    gone: bool = False
    never_found: bool = False
    poll_error: PrimePodsError | None = None
    refused_since: float | None = None
    lookup_error: PrimePodsError | None = None
    lookup_refused_since: float | None = None
    search: PodSearch | None = None
    is_polled_alone: bool = False
    poll_sequence: int = -1
    polled_at: float = -math.inf
    confirmed_at: float = -math.inf
    in_flight: bool = False
    looking_up: bool = False
    lookup_at: float = -math.inf
    subscriptions: dict[Subscriber, None] = attrs.field(factory=dict[Subscriber, None])
    _force_notify: dict[Subscriber, None] = attrs.field(factory=dict[Subscriber, None])
    """Subscribers to notify of the next response even if nothing has changed."""
    _pod_with_address: Pod | None = None
    _lacks_address: bool = False
    _misses: int = 0
    _missed_at: float = -math.inf

    def add(self, subscription: Subscriber) -> None:
        """Notify ``subscription`` of changes from now on."""
        self.subscriptions[subscription] = None
        self.notify_on_next_response(subscription)
        if self._is_missing and not self.never_found:
            # The state is unknown until a `get`: do not make a new subscriber wait for one.
            self.lookup_at = -math.inf

    def notify_on_next_response(self, subscription: Subscriber) -> None:
        """Notify ``subscription`` of the next response, even if nothing has changed."""
        self._force_notify[subscription] = None

    def remove(self, subscription: Subscriber) -> None:
        """Stop notifying ``subscription``."""
        self.subscriptions.pop(subscription, None)
        self._force_notify.pop(subscription, None)

    def needs_lookup(self, now: float) -> bool:
        """Return whether the status rows are incomplete and a GET is due."""
        if now < self.lookup_at or self.gone:
            return False
        is_row_current = not self._misses
        return self._is_missing or (is_row_current and (self._lacks_address or self._is_terminated))

    def record_row(self, row: PodStatus | None, sequence: int, now: float) -> None:
        """Record the row of this pod from a status response, or its absence."""
        if row is None:
            self._record_missing_row(sequence, now)
            return
        self.confirmed_at = now
        must_update = self._misses or self._force_notify or self.gone
        if row is self.row and not must_update:
            # The usual case: nothing has changed, and the caller passes the same object again.
            return
        if self.gone and row.status == PodState.TERMINATED:
            self._set_status(None, sequence)
            return
        self.gone = self.never_found = False
        self._misses = 0
        self.row = row
        self._set_status(self._complete(row, now), sequence)

    def record_pod(self, pod: Pod, sequence: int, now: float) -> None:
        """Record the result of ``get`` for a pod whose status row is incomplete or missing."""
        self.lookup_error = self.lookup_refused_since = None
        if pod.status == PodState.TERMINATED:
            self.row = self.row or _as_status(pod)
            self.gone = True
            self._set_status(None, sequence)
        elif self._misses or self.row is None:
            self.gone = self.never_found = False
            self.confirmed_at = now
            # An old `row` stays, as the proof for `record_not_found` that the pod existed.
            self.row = self.row or _as_status(pod)
            self._set_status(_as_status(pod), sequence)
        elif self._lacks_address:
            self._pod_with_address = pod
            self._set_status(self._complete(self.row, now), sequence)

    def record_not_found(self, sequence: int) -> None:
        """Record a 404, which confirms that the pod is gone if its row is missing or TERMINATED.

        With any other row, the 404 is ignored: the row arrived after the request was sent, or ``get`` lags
        behind the status.
        """
        self.lookup_error = self.lookup_refused_since = None
        if not self._may_be_gone:
            return
        if self.row is not None:
            self.gone = True
        elif not self.gone:
            self.never_found = True
        self._set_status(None, sequence)

    def record_ended(self, sequence: int) -> None:
        """Record that the history lists the pod as ended: if it was never seen, it ended before the wait."""
        if self.never_found:
            self.never_found, self.gone = False, True
            self._set_status(None, sequence)

    def record_lookup_error(self, error: PrimePodsError) -> None:
        """Record that a GET failed; the next tick repeats it if the pod may be gone."""
        self.lookup_error = error
        if self._may_be_gone:
            self.lookup_at = -math.inf

    @property
    def interval(self) -> float:
        """The shortest interval of its subscribers."""
        return min((each.interval for each in self.subscriptions), default=0.0)

    def end(self, error: Exception) -> None:
        """End all its subscriptions with ``error``."""
        for subscription in self.subscriptions:
            subscription.end(error)

    @property
    def _is_missing(self) -> bool:
        return self._misses >= MISSES_BEFORE_GONE

    @property
    def _is_terminated(self) -> bool:
        return self.row is not None and self.row.status == PodState.TERMINATED

    @property
    def _may_be_gone(self) -> bool:
        return self._is_missing or self._is_terminated

    def _record_missing_row(self, sequence: int, now: float) -> None:
        """Count a response without a row, unless the last such response is under half an interval old."""
        if self.status is None:
            self.confirmed_at = now
        if not self._misses or now >= self._missed_at + self.interval / 2:
            self._misses += 1
            self._missed_at = now
            if self._misses == MISSES_BEFORE_GONE:
                self.lookup_at = now
        if self.gone or self.never_found:
            self._set_status(None, sequence)

    def _complete(self, row: PodStatus, now: float) -> PodStatus:
        """Add the address from ``get`` while the pod stays ACTIVE; note whether a lookup is needed."""
        if row.status != PodState.ACTIVE:
            self._pod_with_address = None
        status = _with_address(row, self._pod_with_address)
        self._lacks_address = (
            status.status == PodState.ACTIVE and status.is_installed and not status.has_address
        )
        if not self._lacks_address:
            self.lookup_error = None
        if row.status == PodState.TERMINATED:
            self.lookup_at = now
        return status

    def _set_status(self, status: PodStatus | None, sequence: int) -> None:
        """Set the state, and notify subscribers.

        Only those that subscribed before request ``sequence`` are notified; if the state is unchanged, only
        those that asked for the next response.
        """
        to_notify = self._force_notify
        if status != self.status:
            self.status, to_notify = status, self.subscriptions
        for subscription in list(to_notify):
            if subscription.sequence < sequence:
                self._force_notify.pop(subscription, None)
                subscription.notify(self)


def _with_address(row: PodStatus, pod: Pod | None) -> PodStatus:
    """Return a status row with the address from ``get`` if it lacks one."""
    if pod is None or row.has_address:
        return row
    return attrs.evolve(
        row,
        ip=pod.ip,
        ssh_connection=pod.ssh_connection,
        prime_port_mapping=row.prime_port_mapping or pod.prime_port_mapping,
    )


def _as_status(pod: Pod) -> PodStatus:
    fields = attrs.fields_dict(Pod).keys() & (attrs.fields_dict(PodStatus).keys() - {"extra"})
    shared = {field: getattr(pod, field) for field in fields}
    return PodStatus(pod_id=pod.id, cost_per_hr=pod.price_hr, **shared)
