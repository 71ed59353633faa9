"""One tick: poll the due pods in full batches, and search failed batches for the pods at fault.

A batch can fail because of a single pod: its id is refused (documented), or it makes the API fail (imagined).
A search by halving finds such a pod (see :class:`FaultSearch`), which is then polled alone, so that the
others get their responses. While no request succeeds, there may be an outage, and searches send only a few
requests, except those of refused batches.

A refusal of a batch ends waits in two steps:

1. The search finds the refused pods. If it gives up, or if the tick may send no more such requests and none
   has succeeded, all pods that it has not decided count as refused.
2. Another refusal, at least ``CONFIRM_AFTER`` later, ends their waits. After more than three intervals, it
   counts as a first one.

A pod has one of these modes; a response makes it normal again:

=========  ==================  ============================  =================================================
Mode       Field of ``poll``   Polled                        Next mode
=========  ==================  ============================  =================================================
normal                         in a batch of normal pods     in search, alone or refused, if its batch fails
in search  ``search``          by its search only            alone, if it is a culprit; normal, in an outage
refused    ``refused_since``   in a batch of refused pods    in search or alone, if its batch fails otherwise
alone      ``is_alone``        alone                         alone
=========  ==================  ============================  =================================================

A culprit is alone if a request of the search's ticks has succeeded, and refused if its own last failure was a
refusal. So a refused pod may also be alone, or in search.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final

from .._status_reader import StatusReader, StatusResponse, may_be_caused_by_ids
from .._utils.concurrency import map_bounded
from .._utils.fault_search import FaultSearch
from ..errors import APIError, PrimePodsError, RateLimitError
from ._poller_state import PollerState, is_refusal
from ._watched_pod import PodSearch, WatchedPod

_MIN_REQUESTS: Final = 3
"""Requests that even the smallest tick may send: one for its batch, and the others to search it (chosen)."""
_MAX_REFUSED_REQUESTS: Final = 60
"""Max requests that a tick sends for searches whose last failure was a refusal (chosen)."""
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
        self._searches = list(dict.fromkeys(pod.poll.search for pod in pods if pod.poll.search))
        for search in self._searches:
            search.discard(pod for pod in search.undecided if not pod.subscriptions)
        self._in_flight = dict.fromkeys(
            [*pods, *(pod for search in self._searches for pod in search.undecided)]
        )
        """The pods of this tick that were not released yet, in polling order; the values are unused."""
        for pod in self._in_flight:
            pod.poll.in_flight = True
        self._has_success = False
        self._outage_decided = asyncio.Event()
        """Set when a request has succeeded (no outage), or all batches were polled."""
        self._refusal_lock = asyncio.Lock()
        """Held by a new search of a refused batch, so that these searches run one after the other."""
        self._requests_left = {False: 0, True: _MAX_REFUSED_REQUESTS}
        """Requests that searches may still send; the key says whether their last failure was a refusal."""

    async def run(self) -> None:
        """Poll the pods in batches, and search the batches that fail."""
        batches = self._batches()
        lone_pods = [pod for pod in self._in_flight if pod.poll.is_alone]
        # `batches` has neither the pods in searches nor the lone ones.
        all_batches = self._split(self._in_flight) if self._searches or lone_pods else batches
        # Fewer than twice the batches, but at least three: 3 batches allow 5 requests, so 2 for searches and
        # lone pods. Only searches after a refusal may exceed this.
        max_requests = max(2 * len(all_batches) - 1, _MIN_REQUESTS)
        # Lone pods take no request that a search may need. Those beyond the limit wait for a later tick,
        # which follows at once if their extra poll is due.
        lone_pods = lone_pods[: max(0, max_requests - len(batches) - len(self._searches))]
        self._requests_left[False] = max_requests - len(batches) - len(lone_pods)
        limit = self._reader.executor.settings.max_concurrency
        async with asyncio.TaskGroup() as group:
            for search in self._searches:
                self._start(self._search(search), search.undecided, group)
            poll = partial(self._poll_batch, group=group)
            await map_bounded(poll, [*batches, *([pod] for pod in lone_pods)], limit)
            self._outage_decided.set()
        if batches and not self._has_success:
            # Probably an outage: drop the searches, which would find the wrong pods.
            for search in self._searches:
                for pod in search.undecided:
                    pod.poll.search = None

    def release(self) -> None:
        """Mark all pods of this tick as no longer in flight."""
        self._release(list(self._in_flight))

    def _batches(self) -> list[list[WatchedPod]]:
        pods = [pod for pod in self._in_flight if not (pod.poll.search or pod.poll.is_alone)]
        # Refused pods go into separate batches: the others would be refused with them.
        refused = [pod for pod in pods if pod.poll.refused_since is not None]
        others = [pod for pod in pods if pod.poll.refused_since is None]
        return self._split(refused) + self._split(others)

    def _split(self, pods: Iterable[WatchedPod]) -> list[list[WatchedPod]]:
        by_id = {pod.pod_id: pod for pod in pods}
        return [[by_id[pod_id] for pod_id in chunk] for chunk in self._reader.chunks(list(by_id))]

    async def _poll_batch(self, batch: list[WatchedPod], *, group: asyncio.TaskGroup) -> None:
        """Poll a batch; if it fails, follow up in another task of ``group``, so that this call can end."""
        has_failed_before = any(pod.poll.error is not None for pod in batch)
        error = await self._poll(batch)
        if isinstance(error, PrimePodsError):
            follow_up = self._follow_up(batch, error, has_failed_before=has_failed_before)
            self._start(follow_up, batch, group)

    async def _poll(self, pods: list[WatchedPod]) -> Exception | None:
        """Send one request, unless polling is paused, and record its response; return the error, if any."""
        state = self._state
        error: PrimePodsError | None = await state.pace.wait_for_turn()
        if error is None:
            sequence, sent_at = next(state.sequence_numbers), state.clock.time()
            for pod in pods:
                pod.poll.sent_at = sent_at
                state.schedule.remove_from_queue(pod)
            state.set_listeners_of(pods)
            try:
                response = await self._reader.read_batch([pod.pod_id for pod in pods])
                self._record(pods, response, sequence)
            except PrimePodsError as exc:
                state.record_failure(exc, pod_count=len(pods))
                error = exc.with_traceback(None)
            except Exception as exc:  # noqa: BLE001 - a defect must end the waits, not leave them hanging
                for pod in pods:
                    pod.end(exc)
                return exc
            else:
                self._has_success = True
                self._outage_decided.set()
                self._release(pods)
                return None
        for pod in pods:
            pod.poll.error = error
            if isinstance(error, RateLimitError):
                state.schedule.poll_at(pod, state.pace.next_at)
        return error

    def _record(self, pods: list[WatchedPod], response: StatusResponse, sequence: int) -> None:
        self._state.pace.record_response()
        now = self._state.clock.time()
        for pod in pods:
            poll = pod.poll
            poll.refused_since = poll.search = None
            poll.is_alone = False
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

    def _start(
        self, work: Coroutine[Any, Any, None], pods: list[WatchedPod], group: asyncio.TaskGroup
    ) -> None:
        """Start a follow-up or a search; at its end, release those of its pods that got no response."""
        group.create_task(work).add_done_callback(lambda _: self._release(pods))

    def _release(self, pods: Iterable[WatchedPod]) -> None:
        """Mark pods as no longer in flight, unless they were released before.

        Pods are released by a response, or by the end of the search or follow-up of their failed batch; all
        others by the end of the tick.
        """
        for pod in pods:
            if pod in self._in_flight:
                del self._in_flight[pod]
                self._state.schedule.release(pod)

    async def _follow_up(
        self, batch: list[WatchedPod], error: PrimePodsError, *, has_failed_before: bool
    ) -> None:
        """Search a failed batch if some of its pods may be the cause.

        While no request of the tick succeeds, a batch without a refusal is searched only if the previous poll
        of one of its pods failed too.
        """
        # Wait for the first success, not for all batches: one of them may hang.
        await self._outage_decided.wait()
        is_refused_again = is_refusal(error) and all(pod.poll.refused_since is not None for pod in batch)
        is_searchable = len(batch) > 1 and _may_be_caused_by_pods(error)
        if is_refused_again or not is_searchable:
            self._apply_error(batch, error)
        elif is_refusal(error):
            async with self._refusal_lock:
                await self._search(FaultSearch(batch, error))
        elif self._has_success or has_failed_before:
            # Rotate the batch, so that the ticks of an outage try different pods.
            first = int(self._state.clock.random() * len(batch))
            await self._search(FaultSearch(batch[first:] + batch[:first], error))

    async def _search(self, search: PodSearch) -> None:
        """Send the next requests of a search, as many as this tick may still send."""
        search.has_success |= self._has_success
        if not search.has_success:
            # Probably an outage: search no more than the smallest tick does.
            self._requests_left[False] = min(self._requests_left[False], _MIN_REQUESTS - 1)
        while pods := search.next_items():
            is_refused = is_refusal(search.error)
            if self._requests_left[is_refused] < 1:
                break
            self._requests_left[is_refused] -= 1
            error = await self._poll(pods)
            search.has_success |= self._has_success
            if error is None:
                search.passed(pods)
            elif _may_be_caused_by_pods(error):
                search.failed(pods, error)
            else:
                break
        self._apply_findings(search)

    def _apply_findings(self, search: PodSearch) -> None:
        """Take the culprits out of the search; leave the undecided pods to the next tick, or give them up."""
        for pod, error in search.culprits.items():
            self._apply_error([pod], error)
            pod.poll.is_alone = search.has_success
        search.culprits.clear()
        undecided = search.undecided
        for pod in undecided:
            # The next tick continues the search, unless there may be an outage: so it has had a success.
            pod.poll.search = search if search.has_success else None
        is_given_up = search.given_up or not (search.has_success or self._requests_left[True])
        if is_given_up and is_refusal(search.error):
            self._apply_error(undecided, search.error)

    def _apply_error(self, pods: list[WatchedPod], error: Exception) -> None:
        """Take pods out of their search. Schedule the confirmation of a refusal, or end the waits."""
        now = self._state.clock.time()
        for pod in pods:
            pod.poll.search = None
            if is_refusal(error):
                interval = max(pod.interval, _MIN_REFUSAL_INTERVAL)
                confirm_at = pod.poll.record_refusal(error, now=now, interval=interval)
                if confirm_at is None:
                    pod.end(error)
                else:
                    self._state.schedule.poll_at(pod, confirm_at)


def _may_be_caused_by_pods(error: Exception) -> bool:
    """Return whether some of a request's pods may have caused its failure.

    Any HTTP error except 429 counts: if it is about some of the pods, the others must go on waiting.
    """
    if isinstance(error, APIError) and not isinstance(error, RateLimitError):
        return True
    return may_be_caused_by_ids(error)
