"""One tick: poll the due pods in full batches, and search failed batches for the pods at fault.

A batch can fail because of a single pod: one whose id is refused, which is documented, or one that makes the
API fail, which is imagined. Such a pod must not hide the others of its batch: a search by halving finds it
(see :class:`FaultSearch`), and it is then polled alone. While no request succeeds, there may be an outage:
searches, except those of refused batches, then send only a few requests.

A refusal ends the waits for a pod when it is confirmed; until then, ``refused_since`` is set:

1. A batch is refused. Its search finds the refused pods, or gives up, and then all its pods count as refused.
2. They are polled apart from the others. A refusal ``CONFIRM_AFTER`` later ends their waits; a response makes
   them normal again.

The numbers below are chosen, not measured.
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
from ._watched_pod import PodSearch, WatchedPod

_MIN_REQUESTS: Final = 3
"""Requests that a tick may always send, so that it can search a single batch."""
_OUTAGE_REQUESTS: Final = 2
"""Max requests of a tick's searches while no request succeeds, except searches of refused batches."""
_MAX_SEARCH_REQUESTS: Final = 60
"""Max requests of one search in a tick. For a refused batch, there is no other limit."""
_MIN_SUSPECT_REQUESTS: Final = 2
"""Requests that a search spends on suspects in a tick, before its last one may go to pods presumed good."""
_MIN_REFUSAL_INTERVAL: Final = 5.0
"""Min interval, in seconds, from which the lifetime of a refusal is computed."""
_MAX_REFUSED_BATCHES: Final = 3
"""Wholly refused batches after which the other refused batches of the tick are not searched."""


class SearchBudget:
    """Budget of the requests that the searches of a tick may send.

    Args:
        requests: The budget; requests for refused batches are not counted.

    Attributes:
        refused_batches: Number of refused batches of which no request has succeeded.
    """

    def __init__(self, requests: int) -> None:
        self._left = requests
        self.refused_batches: int = 0

    def limit_to_outage(self) -> None:
        """Allow only a few more requests: no request has succeeded yet."""
        self._left = min(self._left, _OUTAGE_REQUESTS)

    def take(self, *, is_refused: bool) -> bool:
        """Take a request from the budget; return whether one was left. A refused batch needs none."""
        if is_refused:
            return True
        self._left -= 1
        return self._left >= 0

    def should_poll_presumed_good(self, requests_before: int, *, is_refused: bool) -> bool:
        """Return whether the request just taken should poll the pods that its search presumes good.

        If it is the tick's last request, they would otherwise wait for the next tick.

        Args:
            requests_before: Number of earlier requests of the search in this tick.
            is_refused: Whether the search is for a refused batch, which the budget does not limit.
        """
        return not is_refused and self._left < 1 and requests_before >= _MIN_SUSPECT_REQUESTS


class Tick:
    """One poll of the pods that are due.

    Args:
        state: State shared by the parts of the poller.
        reader: Sends the requests, without retries.
        pods: The pods that are due, in polling order. The constructor marks them as in flight, until the
            response or the end of the tick.
        look_up: Called for each pod whose row was read, or is missing, in a successful response.
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
        self._pods = dict.fromkeys([*pods, *(pod for search in self._searches for pod in search.undecided)])
        for pod in self._pods:
            pod.poll.in_flight = True
        self._has_success = False
        self._outage_decided = asyncio.Event()
        """Set when a request has succeeded (no outage), or all batches have failed."""
        self._refusal_lock = asyncio.Lock()
        """Held by the search of a refused batch: refused batches are searched one after the other."""
        self._budget = SearchBudget(0)

    async def run(self) -> None:
        """Poll the pods in batches, as many as the limit allows, and search the batches that fail."""
        batches = self._batches()
        lone_pods = [pod for pod in self._pods if pod.poll.is_alone]
        max_requests = self._max_requests(batches, has_lone_pods=bool(lone_pods))
        # Leave a request for each search. Lone pods beyond the limit are polled at a later tick.
        lone_pods = lone_pods[: max(0, max_requests - len(batches) - len(self._searches))]
        self._budget = SearchBudget(max_requests - len(batches) - len(lone_pods))
        limit = self._reader.executor.settings.max_concurrency
        async with asyncio.TaskGroup() as group:
            for search in self._searches:
                group.create_task(self._search(search))
            poll = partial(self._poll, group=group)
            await map_bounded(poll, [*batches, *([pod] for pod in lone_pods)], limit)
            self._outage_decided.set()
        if batches and not self._has_success:
            # An outage: no pod is the culprit.
            for search in self._searches:
                for pod in search.undecided:
                    pod.poll.search = None

    def release(self) -> None:
        """Mark all pods of this tick as no longer in flight."""
        self._release(list(self._pods))

    def _batches(self) -> list[list[WatchedPod]]:
        """Return batches of the pods that are neither in a search nor polled alone."""
        pods = [pod for pod in self._pods if not (pod.poll.search or pod.poll.is_alone)]
        # Refused pods go into batches of their own: the others would be refused with them.
        refused = [pod for pod in pods if pod.poll.refused_since is not None]
        others = [pod for pod in pods if pod.poll.refused_since is None]
        return self._split(refused) + self._split(others)

    def _max_requests(self, batches: list[list[WatchedPod]], *, has_lone_pods: bool) -> int:
        """Return the limit on all requests, except those of searches for refused batches."""
        if self._searches or has_lone_pods:
            # `batches` lacks the pods in searches and the lone ones.
            batches = self._split(self._pods)
        return max(2 * len(batches) - 1, _MIN_REQUESTS)

    def _split(self, pods: Iterable[WatchedPod]) -> list[list[WatchedPod]]:
        """Split pods into batches."""
        by_id = {pod.pod_id: pod for pod in pods}
        return [[by_id[pod_id] for pod_id in chunk] for chunk in self._reader.chunks(list(by_id))]

    async def _poll(
        self, pods: list[WatchedPod], *, group: asyncio.TaskGroup | None = None
    ) -> Exception | None:
        """Send one request, unless polling is paused, and record its response; return its error, if any.

        Args:
            pods: The pods of the request, at most 100.
            group: Gets a task that searches the pods if the request fails; ``None`` if the caller does that.
        """
        state = self._state
        has_failed_before = any(pod.poll.error is not None for pod in pods)
        error: PrimePodsError | None = await state.pace.wait_for_turn()
        if error is None:
            sequence, sent_at = next(state.sequence_numbers), state.clock.time()
            for pod in pods:
                pod.poll.sequence, pod.poll.sent_at = sequence, sent_at
                state.schedule.cancel_extra_polls(pod)
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
        if group is not None:
            group.create_task(self._follow_up(pods, error, has_failed_before=has_failed_before))
        return error

    def _record(self, pods: list[WatchedPod], response: StatusResponse, sequence: int) -> None:
        """Record the response to request ``sequence`` in its pods."""
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
                    # Share the unchanged row with the response cache, to save memory.
                    row = response.rows[pod.pod_id] = pod.row
                pod.record_row(row, sequence, now)
                self._look_up(pod)
        distinct_errors = {id(error): error for error in response.errors.values()}
        for error in distinct_errors.values():
            self._state.record_failure(error, pod_count=1)

    def _release(self, pods: Iterable[WatchedPod]) -> None:
        """Mark ``pods`` as no longer in flight."""
        for pod in pods:
            if pod in self._pods:
                del self._pods[pod]
                self._state.schedule.release(pod)

    async def _follow_up(
        self, batch: list[WatchedPod], error: PrimePodsError, *, has_failed_before: bool
    ) -> None:
        """Search a failed batch if some of its pods may be the cause.

        While no request succeeds, there may be an outage: only a batch that was refused, or of which a pod
        has failed before, is searched.
        """
        # Wait for the first success, not for all batches, since one of them may hang.
        await self._outage_decided.wait()
        is_refused_again = is_refusal(error) and all(pod.poll.refused_since is not None for pod in batch)
        is_searchable = len(batch) > 1 and _may_be_caused_by_pods(error)
        if is_refused_again or not is_searchable:
            self._stop_searching(batch, error)
        elif is_refusal(error):
            async with self._refusal_lock:
                if self._budget.refused_batches >= _MAX_REFUSED_BATCHES:
                    self._stop_searching(batch, error)
                else:
                    await self._search(FaultSearch(batch, error))
        elif self._has_success or has_failed_before:
            # Rotate the batch, so that each tick of an outage tries other pods.
            first = batch[0].poll.sequence % len(batch)
            await self._search(FaultSearch(batch[first:] + batch[:first], error))
        self._release(batch)

    async def _search(self, search: PodSearch) -> None:
        """Send the next requests of a search, within this tick's budget."""
        search.has_success |= self._has_success
        if not search.has_success:
            self._budget.limit_to_outage()
        for requests_before in range(_MAX_SEARCH_REQUESTS):
            is_refused = is_refusal(search.error)
            has_request = self._budget.take(is_refused=is_refused)
            prefer_good = self._budget.should_poll_presumed_good(requests_before, is_refused=is_refused)
            pods = search.next_items(prefer_good=prefer_good)
            if not (pods and has_request):
                break
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
        """Stop searching the culprits; keep the undecided pods for the next tick, or give them up."""
        for pod, error in search.culprits.items():
            self._stop_searching([pod], error)
            pod.poll.is_alone = search.has_success
        search.culprits.clear()
        undecided = search.undecided
        for pod in undecided:
            # The next tick continues the search, unless there may be an outage.
            pod.poll.search = search if search.has_success else None
        if search.given_up:
            if is_refusal(search.error):
                self._budget.refused_batches += 1
            self._stop_searching(undecided, search.error)
        self._release(undecided)

    def _stop_searching(self, pods: list[WatchedPod], error: Exception) -> None:
        """Stop searching these pods. Confirm a refusal by another request; end the waits once confirmed."""
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

    Any HTTP error but 429 counts, also one that a call would raise at once: if it is about some of the pods,
    it must not end the waits for the others.
    """
    if isinstance(error, APIError) and not isinstance(error, RateLimitError):
        return True
    return may_be_caused_by_ids(error)
