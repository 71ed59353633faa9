"""What the shared poller knows of each pod, and who wants to hear of it. No I/O, no clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import Final

import attrs

from .._utils.exceptions import copy_exception
from ..errors import APIError, PrimePodsError
from ..models import Pod, PodState, PodStatus

MISSES_BEFORE_GONE: Final = 2
"""Status requests without a row, after which ``get`` is asked whether the pod is gone."""
LOOK_AGAIN: Final = 30.0
"""Seconds before ``get`` is asked again about the same pod."""


@attrs.define(eq=False)
class View:
    """What is known of one pod.

    Attributes:
        pod_id: Its id.
        raw: The last status row as it came.
        row: The same with addresses from elsewhere, where it lacked them; ``None`` if the pod is not there.
        gone: Whether it was there and is confirmed to be no more.
        absent: Whether it was never seen, and is confirmed not to be there.
        refused: The API's complaint about this id.
        trouble: What failed when its status was last asked for; ``None`` if nothing did.
        look_trouble: The same of ``get``.
        seen_at: When an answer last said what is shown, or that nothing is there.
        in_flight: Whether a request for its status is under way or about to be.
        looking: The same of ``get``.
        look_at: When ``get`` may be asked.
        feeds: Who wants to hear of it.
        expecting: Those among them that have not heard anything yet.
    """

    pod_id: str
    raw: PodStatus | None = None
    row: PodStatus | None = None
    gone: bool = False
    absent: bool = False
    refused: APIError | None = None
    trouble: PrimePodsError | None = None
    look_trouble: PrimePodsError | None = None
    seen_at: float = -math.inf
    in_flight: bool = False
    looking: bool = False
    look_at: float = -math.inf
    feeds: set[Feed] = attrs.field(factory=set["Feed"])
    expecting: set[Feed] = attrs.field(factory=set["Feed"])
    _address: Pod | None = None
    _lacks_address: bool = False
    _misses: int = 0
    _missed_at: float = -math.inf

    def wants_look(self, now: float) -> bool:
        """Whether the status rows do not say all, and it is time to ask ``get``."""
        if self._missing:
            # A newcomer is not kept waiting: without a row, only `get` has something to tell.
            unheard = bool(self.expecting) and not self.absent
            return not self.gone and (now >= self.look_at or unheard)
        if self._misses or self.raw is None or now < self.look_at:
            return False
        return self._lacks_address or (self._terminated and not self.gone)

    def observe(self, row: PodStatus | None, sequence: int, now: float) -> None:
        """Take in the row that a status request brought for this pod, or that it brought none."""
        self.refused = None
        if row is None:
            self._miss(sequence, now)
            return
        self.seen_at = now
        if row is self.raw and not (self._misses or self.expecting or self.gone):
            # Most polls end here: nothing has changed.
            return
        if self.gone and row.status == PodState.TERMINATED:
            self.tell(sequence, changed=False)
            return
        news = self.gone or self.absent or self._misses > 0 or row != self.raw
        self.gone = self.absent = False
        self._misses, self.raw = 0, row
        self._show(self._complete(row, now) if news else self.row, sequence)

    def found(self, pod: Pod, sequence: int, now: float) -> None:
        """Take in what ``get`` says of a pod whose status row lacks something, or is lacking."""
        self.look_trouble = None
        if pod.status == PodState.TERMINATED:
            self.raw = self.raw or _as_status(pod)
            self._vanish(sequence)
        elif self._misses or self.raw is None:
            self.gone = self.absent = False
            self.seen_at = now
            self.raw = self.raw or _as_status(pod)
            self._show(_as_status(pod), sequence)
        elif self._lacks_address:
            self._address = pod
            self._show(self._complete(self.raw, now), sequence)

    def not_found(self, sequence: int) -> None:
        """Take in a 404: with missing rows, or after TERMINATED, it is the proof that the pod is gone.

        Otherwise a row has come meanwhile, or ``get`` is behind the status that it was asked to complete.
        """
        self.look_trouble = None
        if not self._missing and not self._terminated:
            return
        if self.raw is not None:
            self._vanish(sequence)
        else:
            news, self.absent = not self.absent, True
            self.tell(sequence, changed=news)

    def look_failed(self, error: PrimePodsError) -> None:
        """Note that ``get`` did not answer. An address can wait; a proof is asked for after the next tick."""
        self.look_trouble = error
        if self._missing or self._terminated:
            self.look_at = -math.inf

    def tell(self, sequence: int, *, changed: bool = True) -> None:
        """Notify the feeds that came before request ``sequence``: all of them, or those without news yet."""
        for feed in list(self.feeds if changed else self.expecting):
            if feed.since < sequence:
                self.expecting.discard(feed)
                feed.notify(self.pod_id)

    @property
    def _missing(self) -> bool:
        return self._misses >= MISSES_BEFORE_GONE

    @property
    def _terminated(self) -> bool:
        return self.raw is not None and self.raw.status == PodState.TERMINATED

    def _miss(self, sequence: int, now: float) -> None:
        """Count a look that brought no row. Newcomers make more looks than ticks: those do not count."""
        if self.row is None:
            self.seen_at = now
        spacing = min((feed.interval for feed in self.feeds), default=0.0) / 2
        if now >= self._missed_at + spacing or not self._misses:
            self._misses, self._missed_at = self._misses + 1, now
            if self._misses == MISSES_BEFORE_GONE:
                self.look_at = now
        if self.gone or self.absent:
            self.tell(sequence, changed=False)

    def _complete(self, row: PodStatus, now: float) -> PodStatus:
        """Fill in the address that ``get`` had, as long as the pod stays ACTIVE; see what is lacking then."""
        if row.status != PodState.ACTIVE:
            self._address = None
        shown = _with_address(row, self._address)
        self._lacks_address = shown.status == PodState.ACTIVE and shown.is_installed and not shown.has_address
        if not self._lacks_address:
            self.look_trouble = None
        if row.status == PodState.TERMINATED:
            self.look_at = now
        return shown

    def _show(self, row: PodStatus | None, sequence: int) -> None:
        changed = row != self.row
        if changed:
            self.row = row
        self.tell(sequence, changed=changed)

    def _vanish(self, sequence: int) -> None:
        news, self.gone, self.row = not self.gone, True, None
        self.tell(sequence, changed=news)


class Feed:
    """One who waits: told which of its pods have changed, never how often.

    Args:
        pod_ids: The pods.
        interval: Seconds between two looks at each.
    """

    def __init__(self, pod_ids: Iterable[str], interval: float) -> None:
        self.pod_ids: dict[str, None] = dict.fromkeys(pod_ids)
        self.interval = interval
        self.since = 0
        self.views: dict[str, View] = {}
        self._changed: dict[str, None] = {}
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def changed(self) -> list[View]:
        """Wait until something has changed; return the views of the pods, each once.

        Raises:
            PrimePodsError: Polling cannot go on: closed, not authenticated, refused.
        """
        while not self._changed and self._error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error is not None:
            raise self._error
        changed, self._changed = self._changed, {}
        return [self.views[pod_id] for pod_id in changed if pod_id in self.views]

    def notify(self, pod_id: str) -> None:
        """Note that a pod has changed."""
        self._changed[pod_id] = None
        self._wake()

    def end(self, error: Exception) -> None:
        """End it with an exception of its own: tracebacks and notes of one must not show up at another's."""
        if self._error is None:
            self._error = copy_exception(error)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


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
    return PodStatus(
        pod_id=pod.id,
        provider_type=pod.provider_type,
        cost_per_hr=pod.price_hr,
        status=pod.status,
        installation_status=pod.installation_status,
        installation_failure=pod.installation_failure,
        installation_progress=pod.installation_progress,
        prime_port_mapping=pod.prime_port_mapping,
        ssh_connection=pod.ssh_connection,
        ip=pod.ip,
    )
