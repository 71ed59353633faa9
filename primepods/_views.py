"""What the shared poller knows of each pod, and who wants to hear of it. No I/O, no clock."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable
from typing import Final

import attrs

from .errors import APIError, PrimePodsError
from .models import Pod, PodState, PodStatus

MISSES_BEFORE_GONE: Final = 2
"""Status requests without a row, after which ``get`` is asked whether the pod is gone."""
LOOK_AGAIN: Final = 30.0
"""Seconds before ``get`` is asked again for what it did not have."""


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
        trouble: What failed when it was last asked for; ``None`` if nothing did.
    """

    pod_id: str
    raw: PodStatus | None = None
    row: PodStatus | None = None
    gone: bool = False
    absent: bool = False
    refused: APIError | None = None
    trouble: PrimePodsError | None = None
    address: Pod | None = None
    misses: int = 0
    in_flight: bool = False
    look_at: float = 0.0
    looking: bool = False
    lacks_address: bool = False
    feeds: set[Feed] = attrs.field(factory=set["Feed"])
    expecting: set[Feed] = attrs.field(factory=set["Feed"])

    @property
    def wants_look(self) -> bool:
        """Whether the status rows do not say all: ``get`` must be asked."""
        if self.misses >= MISSES_BEFORE_GONE:
            return not self.gone
        if self.raw is None or self.misses:
            return False
        if self.raw.status == PodState.TERMINATED:
            return not self.gone
        return self.lacks_address

    def observe(self, row: PodStatus | None, sequence: int) -> None:
        """Take in the row that a status request brought for this pod, or that it brought none."""
        self.refused = self.trouble = None
        if row is None:
            self.misses += 1
            if self.gone or self.absent:
                self.tell(sequence, changed=False)
        elif row is self.raw and not (self.misses or self.expecting or self.gone):
            # Most polls end here: nothing has changed.
            return
        elif self.gone and row.status == PodState.TERMINATED:
            self.tell(sequence, changed=False)
        else:
            news = self.gone or self.absent or self.misses > 0 or row != self.raw
            self.gone = self.absent = False
            self.misses, self.raw = 0, row
            if news:
                self.lacks_address = (
                    row.status == PodState.ACTIVE and row.is_installed and not row.has_address
                )
            self._show(_with_address(row, self.address) if news else self.row, sequence)

    def found(self, pod: Pod, sequence: int, now: float) -> None:
        """Take in what ``get`` says of a pod whose status row lacks something, or is lacking."""
        if pod.status == PodState.TERMINATED:
            self.raw = self.raw or _as_status(pod)
            self._vanish(sequence)
        elif self.misses or self.raw is None:
            self.gone = self.absent = False
            self.raw = self.raw or _as_status(pod)
            self._show(_as_status(pod), sequence)
        else:
            self.look_at = now + LOOK_AGAIN
            self.address = pod
            self._show(_with_address(self.raw, pod), sequence)

    def not_found(self, sequence: int, now: float) -> None:
        """Take in a 404: with missing rows, or after TERMINATED, it is the proof that the pod is gone."""
        terminated = self.raw is not None and self.raw.status == PodState.TERMINATED
        if self.misses < MISSES_BEFORE_GONE and not terminated:
            # A row has come meanwhile, or `get` is behind the status that it was asked to complete.
            self.look_at = now + LOOK_AGAIN
        elif self.raw is not None:
            self._vanish(sequence)
        else:
            news, self.absent = not self.absent, True
            self.look_at = now + LOOK_AGAIN
            self.tell(sequence, changed=news)

    def tell(self, sequence: int, *, changed: bool = True) -> None:
        """Notify the feeds that came before request ``sequence``: all of them, or those without news yet."""
        for feed in list(self.feeds if changed else self.expecting):
            if feed.since < sequence:
                self.expecting.discard(feed)
                feed.notify(self.pod_id)

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
        self.pod_ids = dict.fromkeys(pod_ids)
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
            self._error = copy.copy(error)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _with_address(row: PodStatus, pod: Pod | None) -> PodStatus:
    """Fill in from ``get`` the address that a status row lacks."""
    if pod is None or row.has_address or row.status != PodState.ACTIVE:
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
