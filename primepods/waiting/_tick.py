"""One tick: poll the due pods in full batches, and search failed batches for the pods at fault.

A batch can fail because of a single pod: its id is refused (documented), or it makes the API fail (imagined).
So pods that failed are polled in batches of their own, after the others, when it is known whether the API
works. If such a batch fails again, :class:`FaultSearch` polls parts of it, so that the other pods get their
responses. A pod keeps what its last request has shown, and the next tick begins with that. What follows from
a failed request for one or more pods:

===========================  ==============================  ===========================================
Error                        Failures of its pods            A search of the batch
===========================  ==============================  ===========================================
429, or a pause: no request  not counted; an extra poll      none
the API was not reached      not counted                     none
a refusal, also a 401        0 becomes 1; one alone adds 1   at once, unless all were refused before
any other                    0 becomes 1; one alone adds 1   if its pods have failed before
===========================  ==============================  ===========================================

A tick polls ``n`` pods in at most ``n / 100`` batches, rounded up, and two more, because pods that did not
fail, those that failed and the refused ones are in separate batches. (Ids so long that 100 of them do not
fit into a request need more.) To these, the searches of failed batches, which run side by side, add up to 3
single pods and 30 halves in all. Those of refused batches run one after the other, and add up to 60 single
pods and 60 halves.

A refusal ends waits in two steps, the second by :meth:`WatchedPod.end_subscriptions`, after which the waits
raise the refusal:

1. A batch that is refused is searched at once. A pod counts as refused if it is refused alone, or if its
   whole batch is, and no request of the tick has succeeded. Pods that the search does not reach are not.
2. Another refusal, at least ``CONFIRM_AFTER`` later, ends their waits. After more than three intervals, it
   counts as a first one. Refused pods are polled in batches of their own, so that the others are not refused
   with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from .._status_reader import StatusReader, StatusResponse, may_be_caused_by_ids
from .._utils.concurrency import map_bounded
from .._utils.fault_search import FaultSearch
from ..errors import APIError, PrimePodsError, RateLimitError
from ._poller_state import PollerState, is_refusal
from ._watched_pod import WatchedPod

_MAX_SINGLES: Final = 3
"""Max pods that a tick polls alone, while nothing shows that other pods make their batch fail (chosen)."""
_MAX_HALVES: Final = 30
"""Max requests of a tick for halves of failed batches (chosen)."""
_MAX_REFUSED: Final = 60
"""Max single pods, and max halves, of refused batches, whose waits end soon (chosen)."""
_MIN_REFUSAL_INTERVAL: Final = 5.0
"""Min interval, in seconds, from which the lifetime of a refusal is computed (chosen)."""


class Tick:
    """One poll of the pods that are due.

    Args:
        state: State shared by the parts of the poller.
        reader: Sends the requests, without retries.
        pods: The pods that are due, in polling order. A pod counts as in flight from now on, until its
            request or search ends, at the latest until the tick ends.
        look_up: Called for each pod of a successful response, except those with an unreadable row.
    """

    def __init__(
        self,
        state: PollerState,
        reader: StatusReader,
        pods: list[WatchedPod],
        *,
        look_up: Callable[[WatchedPod], None],
    ) -> None:
        self._state = state
        self._reader = reader
        self._look_up = look_up
        self._in_flight = dict.fromkeys(pods)
        """The pods of this tick that were not released yet, in polling order; the values are unused."""
        for pod in pods:
            pod.poll.in_flight = True
        self._has_success = False
        self._may_poll_failed = asyncio.Event()
        """Set when the API is known to work or not: a request has succeeded, or all others were polled."""
        self._refusal_lock = asyncio.Lock()
        """Held while a refused batch is searched, so that these searches run one after the other."""
        self._concurrency = reader.executor.settings.max_concurrency
        search = partial(
            FaultSearch[WatchedPod], self._poll, _may_be_caused_by_pods, concurrency=self._concurrency
        )
        self._search = search(singles=_MAX_SINGLES, halves=_MAX_HALVES)
        self._refusal_search = search(singles=_MAX_REFUSED, halves=_MAX_REFUSED)

    async def run(self) -> None:
        """Poll the pods in batches, and search the batches that fail."""
        refused = self._split(pod for pod in self._in_flight if pod.poll.refused_since is not None)
        rest = [pod for pod in self._in_flight if pod.poll.refused_since is None]
        others = self._split(pod for pod in rest if not pod.poll.failures)
        # Pods that have failed alone come last: a search may not reach them.
        rest.sort(key=lambda pod: pod.poll.failures)
        failed = self._split(pod for pod in rest if pod.poll.failures)
        async with asyncio.TaskGroup() as group:
            poll = partial(self._poll_batch, group=group)
            polls = group.create_task(map_bounded(poll, others, self._concurrency))
            polls.add_done_callback(lambda _: self._may_poll_failed.set())
            # Wait for the first success, not for all: a batch may hang.
            await self._may_poll_failed.wait()
            await map_bounded(poll, refused + failed, self._concurrency)

    def release(self) -> None:
        """Mark all pods of this tick as no longer in flight."""
        self._release(list(self._in_flight))

    def _split(self, pods: Iterable[WatchedPod]) -> list[list[WatchedPod]]:
        by_id = {pod.pod_id: pod for pod in pods}
        return [[by_id[pod_id] for pod_id in chunk] for chunk in self._reader.chunks(list(by_id))]

    async def _poll_batch(self, batch: list[WatchedPod], *, group: asyncio.TaskGroup) -> None:
        """Poll a batch; if it must be searched, do so in another task of ``group``."""
        has_failed_before = bool(batch[0].poll.failures)
        error = await self._poll(batch)
        if error is None:
            return
        if is_refusal(error):
            is_search_due = any(pod.poll.refused_since is None for pod in batch)
        else:
            # The next tick may show that the API was at fault.
            is_search_due = has_failed_before
        if is_search_due and len(batch) > 1 and _may_be_caused_by_pods(error):
            search = group.create_task(self._search_batch(batch, error))
            search.add_done_callback(lambda _: self._release(batch))
        else:
            self._release(batch)

    async def _search_batch(self, batch: list[WatchedPod], error: Exception) -> None:
        if is_refusal(error):
            await self._may_poll_failed.wait()
            async with self._refusal_lock:
                before = {pod: pod.poll.refused_since for pod in batch}
                if await self._refusal_search.run(batch, lambda: self._has_success):
                    # A pod that was alone in a request of this search has its first refusal already.
                    self._record_refusal(
                        [pod for pod in batch if pod.poll.refused_since == before[pod]], error
                    )
            return
        # If all have failed alone before, only a response to one of them shows that something has changed.
        has_suspects = any(pod.poll.failures == 1 for pod in batch)

        def has_success() -> bool:
            return self._has_success if has_suspects else any(not pod.poll.failures for pod in batch)

        await self._search.run(batch, has_success)

    async def _poll(self, pods: list[WatchedPod]) -> Exception | None:
        """Send one request and record its response; return the error, if any.

        While polling is paused, no request is sent: the error is the cause of the pause.
        """
        error: PrimePodsError | None = await self._state.pace.wait_for_turn()
        if error is None:
            try:
                await self._send(pods)
            except PrimePodsError as exc:
                self._state.record_failure(exc, pod_count=len(pods))
                error = exc.with_traceback(None)
            except Exception as exc:  # noqa: BLE001 - a defect must end the waits, not leave them hanging
                for pod in pods:
                    pod.end_subscriptions(exc)
                return exc
        if error is not None:
            self._record_failure(pods, error)
        return error

    async def _send(self, pods: list[WatchedPod]) -> None:
        state = self._state
        sequence, sent_at = next(state.sequence_numbers), state.clock.time()
        for pod in pods:
            pod.poll.sent_at = sent_at
            state.schedule.remove_from_queue(pod)
        state.set_listeners_of(pods)
        self._record(pods, await self._reader.read_batch([pod.pod_id for pod in pods]), sequence)
        self._has_success = True
        self._may_poll_failed.set()
        self._release(pods)

    def _record_failure(self, pods: list[WatchedPod], error: PrimePodsError) -> None:
        may_be_caused_by_pods = _may_be_caused_by_pods(error)
        was_refused = all(pod.poll.refused_since is not None for pod in pods)
        for pod in pods:
            pod.poll.error = error
            if may_be_caused_by_pods and (len(pods) == 1 or not pod.poll.failures):
                pod.poll.failures += 1
            if isinstance(error, RateLimitError):
                self._state.schedule.poll_at(pod, self._state.pace.next_at)
        if is_refusal(error) and (len(pods) == 1 or was_refused or not may_be_caused_by_pods):
            self._record_refusal(pods, error)

    def _record(self, pods: list[WatchedPod], response: StatusResponse, sequence: int) -> None:
        self._state.pace.record_response()
        now = self._state.clock.time()
        for pod in pods:
            poll = pod.poll
            poll.refused_since = None
            poll.failures = 0
            poll.error = response.errors.get(pod.pod_id)
            if poll.error is None:
                row = response.rows.get(pod.pod_id)
                if pod.row is not None and row == pod.row:
                    # Let the response cache share the unchanged row, to save memory.
                    row = response.rows[pod.pod_id] = pod.row
                pod.record_row(row, sequence, now)
                self._look_up(pod)
        distinct_errors = {id(error): error for error in response.errors.values()}
        for error in distinct_errors.values():
            self._state.record_failure(error, pod_count=1)

    def _release(self, pods: Iterable[WatchedPod]) -> None:
        """Mark pods as no longer in flight, unless they were released before.

        Pods are released by a response, or by the end of the request or search of their failed batch; all
        others by the end of the tick.
        """
        for pod in pods:
            if pod in self._in_flight:
                del self._in_flight[pod]
                self._state.schedule.release(pod)

    def _record_refusal(self, pods: list[WatchedPod], error: Exception) -> None:
        """Schedule the request that must confirm a first refusal; end the waits if this is the second."""
        now = self._state.clock.time()
        for pod in pods:
            interval = max(pod.interval, _MIN_REFUSAL_INTERVAL)
            confirm_at = pod.poll.begin_or_confirm_refusal(error, now=now, interval=interval)
            if confirm_at is None:
                pod.end_subscriptions(error)
            else:
                self._state.schedule.poll_at(pod, confirm_at)


def _may_be_caused_by_pods(error: Exception) -> bool:
    """Return whether some of a request's pods may have caused its failure.

    Any HTTP error except 429 counts: if it is about some of the pods, the others must go on waiting.
    """
    if isinstance(error, APIError) and not isinstance(error, RateLimitError):
        return True
    return may_be_caused_by_ids(error)
