"""One tick: poll the pods that are due in full batches, and search failed batches for the culprits.

A batch can fail because of a single pod (one that makes the API fail, or one of another team). Such a pod
must not hide the others of its batch: a search by halving finds it (see :class:`FaultSearch`), and it is then
polled alone. A tick sends fewer than twice as many requests as there would be batches without searches.
While no request succeeds at all, there is no search: that is an outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from .._status_reader import StatusReader, may_be_caused_by_ids
from .._utils.fault_search import FaultSearch
from ..errors import APIError, PrimePodsError, RateLimitError
from ._hub_state import HubState, is_refusal
from ._watched_pod import PodSearch, WatchedPod

_MIN_REQUESTS: Final = 3
"""Requests of a tick with a single batch, if it is searched."""
_OUTAGE_REQUESTS: Final = 2
"""Requests besides the batches while no request succeeds."""
_REFUSAL_REQUESTS: Final = 60
"""Requests per tick for a refused batch: its culprits leave, so this cost occurs once."""
_HALVINGS: Final = 2
"""Requests of a search for culprits, before the tick's last one goes to the pods presumed innocent."""
_MAX_REFUSED_BATCHES: Final = 3
"""Wholly refused batches after which the other refused batches of the tick are not searched."""


class SearchBudget:
    """Bound on the extra requests of a tick.

    Args:
        requests: Requests that searches may make, not counting those for refused batches.
    """

    def __init__(self, requests: int) -> None:
        self._left = requests
        self._refused_batches = 0

    def limit_to_outage(self) -> None:
        """Allow only a few more requests: no request has succeeded yet."""
        self._left = min(self._left, _OUTAGE_REQUESTS)

    def take(self, *, is_refused: bool) -> bool:
        """Take a request from the budget; return whether one was left."""
        self._left -= not is_refused
        return self._left >= 0

    def is_last(self, requests: int, *, is_refused: bool) -> bool:
        """Tell whether the request just taken is the tick's last, after so many requests of its search."""
        return not is_refused and self._left < 1 and requests >= _HALVINGS

    def give_up(self) -> None:
        """Count a batch whose requests were all refused."""
        self._refused_batches += 1

    @property
    def has_given_up(self) -> bool:
        """True when too many batches were refused to search another."""
        return self._refused_batches >= _MAX_REFUSED_BATCHES


class Tick:
    """One poll of the pods that are due.

    Args:
        state: State shared by the parts of the hub.
        reader: Sends the requests, without retries.
        look_up: Called for each pod whose status request succeeded.
        pods: The pods that are due, in polling order; in flight until the response or the end of the tick.
    """

    def __init__(
        self,
        state: HubState,
        reader: StatusReader,
        look_up: Callable[[WatchedPod], None],
        pods: list[WatchedPod],
    ) -> None:
        self._state = state
        self._reader = reader
        self._look_up = look_up
        self._searches = list(dict.fromkeys(pod.search for pod in pods if pod.search))
        for search in self._searches:
            search.discard(pod for pod in search.undecided if not pod.subscriptions)
        self._pods = dict.fromkeys([*pods, *(pod for search in self._searches for pod in search.undecided)])
        for pod in self._pods:
            pod.in_flight = True
        self._has_success = False
        self._decided = asyncio.Event()
        self._refusals = asyncio.Lock()
        self._budget = SearchBudget(0)

    async def run(self) -> None:
        """Poll all pods, and search the batches that fail."""
        batches = self._batches()
        alone = [pod for pod in self._pods if pod.alone]
        usual = self._split(self._pods) if self._searches or alone else batches
        most = max(2 * len(usual) - 1, _MIN_REQUESTS)
        del alone[max(0, most - len(batches) - len(self._searches)) :]
        self._budget = SearchBudget(most - len(batches) - len(alone))
        async with asyncio.TaskGroup() as group:
            for search in self._searches:
                group.create_task(self._search(search))
            ask = partial(self._ask_batch, group)
            await self._reader.executor.map(ask, [*batches, *([pod] for pod in alone)])
            self._decided.set()
        if batches and not self._has_success:
            # An outage: no pod is the culprit.
            for search in self._searches:
                self._clear(search.undecided)

    def release(self) -> None:
        """Mark all pods of this tick as no longer in flight."""
        self._release(list(self._pods))

    def _batches(self) -> list[list[WatchedPod]]:
        """Return the batches to request at once: all pods except those being searched."""
        plain = [pod for pod in self._pods if not pod.search and not pod.alone]
        # In separate requests, so that they do not get the other pods refused.
        refused = [pod for pod in plain if pod.refused_at is not None]
        fresh = [pod for pod in plain if pod.refused_at is None]
        return self._split(refused) + self._split(fresh)

    def _split(self, pods: Iterable[WatchedPod]) -> list[list[WatchedPod]]:
        """Split pods into batches."""
        by_id = {pod.pod_id: pod for pod in pods}
        return [[by_id[pod_id] for pod_id in chunk] for chunk in self._reader.chunks(list(by_id))]

    def _clear(self, pods: list[WatchedPod]) -> None:
        for pod in pods:
            pod.search = None

    async def _ask(self, pods: list[WatchedPod]) -> Exception | None:
        """Send one request, unless polling is paused, and process its response; return its error, if any."""
        if self._state.pace.cause is None:
            await self._state.pace.wait_for_turn()
        error = self._state.pace.cause or await self._try_read(pods)
        if isinstance(error, PrimePodsError):
            for pod in pods:
                pod.trouble = error
                if isinstance(error, RateLimitError):
                    self._state.schedule.ask_at(pod, self._state.pace.next_at)
        return error

    async def _try_read(self, pods: list[WatchedPod]) -> Exception | None:
        """Send one request and process its response; return its error, if any."""
        try:
            await self._read(pods)
        except PrimePodsError as exc:
            self._state.note_failure(exc, len(pods))
            return exc.with_traceback(None)
        except Exception as exc:  # noqa: BLE001 - a defect must end the waits, not leave them hanging
            for pod in pods:
                pod.end(exc)
            return exc
        self._has_success = True
        self._decided.set()
        self._release(pods)
        return None

    async def _read(self, pods: list[WatchedPod]) -> None:
        sequence, sent_at = next(self._state.numbers), self._state.clock.time()
        for pod in pods:
            pod.asked, pod.asked_at = sequence, sent_at
            self._state.schedule.forget(pod)
        self._state.listen(pods)
        response = await self._reader.read_batch([pod.pod_id for pod in pods])
        self._state.pace.note_response()
        now = self._state.clock.time()
        for pod in pods:
            pod.refused_at = pod.search = None
            pod.alone = False
            pod.trouble = response.errors.get(pod.pod_id)
            if pod.trouble is None:
                row = response.rows.get(pod.pod_id)
                if pod.row is not None and row == pod.row:
                    # Share the unchanged row: the cache keeps these rows, too.
                    row = response.rows[pod.pod_id] = pod.row
                pod.observe(row, sequence, now)
                self._look_up(pod)
        for error in {id(error): error for error in response.errors.values()}.values():
            self._state.note_failure(error, 1)

    def _release(self, pods: Iterable[WatchedPod]) -> None:
        """Mark ``pods`` as no longer in flight."""
        for pod in pods:
            if self._pods.pop(pod, pod) is None:
                pod.in_flight = False
                self._state.schedule.poll_if_overdue(pod)

    async def _ask_batch(self, group: asyncio.TaskGroup, batch: list[WatchedPod]) -> None:
        again = any(pod.trouble is not None for pod in batch)
        error = await self._ask(batch)
        if isinstance(error, PrimePodsError):
            group.create_task(self._follow_up(batch, error, again=again))

    async def _follow_up(self, batch: list[WatchedPod], error: PrimePodsError, *, again: bool) -> None:
        """Search a failed batch if other batches succeeded, or if it has failed before."""
        # Once another batch has succeeded, do not wait for one that hangs.
        await self._decided.wait()
        if (
            len(batch) == 1
            or not _is_about_pods(error)
            or (is_refusal(error) and batch[0].refused_at is not None)
        ):
            self._judge(batch, error)
        elif is_refusal(error):
            async with self._refusals:
                if self._budget.has_given_up:
                    self._judge(batch, error)
                else:
                    await self._search(FaultSearch(batch, error))
        elif self._has_success or again:
            # Rotate: during an outage, each tick tries other pods.
            at = batch[0].asked % len(batch)
            await self._search(FaultSearch(batch[at:] + batch[:at], error))
        self._release(batch)

    async def _search(self, search: PodSearch) -> None:
        """Send the next requests of a search, within this tick's budget."""
        search.has_success |= self._has_success
        if not search.has_success:
            self._budget.limit_to_outage()
        for asked in range(_REFUSAL_REQUESTS):
            refused = is_refusal(search.error)
            has_request = self._budget.take(is_refused=refused)
            # The tick's last request goes to the pods presumed innocent, unless it comes too soon.
            items = search.next_items(last=self._budget.is_last(asked, is_refused=refused))
            if not items or not has_request:
                break
            error = await self._ask(items)
            search.has_success |= self._has_success
            if error is None:
                search.passed(items)
            elif _is_about_pods(error):
                search.failed(items, error)
            else:
                break
        self._conclude(search)

    def _conclude(self, search: PodSearch) -> None:
        """Act on the findings of a search so far."""
        for pod, error in search.culprits.items():
            self._judge([pod], error)
            pod.alone = search.has_success
        search.culprits.clear()
        undecided = search.undecided
        for pod in undecided:
            pod.search = search if search.has_success else None
        if search.given_up:
            if is_refusal(search.error):
                self._budget.give_up()
            self._judge(undecided, search.error)
        self._release(undecided)

    def _judge(self, pods: list[WatchedPod], error: Exception) -> None:
        """Act on a failure that is not, or no longer, searched."""
        self._clear(pods)
        if is_refusal(error):
            self._state.refuse(pods, error)


def _is_about_pods(error: Exception) -> bool:
    """Tell whether some of a request's pods may have caused its failure."""
    is_answer = isinstance(error, APIError) and not isinstance(error, RateLimitError)
    return is_answer or may_be_caused_by_ids(error)
