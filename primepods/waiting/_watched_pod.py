"""The shared poller's record of one pod and its subscribers, without I/O or a clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

from ..errors import ClientClosedError, PrimePodsError
from ..models import Pod, PodState, PodStatus

if TYPE_CHECKING:
    from .subscription import Subscription

MISSES_BEFORE_LOOKUP: Final = 2
"""Number of status responses without a row, after which a GET shows whether the pod is gone.

The number is chosen. A single empty response was reported of the availability endpoint.
"""
LOOKUP_INTERVAL: Final = 30.0
"""Min seconds between two GETs of the same pod (chosen).

The first GET is not delayed: after a row goes missing or becomes TERMINATED, after a GET of a pod that may be
gone has failed, or when a subscription begins, it follows the next status response.
"""
CONFIRM_AFTER: Final = 2.0
"""Seconds between a refusal and the request that confirms it (chosen). Stray refusals are imagined."""
_TIMER_TOLERANCE: Final = 0.01
"""Seconds by which a timer may be early (chosen)."""
_REFUSAL_LIFETIME: Final = 3
"""Intervals after which a refusal begins a new series and does not confirm the earlier one (chosen)."""


@attrs.define(eq=False, weakref_slot=False)
class RequestState:
    """The last request of one kind for a pod.

    Attributes:
        in_flight: Whether a request is in flight or about to be sent.
        sent_at: Time of the last request.
        error: Why the last request failed, was not sent, or returned an unreadable row; ``None`` otherwise.
        refused_since: Time at which the current series of refusals began; ``None`` if there is none.
    """

    in_flight: bool = False
    sent_at: float = -math.inf
    error: PrimePodsError | None = None
    refused_since: float | None = None

    def begin_or_confirm_refusal(self, error: Exception, *, now: float, interval: float) -> float | None:
        """Record that the last request was refused, as the first refusal of a series or as a later one.

        Returns:
            The time of the request that must confirm the refusal; ``None`` if the waits must end, because
            this one confirms an earlier one, or the client is closed.
        """
        since = self.refused_since
        if since is None or self.sent_at - since > _REFUSAL_LIFETIME * interval:
            since = self.refused_since = now
        confirm_at = since + CONFIRM_AFTER
        cannot_recover = isinstance(error, ClientClosedError)
        return None if cannot_recover or now >= confirm_at - _TIMER_TOLERANCE else confirm_at


@attrs.define(eq=False, weakref_slot=False)
class PollState(RequestState):
    """The last status request for a pod.

    Attributes:
        failures: 0 after a response, 1 after a request that failed, perhaps because of this pod; then 1 more
            for each such request for this pod alone.
    """

    failures: int = 0


@attrs.define(eq=False, weakref_slot=False)
class LookupState(RequestState):
    """The last GET of a pod, and when to send the next one.

    Attributes:
        due_at: Earliest time of the next GET.
        lacks_address: Whether the pod is ACTIVE and installed, but not all its addresses are known.
        pod: The last result of a GET for the address, kept while the pod is ACTIVE.
    """

    due_at: float = -math.inf
    lacks_address: bool = False
    pod: Pod | None = None


@attrs.define(eq=False)
class WatchedPod:
    """State of one pod, from the responses to the requests of all subscribers.

    A pod is in one of four states:

    - unknown: neither a row nor the result of a GET has been received; ``status`` is ``None``;
    - known: ``status`` is set, and stays set while rows are missing, until a GET shows that the pod is gone;
    - gone: ``status`` is ``None`` and ``gone`` is true;
    - never found: ``status`` is ``None`` and ``never_found`` is true.

    A row makes the pod known in any state, except that a gone pod with a TERMINATED row stays gone.

    Attributes:
        pod_id: The id of the pod.
        row: The last status row, or one made from ``get`` if there was none; kept when the pod is gone.
        status: ``row`` with the address from ``get``, or the result of ``get`` while rows are missing.
        gone: Whether the pod has existed and is confirmed gone.
        never_found: Whether the pod was never seen, and is confirmed not to exist.
        confirmed_at: Time of the last response that confirmed ``status``: a row, a GET while rows are
            missing, or a response without a row while ``status`` is ``None``.
        poll: Its status requests.
        lookup: Its GETs.
        subscriptions: Its subscribers. The value says whether the subscriber is notified of the next response
            even if nothing has changed.
    """

    pod_id: str
    row: PodStatus | None = None
    status: PodStatus | None = None
    gone: bool = False
    never_found: bool = False
    confirmed_at: float = -math.inf
    poll: PollState = attrs.field(factory=PollState)
    lookup: LookupState = attrs.field(factory=LookupState)
    subscriptions: dict[Subscription, bool] = attrs.field(factory=dict["Subscription", bool])
    _misses: int = 0
    """Responses without a row since the last row; see :meth:`_record_missing_row`."""
    _missed_at: float = -math.inf

    def add(self, subscription: Subscription) -> None:
        """Notify ``subscription`` of the next response, and of changes from now on."""
        self.subscriptions[subscription] = True
        if self._is_missing and not self.never_found:
            # Only a GET shows whether the pod exists: it is due now, not after the rest of `LOOKUP_INTERVAL`.
            self.lookup.due_at = -math.inf

    def notify_on_next_response(self, subscription: Subscription) -> None:
        """Notify ``subscription`` of the next response, even if nothing has changed."""
        # The subscription may have been removed while `on_change` ran.
        if subscription in self.subscriptions:
            self.subscriptions[subscription] = True

    @property
    def interval(self) -> float:
        """The shortest interval of its subscribers."""
        return min((subscription.interval for subscription in self.subscriptions), default=0.0)

    def end_subscriptions(self, error: Exception) -> None:
        for subscription in self.subscriptions:
            subscription.end(error)

    def is_lookup_due(self, now: float) -> bool:
        """Return whether to send a GET now, because the row is missing, TERMINATED or without an address."""
        if now < self.lookup.due_at or self.gone or self.lookup.in_flight:
            return False
        is_row_current = not self._misses
        return self._is_missing or (is_row_current and (self.lookup.lacks_address or self._is_terminated))

    def record_row(self, row: PodStatus | None, sequence: int, now: float) -> None:
        """Record this pod's row of a status response; ``None`` if there is none."""
        if row is None:
            self._record_missing_row(sequence, now)
            return
        self.confirmed_at = now
        must_update = self._misses or self.gone or True in self.subscriptions.values()
        if row is self.row and not must_update:
            # The usual case. The caller passes the same object if the row has not changed.
            return
        if self.gone and row.status == PodState.TERMINATED:
            self._set_status(None, sequence)
            return
        self.gone = self.never_found = False
        self._misses = 0
        self.row = row
        self._set_status(self._complete(row, now), sequence)

    def record_pod(self, pod: Pod, sequence: int, now: float) -> None:
        """Record the pod that a GET returned."""
        self.lookup.error = self.lookup.refused_since = None
        if pod.status == PodState.TERMINATED:
            self.row = self.row or _as_status(pod)
            self.gone, self.never_found = True, False
            self._set_status(None, sequence)
        elif self._misses or self.row is None:
            self.gone = self.never_found = False
            self.confirmed_at = now
            # An old `row` stays, as the proof for `record_not_found` that the pod existed.
            self.row = self.row or _as_status(pod)
            self._set_status(_as_status(pod), sequence)
        elif self.lookup.lacks_address:
            self.lookup.pod = pod
            self._set_status(self._complete(self.row, now), sequence)

    def record_not_found(self, sequence: int) -> None:
        """Record a 404, which confirms that the pod does not exist if its row is missing or TERMINATED.

        With any other row, the 404 is ignored: the row arrived after the request was sent, or ``get`` lags
        behind the status.
        """
        self.lookup.error = self.lookup.refused_since = None
        if not self._may_be_gone:
            return
        if self.row is not None:
            self.gone = True
        elif not self.gone:
            self.never_found = True
        self._set_status(None, sequence)

    def record_ended(self, sequence: int) -> None:
        """Record that the history lists the pod as ended: a pod that was never found is then gone."""
        if self.never_found:
            self.never_found, self.gone = False, True
            self._set_status(None, sequence)

    def record_lookup_error(self, error: PrimePodsError) -> None:
        """Record that a GET failed. If the pod may be gone, the next GET is due at once."""
        self.lookup.error = error
        if self._may_be_gone:
            self.lookup.due_at = -math.inf

    @property
    def _is_missing(self) -> bool:
        return self._misses >= MISSES_BEFORE_LOOKUP

    @property
    def _is_terminated(self) -> bool:
        return self.row is not None and self.row.status == PodState.TERMINATED

    @property
    def _may_be_gone(self) -> bool:
        return self._is_missing or self._is_terminated

    def _record_missing_row(self, sequence: int, now: float) -> None:
        """Count a response without a row, unless one was counted less than half an interval ago."""
        if self.status is None:
            self.confirmed_at = now
        if not self._misses or now >= self._missed_at + self.interval / 2:
            self._misses += 1
            self._missed_at = now
            if self._misses == MISSES_BEFORE_LOOKUP:
                self.lookup.due_at = now
        if self.gone or self.never_found:
            self._set_status(None, sequence)

    def _complete(self, row: PodStatus, now: float) -> PodStatus:
        """Add the address from ``get`` while the pod stays ACTIVE; record whether a lookup is needed."""
        lookup = self.lookup
        if row.status != PodState.ACTIVE:
            lookup.pod = None
        status = _with_address(row, lookup.pod)
        lookup.lacks_address = (
            status.status == PodState.ACTIVE and status.is_installed and not status.has_address
        )
        if not lookup.lacks_address:
            lookup.error = None
        if row.status == PodState.TERMINATED:
            lookup.due_at = now
        return status

    def _set_status(self, status: PodStatus | None, sequence: int) -> None:
        """Set the state, and notify the subscribers that subscribed before request ``sequence``.

        If the state is unchanged, notify only those that want the next response.
        """
        has_changed = status != self.status
        if has_changed:
            self.status = status
        for subscription, is_forced in self.subscriptions.items():
            if (has_changed or is_forced) and subscription.sequence < sequence:
                self.subscriptions[subscription] = False
                subscription.notify(self)


def _with_address(row: PodStatus, pod: Pod | None) -> PodStatus:
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
