"""One tick: the pods that are due are asked for in full batches, and batches that fail are searched.

A batch can fail because of a single pod (one that makes the API fail, one of another team). Such a pod must
not keep the others of its batch from being seen: it is searched for by halving (see :class:`FaultSearch`),
and then asked for alone. There are fewer than twice as many requests in a tick as there would be batches
without that; nothing is searched while nothing at all is answered: that is an outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from .._status_reader import StatusReader, is_about_ids
from .._utils.fault_search import FaultSearch
from ..errors import APIError, PrimePodsError, RateLimitError
from ._hub_state import HubState, is_refusal
from ._watched_pod import PodSearch, WatchedPod

_MIN_REQUESTS: Final = 3
"""Requests of a tick of a single batch, if it is searched."""
_OUTAGE_REQUESTS: Final = 2
"""Requests besides the batches while nothing is answered."""
_REFUSAL_REQUESTS: Final = 60
"""Requests of a tick for a batch that was refused: its culprits leave, so they cost this once."""
_HALVINGS: Final = 2
"""Requests of a search to find culprits, before the last one of a tick is for those presumed innocent."""
_MAX_HOPELESS: Final = 3
"""Batches of which all was refused, after which the other refused batches of the tick are not searched."""


class SearchBudget:
    """Bound on the requests of a tick besides those that every tick makes.

    Args:
        requests: Requests that searches may make; those for refused batches are not counted.
    """

    def __init__(self, requests: int) -> None:
        self._left = requests
        self._hopeless = 0

    def limit_to_outage(self) -> None:
        """Allow only a few more: nothing has been answered yet."""
        self._left = min(self._left, _OUTAGE_REQUESTS)

    def take(self, *, is_refused: bool) -> bool:
        """Take a request; returns whether there was one."""
        self._left -= not is_refused
        return self._left >= 0

    def is_last(self, requests: int, *, is_refused: bool) -> bool:
        """Tell whether the request just taken is the last one of the tick, after so many of its search."""
        return not is_refused and self._left < 1 and requests >= _HALVINGS

    def give_up(self) -> None:
        """Count a batch of which every request was refused."""
        self._hopeless += 1

    @property
    def is_hopeless(self) -> bool:
        """Whether so many batches were refused that no other one is searched."""
        return self._hopeless >= _MAX_HOPELESS


class Tick:
    """Asks for the status of the pods that are due at a time.

    Args:
        state: What the parts of the hub share.
        reader: Sends the requests, without retries.
        look_up: Called for each pod of which a request was answered.
        pods: What is due, in the order in which it is to be asked for; marked as being in flight until it is
            answered or the tick is over.
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
        self._answered = False
        self._decided = asyncio.Event()
        self._refusals = asyncio.Lock()
        self._budget = SearchBudget(0)

    async def run(self) -> None:
        """Ask for all of it, and search what fails."""
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
        if batches and not self._answered:
            # An outage: what fails in it is nobody's fault.
            for search in self._searches:
                self._clear(search.undecided)

    def release(self) -> None:
        """Note that no request of this tick is under way any more."""
        self._release(list(self._pods))

    def _batches(self) -> list[list[WatchedPod]]:
        """Return what is asked for at once: all but what is being searched."""
        plain = [pod for pod in self._pods if not pod.search and not pod.alone]
        # In requests of their own, so that pods that were not refused are not refused together with them.
        refused = [pod for pod in plain if pod.refused_at is not None]
        fresh = [pod for pod in plain if pod.refused_at is None]
        return self._split(refused) + self._split(fresh)

    def _split(self, pods: Iterable[WatchedPod]) -> list[list[WatchedPod]]:
        """Split pods into requests."""
        by_id = {pod.pod_id: pod for pod in pods}
        return [[by_id[pod_id] for pod_id in chunk] for chunk in self._reader.chunks(list(by_id))]

    def _clear(self, pods: list[WatchedPod]) -> None:
        for pod in pods:
            pod.search = None

    async def _ask(self, pods: list[WatchedPod]) -> Exception | None:
        """Send one request, unless a pause has begun, and take in what it brings; return how it failed."""
        if self._state.pace.cause is None:
            await self._state.pace.wait_for_turn()
        error: PrimePodsError | None = self._state.pace.cause
        if error is None:
            try:
                await self._read(pods)
            except PrimePodsError as exc:
                self._state.note_failure(exc, len(pods))
                error = exc.with_traceback(None)
            except Exception as exc:  # noqa: BLE001 - a defect ends the waits; it must not leave them hanging
                for pod in pods:
                    pod.end(exc)
                return exc
            else:
                self._answered = True
                self._decided.set()
                self._release(pods)
                return None
        for pod in pods:
            pod.trouble = error
            if isinstance(error, RateLimitError):
                self._state.schedule.ask_at(pod, self._state.pace.next_at)
        return error

    async def _read(self, pods: list[WatchedPod]) -> None:
        sequence, sent_at = next(self._state.numbers), self._state.clock.time()
        for pod in pods:
            pod.asked, pod.asked_at = sequence, sent_at
            self._state.schedule.forget(pod)
        answer = await self._reader.read_batch([pod.pod_id for pod in pods])
        self._state.pace.note_response()
        now = self._state.clock.time()
        for pod in pods:
            pod.refused_at = pod.search = None
            pod.alone = False
            pod.trouble = answer.errors.get(pod.pod_id)
            if pod.trouble is None:
                row = answer.rows.get(pod.pod_id)
                if pod.row is not None and row == pod.row:
                    # One copy of what has not changed: the cache keeps these rows, too.
                    row = answer.rows[pod.pod_id] = pod.row
                pod.observe(row, sequence, now)
                self._look_up(pod)
        for error in {id(error): error for error in answer.errors.values()}.values():
            self._state.note_failure(error, 1)

    def _release(self, pods: Iterable[WatchedPod]) -> None:
        """Note that no request for ``pods`` is under way any more."""
        for pod in pods:
            if self._pods.pop(pod, pod) is None:
                pod.in_flight = False
                self._state.schedule.released(pod)

    async def _ask_batch(self, group: asyncio.TaskGroup, batch: list[WatchedPod]) -> None:
        again = any(pod.trouble is not None for pod in batch)
        error = await self._ask(batch)
        if isinstance(error, PrimePodsError):
            group.create_task(self._follow_up(batch, error, again=again))

    async def _follow_up(self, batch: list[WatchedPod], error: PrimePodsError, *, again: bool) -> None:
        """Search a batch that failed, if others did not, or if it is not the first time."""
        # A batch that hangs must not keep this waiting once another was answered.
        await self._decided.wait()
        if (
            len(batch) == 1
            or not _is_about_pods(error)
            or (is_refusal(error) and batch[0].refused_at is not None)
        ):
            self._judge(batch, error)
        elif is_refusal(error):
            async with self._refusals:
                if self._budget.is_hopeless:
                    self._judge(batch, error)
                else:
                    await self._search(FaultSearch(batch, error))
        elif self._answered or again:
            # Rotated: while nothing is answered, each tick tries other pods.
            at = batch[0].asked % len(batch)
            await self._search(FaultSearch(batch[at:] + batch[:at], error))
        self._release(batch)

    async def _search(self, search: PodSearch) -> None:
        """Ask for what a search wants to know next, as far as this tick's requests go."""
        search.answered = search.answered or self._answered
        if not search.answered:
            self._budget.limit_to_outage()
        for asked in range(_REFUSAL_REQUESTS):
            refused = is_refusal(search.error)
            has_request = self._budget.take(is_refused=refused)
            # The end of a tick is for those presumed innocent, unless it comes at once.
            items = search.next_items(last=self._budget.is_last(asked, is_refused=refused))
            if not items or not has_request:
                break
            error = await self._ask(items)
            search.answered = search.answered or self._answered
            if error is None:
                search.passed(items)
            elif _is_about_pods(error):
                search.failed(items, error)
            else:
                break
        self._conclude(search)

    def _conclude(self, search: PodSearch) -> None:
        """Act upon what a search has found out so far."""
        for pod, error in search.culprits.items():
            self._judge([pod], error)
            pod.alone = search.answered
        search.culprits.clear()
        undecided = search.undecided
        for pod in undecided:
            pod.search = search if search.answered else None
        if search.given_up:
            if is_refusal(search.error):
                self._budget.give_up()
            self._judge(undecided, search.error)
        self._release(undecided)

    def _judge(self, pods: list[WatchedPod], error: Exception) -> None:
        """Act upon a failure that is not, or no longer, searched."""
        self._clear(pods)
        if is_refusal(error):
            self._state.refuse(pods, error)


def _is_about_pods(error: Exception) -> bool:
    """Tell whether a request may have failed because of some of the pods in it."""
    is_answer = isinstance(error, APIError) and not isinstance(error, RateLimitError)
    return is_answer or is_about_ids(error)
