"""What the shared poller knows of one pod, and who wants to hear of it. No I/O, no clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import Final, TypeAlias

import attrs

from .._utils.exceptions import copy_exception
from .._utils.fault_search import FaultSearch
from ..errors import PrimePodsError
from ..models import Pod, PodState, PodStatus

MISSES_BEFORE_GONE: Final = 2
"""Status requests without a row, after which ``get`` is asked whether the pod is gone."""
LOOKUP_INTERVAL: Final = 30.0
"""Seconds before ``get`` is asked again about the same pod."""


PodSearch: TypeAlias = "FaultSearch[WatchedPod, Exception]"


class Subscriber:
    """A subscription as the poller sees it: its pods, its interval, and how to tell it of changes.

    Args:
        pod_ids: Ids of the pods.
        interval: Seconds between two polls of each.

    Attributes:
        pod_ids: The same, each once.
        interval: The same.
        since: Number of the last request before it began: only the responses to later ones count for it.
        pods: Those of its pods that are still wanted.
    """

    def __init__(self, pod_ids: Iterable[str], interval: float) -> None:
        self.pod_ids: dict[str, None] = dict.fromkeys(pod_ids)
        self.interval = interval
        self.since: int = 0
        self.pods: dict[str, WatchedPod] = {}
        self._changed: dict[WatchedPod, None] = {}
        self._error: Exception | None = None
        self._news = asyncio.Event()

    def notify(self, pod: WatchedPod) -> None:
        """Note that a pod has changed."""
        self._changed[pod] = None
        self._news.set()

    def end(self, error: Exception) -> None:
        """End it with a copy of ``error``: tracebacks and notes of one must not show up at another's."""
        if self._error is None:
            self._error = copy_exception(error)
            self._news.set()


@attrs.define(eq=False)
class WatchedPod:
    """One pod, as far as requests sent for anybody have shown it.

    Attributes:
        pod_id: Its id.
        row: The last status row as it came; kept when the pod is gone.
        status: The same with the address from ``get`` where it lacks one; ``None`` if the pod is not there.
        gone: Whether it was there and is confirmed to be no more.
        absent: Whether it was never seen, and is confirmed not to be there.
        trouble: What failed when its status was last asked for; ``None`` if nothing did.
        refused_at: When it was first refused, and nothing but refused since; ``None`` if it was not.
        lookup_trouble: What failed when ``get`` was last asked.
        lookup_refused_at: When that was first refused, and nothing but refused since.
        search: The search for what spoils its requests, while it is among the suspects.
        alone: Whether it is asked for alone, since it spoils requests.
        asked: Number of the last request for its status.
        asked_at: When that was sent.
        seen_at: When an answer last said what is shown, or that nothing is there.
        in_flight: Whether a request for its status is under way or about to be.
        looking_up: The same of ``get``.
        lookup_at: When ``get`` may be asked.
        subscriptions: Who wants to hear of it.
        to_tell: Those among them that are told of the next answer, even if it changes nothing: newcomers, and
            those whose grace ends with an answer.
    """

    pod_id: str
    row: PodStatus | None = None
    status: PodStatus | None = None
    gone: bool = False
    absent: bool = False
    trouble: PrimePodsError | None = None
    refused_at: float | None = None
    lookup_trouble: PrimePodsError | None = None
    lookup_refused_at: float | None = None
    search: PodSearch | None = None
    alone: bool = False
    asked: int = -1
    asked_at: float = -math.inf
    seen_at: float = -math.inf
    in_flight: bool = False
    looking_up: bool = False
    lookup_at: float = -math.inf
    subscriptions: set[Subscriber] = attrs.field(factory=set[Subscriber])
    to_tell: set[Subscriber] = attrs.field(factory=set[Subscriber])
    _address: Pod | None = None
    _lacks_address: bool = False
    _misses: int = 0
    _missed_at: float = -math.inf

    def add(self, subscription: Subscriber) -> None:
        """Tell ``subscription`` what is seen from now on."""
        self.subscriptions.add(subscription)
        self.to_tell.add(subscription)
        if self._missing and not self.absent:
            # A newcomer is not kept waiting: without a row, only `get` has something to tell.
            self.lookup_at = -math.inf

    def remove(self, subscription: Subscriber) -> None:
        """Undo :meth:`add`."""
        self.subscriptions.discard(subscription)
        self.to_tell.discard(subscription)

    def wants_lookup(self, now: float) -> bool:
        """Tell whether the status rows do not say all, and it is time to ask ``get``."""
        if now < self.lookup_at or self.gone:
            return False
        if self._misses:
            return self._missing
        return self._lacks_address or self._terminated

    def observe(self, row: PodStatus | None, sequence: int, now: float) -> None:
        """Take in the row that a status request brought for this pod, or that it brought none."""
        if row is None:
            self._miss(sequence, now)
            return
        self.seen_at = now
        if row is self.row and not (self._misses or self.to_tell or self.gone):
            # Most polls end here: nothing has changed.
            return
        if self.gone and row.status == PodState.TERMINATED:
            self._show(None, sequence)
            return
        self.gone = self.absent = False
        self._misses, self.row = 0, row
        self._show(self._complete(row, now), sequence)

    def found(self, pod: Pod, sequence: int, now: float) -> None:
        """Take in what ``get`` says of a pod whose status row lacks something, or is lacking."""
        self.lookup_trouble = self.lookup_refused_at = None
        if pod.status == PodState.TERMINATED:
            self.row = self.row or _as_status(pod)
            self.gone = True
            self._show(None, sequence)
        elif self._misses or self.row is None:
            self.gone = self.absent = False
            self.seen_at = now
            self.row = self.row or _as_status(pod)
            self._show(_as_status(pod), sequence)
        elif self._lacks_address:
            self._address = pod
            self._show(self._complete(self.row, now), sequence)

    def not_found(self, sequence: int) -> None:
        """Take in a 404: with missing rows, or after TERMINATED, it is the proof that the pod is gone.

        Otherwise a row has come meanwhile, or ``get`` is behind the status that it was asked to complete.
        """
        self.lookup_trouble = self.lookup_refused_at = None
        if not self._missing and not self._terminated:
            return
        if self.row is not None:
            self.gone = True
        elif not self.gone:
            self.absent = True
        self._show(None, sequence)

    def ended(self, sequence: int) -> None:
        """Take in that the history has it: if it was never seen, and is not there, it has ended before."""
        if self.absent:
            self.absent, self.gone = False, True
            self._show(None, sequence)

    def lookup_failed(self, error: PrimePodsError) -> None:
        """Note that ``get`` did not answer. An address can wait; a proof is asked for after the next tick."""
        self.lookup_trouble = error
        if self._missing or self._terminated:
            self.lookup_at = -math.inf

    @property
    def interval(self) -> float:
        """The shortest interval at which it is polled."""
        return min((each.interval for each in self.subscriptions), default=0.0)

    def end(self, error: Exception) -> None:
        """End the waits of all who want to hear of it."""
        for subscription in self.subscriptions:
            subscription.end(error)

    @property
    def _missing(self) -> bool:
        return self._misses >= MISSES_BEFORE_GONE

    @property
    def _terminated(self) -> bool:
        return self.row is not None and self.row.status == PodState.TERMINATED

    def _miss(self, sequence: int, now: float) -> None:
        """Count a look that brought no row. Newcomers make more looks than ticks: those do not count."""
        if self.status is None:
            self.seen_at = now
        spacing = self.interval / 2
        if now >= self._missed_at + spacing or not self._misses:
            self._misses, self._missed_at = self._misses + 1, now
            if self._misses == MISSES_BEFORE_GONE:
                self.lookup_at = now
        if self.gone or self.absent:
            self._show(None, sequence)

    def _complete(self, row: PodStatus, now: float) -> PodStatus:
        """Fill in the address that ``get`` had, as long as the pod stays ACTIVE; see what is lacking then."""
        if row.status != PodState.ACTIVE:
            self._address = None
        status = _with_address(row, self._address)
        self._lacks_address = (
            status.status == PodState.ACTIVE and status.is_installed and not status.has_address
        )
        if not self._lacks_address:
            self.lookup_trouble = None
        if row.status == PodState.TERMINATED:
            self.lookup_at = now
        return status

    def _show(self, status: PodStatus | None, sequence: int) -> None:
        """Tell who subscribed before request ``sequence`` what it brought; if nothing new, only some."""
        who = self.to_tell
        if status != self.status:
            self.status, who = status, self.subscriptions
        for subscription in list(who):
            if subscription.since < sequence:
                self.to_tell.discard(subscription)
                subscription.notify(self)


def _with_address(row: PodStatus, pod: Pod | None) -> PodStatus:
    """Fill in from ``get`` the address that a status row lacks."""
    if pod is None or row.has_address:
        return row
    return attrs.evolve(
        row,
        ip=pod.ip,
        ssh_connection=pod.ssh_connection,
        prime_port_mapping=row.prime_port_mapping or pod.prime_port_mapping,
    )


def _as_status(pod: Pod) -> PodStatus:
    fields = attrs.fields_dict(Pod).keys() & attrs.fields_dict(PodStatus).keys() - {"extra"}
    shared = {field: getattr(pod, field) for field in fields}
    return PodStatus(pod_id=pod.id, cost_per_hr=pod.price_hr, **shared)
