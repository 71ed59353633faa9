"""Lookups that complete the status rows: ``get``, one pod at a time, and the history."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Final

from .._decoding.pods import decode_pod
from .._decoding.rows import decode_page
from .._http.executor import RequestExecutor
from .._http.request import PODS, page_request, pod_request
from ..errors import NotFoundError, PrimePodsError
from ..models import HistoryRecord
from ._hub_state import CONFIRM_AFTER, HubState, is_refusal
from ._watched_pod import LOOKUP_INTERVAL, WatchedPod

_HISTORY_ROWS: Final = 100


class PodLookups:
    """Calls of ``get`` for pods whose status rows are incomplete: no address, or possibly gone.

    A pod that was never seen and that ``get`` does not find may have ended before the wait began. One page of
    the history, requested at most every 30 s for all pods together, shows that.

    Args:
        state: State shared by the parts of the hub.
        executor: Sends requests, without retries.
    """

    def __init__(self, state: HubState, executor: RequestExecutor) -> None:
        self._state = state
        self._executor = executor
        # A quarter of the slots, so that lookups do not delay the polls.
        self._slots = asyncio.Semaphore(max(1, executor.settings.max_concurrency // 4))
        self._ended_in_history: set[str] = set()
        self._next_history_at = -math.inf

    def start_if_due(self, pod: WatchedPod) -> None:
        """Start a lookup of a pod if one is due."""
        if not pod.looking_up and pod.needs_lookup(self._state.clock.time()):
            pod.looking_up = True
            self._state.start(partial(self._look_up, pod), pods=[pod], on_end=partial(_note_lookup_done, pod))

    async def _look_up(self, pod: WatchedPod) -> None:
        async with self._slots:
            await self._state.pace.wait_for_turn()
            # In a pause, the lookup is skipped: the next tick starts another.
            if pod.subscriptions and self._state.pace.pause_cause is None:
                await self._get(pod)

    async def _get(self, pod: WatchedPod) -> None:
        sequence = next(self._state.sequence_numbers)
        sent_at = self._state.clock.time()
        pod.lookup_at = sent_at + LOOKUP_INTERVAL
        decode = partial(decode_pod, pod_id=pod.pod_id)
        try:
            found = await self._executor.call(pod_request("GET", pod.pod_id), decode)
        except NotFoundError:
            pod.record_not_found(sequence)
            if pod.never_found:
                self._consult_history(pod, sequence)
        except PrimePodsError as exc:
            self._state.note_failure(exc, pod_count=1)
            pod.record_lookup_error(exc.with_traceback(None))
            if is_refusal(exc):
                self._note_refusal(pod, exc, sent_at)
        else:
            pod.record_pod(found, sequence, self._state.clock.time())

    def _note_refusal(self, pod: WatchedPod, error: PrimePodsError, sent_at: float) -> None:
        """End the waits for a pod if this refusal confirms an earlier one, else schedule another lookup."""
        pod.lookup_refused_since = self._state.start_of_refusals(
            earlier=pod.lookup_refused_since, sent_at=sent_at, interval=LOOKUP_INTERVAL
        )
        if self._state.is_confirmed(error, refused_since=pod.lookup_refused_since):
            pod.end(error)
        else:
            pod.lookup_at = pod.lookup_refused_since + CONFIRM_AFTER

    def _consult_history(self, pod: WatchedPod, sequence: int) -> None:
        if pod.pod_id in self._ended_in_history:
            pod.record_ended(sequence)
        elif self._state.clock.time() >= self._next_history_at:
            self._next_history_at = self._state.clock.time() + LOOKUP_INTERVAL
            self._state.start(self._read_history, pods=[pod])

    async def _read_history(self) -> None:
        """Record which pods the history lists as ended. A failure is only logged: a later lookup retries."""
        sequence = next(self._state.sequence_numbers)
        request = page_request(
            f"{PODS}/history", offset=0, limit=_HISTORY_ROWS, sort_by="terminatedAt", sort_order="desc"
        )
        decode = partial(decode_page, model=HistoryRecord, offset=0, limit=_HISTORY_ROWS)
        try:
            records, _ = await self._executor.call(request, decode)
        except PrimePodsError as exc:
            # At least the pod of the lookup, whose waits may have ended meanwhile.
            pod_count = max(1, sum(pod.never_found for pod in self._state.pods.values()))
            self._state.note_failure(exc, pod_count=pod_count)
            return
        self._ended_in_history = {record.id for record in records if record.terminated_at is not None}
        for pod_id in self._ended_in_history:
            pod = self._state.pods.get(pod_id)
            if pod is not None:
                pod.record_ended(sequence)


def _note_lookup_done(pod: WatchedPod) -> None:
    pod.looking_up = False
