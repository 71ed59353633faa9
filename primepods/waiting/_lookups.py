"""GETs of single pods, and a request for the history, that complete the status rows."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Final

from .._decoding.pods import decode_pod
from .._decoding.rows import decode_page
from .._http.executor import RequestExecutor
from .._http.request import PODS, item_request, page_request
from ..errors import NotFoundError, PrimePodsError
from ..models import HistoryRecord
from ._poller_state import PollerState, is_refusal
from ._watched_pod import LOOKUP_INTERVAL, WatchedPod

_HISTORY_ROWS: Final = 100
"""Number of history rows to request; the API's documented default for ``limit``."""


class PodLookups:
    """Sender of GETs for pods whose row is missing, TERMINATED, or ACTIVE without an address (reported).

    A pod that was never seen and that ``get`` does not find may have ended before the wait began. The latest
    page of the history may show this. One request for this page serves all pods.
    """

    def __init__(self, state: PollerState, executor: RequestExecutor) -> None:
        self._state = state
        self._executor = executor
        # A quarter of the concurrent requests, at least one (chosen): lookups must not delay the polls.
        self._slots = asyncio.Semaphore(max(1, executor.settings.max_concurrency // 4))
        self._ended_in_history: set[str] = set()
        self._next_history_at = -math.inf

    def start_if_due(self, pod: WatchedPod) -> None:
        if pod.is_lookup_due(self._state.clock.time()):
            lookup = pod.lookup
            lookup.in_flight = True
            self._state.start(
                partial(self._look_up, pod), pods=[pod], on_end=lambda: setattr(lookup, "in_flight", False)
            )

    async def _look_up(self, pod: WatchedPod) -> None:
        state, lookup = self._state, pod.lookup
        async with self._slots:
            is_paused = await state.pace.wait_for_turn() is not None
            # In a pause, skip the lookup: a later tick starts it again.
            if is_paused or not pod.subscriptions:
                return
            sequence = next(state.sequence_numbers)
            lookup.sent_at = state.clock.time()
            lookup.due_at = lookup.sent_at + LOOKUP_INTERVAL
            decode = partial(decode_pod, pod_id=pod.pod_id)
            try:
                found = await self._executor.call(item_request("GET", pod.pod_id), decode)
            except NotFoundError:
                pod.record_not_found(sequence)
                if pod.never_found and pod.pod_id in self._ended_in_history:
                    pod.record_ended(sequence)
                elif pod.never_found and state.clock.time() >= self._next_history_at:
                    self._next_history_at = state.clock.time() + LOOKUP_INTERVAL
                    state.start(self._read_history, pods=[pod])
            except PrimePodsError as exc:
                state.record_failure(exc, pod_count=1)
                pod.record_lookup_error(exc.with_traceback(None))
                if is_refusal(exc):
                    # A lookup follows a status response, so the interval of the waits counts, too.
                    interval = max(pod.interval, LOOKUP_INTERVAL)
                    confirm_at = lookup.begin_or_confirm_refusal(
                        exc, now=state.clock.time(), interval=interval
                    )
                    if confirm_at is None:
                        pod.end_subscriptions(exc)
                    else:
                        lookup.due_at = confirm_at
            else:
                pod.record_pod(found, sequence, state.clock.time())

    async def _read_history(self) -> None:
        """Record which pods the history lists as ended.

        A failure ends no wait: it is logged, a 429 also pauses the poller, and a later lookup retries.
        """
        state = self._state
        request = page_request(
            f"{PODS}/history", offset=0, limit=_HISTORY_ROWS, sort_by="terminatedAt", sort_order="desc"
        )
        decode = partial(decode_page, model=HistoryRecord, offset=0, limit=_HISTORY_ROWS)
        async with self._slots:
            if await state.pace.wait_for_turn() is not None:
                # Let the next lookup that needs the page request it.
                self._next_history_at = -math.inf
                return
            sequence = next(state.sequence_numbers)
            try:
                records, _ = await self._executor.call(request, decode)
            except PrimePodsError as exc:
                # At least 1: the waits for the pod that needs the history may have ended since.
                pod_count = max(1, sum(pod.never_found for pod in state.pods.values()))
                state.record_failure(exc, pod_count=pod_count)
                return
        self._ended_in_history = {record.id for record in records if record.terminated_at is not None}
        for pod_id in self._ended_in_history:
            pod = state.pods.get(pod_id)
            if pod is not None:
                pod.record_ended(sequence)
