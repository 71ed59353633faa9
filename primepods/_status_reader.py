"""Statuses of many pods: chunks, refused ids, and calls that share a request."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import attrs

from ._decoding.rows import decode_statuses
from ._http.executor import RequestExecutor
from ._http.request import chunk_ids, status_request
from ._http.response_cache import ResponseCache
from ._utils.exceptions import copy_exception
from .errors import APIError
from .models import PodStatus

# Answers that can be about one id among many (or about their sum): the batch is split to find it.
_SPLIT_STATUSES = frozenset({400, 413, 414, 422})
_REFUSED_HALVES = 3
_MAX_REFUSALS = 8
_CACHE_BYTES = 8 * 1024 * 1024
"""Bytes of answers that are kept for calls: of about 18,000 pods."""


@attrs.frozen
class Answer:
    """Rows and refused ids of one or more status requests."""

    rows: dict[str, PodStatus]
    errors: dict[str, APIError]


class StatusReader:
    """Reads status rows.

    Args:
        executor: Sends the requests.
        cache_bytes: Bytes of answers that are kept, so that an unchanged one is not decoded again.
    """

    def __init__(self, executor: RequestExecutor, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._executor = executor
        self._cache = ResponseCache(cache_bytes)
        self._gathering: _Batch | None = None

    async def read(self, pod_ids: list[str]) -> Answer:
        """Ask for checked, distinct ids, 100 a request and concurrently."""
        settings = self._executor.settings
        chunks = list(chunk_ids(pod_ids, prefix=urlsplit(settings.base_url).path))
        answer = Answer({}, {})
        for part in await self._executor.map(self._confirm_empty, chunks):
            answer.rows.update(part.rows)
            answer.errors.update(part.errors)
        return answer

    async def read_one(self, pod_id: str) -> PodStatus | None:
        """Ask for one id; calls made in the same iteration of the event loop share their requests."""
        loop = asyncio.get_running_loop()
        batch = self._gathering
        if batch is None or batch.loop is not loop:
            batch = self._gathering = _Batch(loop)
            # An empty context: else the batch's log lines would land in whichever task came first.
            loop.call_soon(self._start, batch, context=contextvars.Context())
        return await batch.wait_for(pod_id)

    def _start(self, batch: _Batch) -> None:
        if self._gathering is batch:
            self._gathering = None
        batch.run(self)

    async def _confirm_empty(self, pod_ids: list[str]) -> Answer:
        """As :meth:`read_chunk`, but that none of the pods is there is believed when it is said twice."""
        answer = await self.read_chunk(pod_ids)
        if answer.rows or answer.errors:
            return answer
        # A replica that lost its rows answers like this.
        return await self.read_chunk(pod_ids)

    async def read_chunk(self, pod_ids: list[str]) -> Answer:
        """Ask for one request's worth of ids; split it where the API refuses it.

        Raises:
            APIError: The first refusal, when the whole, its halves and some ids alone were all refused: then
                it is not about an id.
        """
        answer = Answer({}, {})
        queue, refusals, accepted = deque([pod_ids]), 0, False
        first: APIError | None = None
        while queue:
            ids = queue.popleft()
            try:
                rows = await self._ask(ids)
            except APIError as exc:
                if exc.status_code not in _SPLIT_STATUSES:
                    raise
                refusal = exc
            else:
                if ids is pod_ids:
                    return Answer(rows, {})
                accepted = True
                answer.rows.update(rows)
                continue
            first, refusals = first or refusal, refusals + 1
            if len(ids) == 1:
                answer.errors[ids[0]] = refusal
            else:
                queue += [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
            if accepted or not queue:
                continue
            if refusals == _REFUSED_HALVES:
                queue = _singles_first(queue, _MAX_REFUSALS - refusals)
            elif refusals == _MAX_REFUSALS:
                raise first
        return answer

    async def _ask(self, pod_ids: list[str]) -> dict[str, PodStatus]:
        asked = set(pod_ids)

        def decode(data: Any) -> dict[str, PodStatus]:
            decoded = decode_statuses(data)
            if decoded.errors:
                raise decoded.errors[0]
            return {row.pod_id: row for row in decoded.rows if row.pod_id in asked}

        return await self._executor.call(status_request(pod_ids), decode, cache=self._cache)


def _singles_first(groups: Iterable[list[str]], count: int) -> deque[list[str]]:
    """Put ``count`` ids, taken evenly from all groups, before them: a few bad ones cannot be all of those."""
    groups = list(groups)
    ids = [pod_id for group in groups for pod_id in group]
    singles = ids[:: -(-len(ids) // count)]
    rest = ([pod_id for pod_id in group if pod_id not in singles] for group in groups)
    return deque([*([pod_id] for pod_id in singles), *filter(None, rest)])


class _Batch:
    """Calls for single pods that share their requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: dict[str, set[asyncio.Future[PodStatus | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait_for(self, pod_id: str) -> PodStatus | None:
        future: asyncio.Future[PodStatus | None] = self.loop.create_future()
        self._waiting.setdefault(pod_id, set()).add(future)
        try:
            return await future
        finally:
            self._leave(pod_id, future)

    def run(self, reader: StatusReader) -> None:
        """Start the requests, unless everybody has left already."""
        if self._waiting:
            self._task = self.loop.create_task(self._run(reader), context=contextvars.Context())

    def _leave(self, pod_id: str, future: asyncio.Future[PodStatus | None]) -> None:
        self._waiting[pod_id].discard(future)
        if not self._waiting[pod_id]:
            del self._waiting[pod_id]
        if not self._waiting and self._task is not None:
            self._task.cancel()

    async def _run(self, reader: StatusReader) -> None:
        try:
            answer = await reader.read(list(self._waiting))
        except Exception as exc:  # noqa: BLE001 - whatever broke the request ends the calls that wait for it
            for pod_id in self._waiting:
                self._fail(pod_id, exc)
            return
        except asyncio.CancelledError:
            for futures in self._waiting.values():
                for future in futures:
                    future.cancel()
            raise
        for pod_id, futures in self._waiting.items():
            error = answer.errors.get(pod_id)
            if error is not None:
                self._fail(pod_id, error)
            for future in futures:
                if not future.done():
                    future.set_result(answer.rows.get(pod_id))

    def _fail(self, pod_id: str, error: Exception) -> None:
        for future in self._waiting[pod_id]:
            if not future.done():
                # One exception each: tracebacks and notes of one caller must not show up at another's.
                future.set_exception(copy_exception(error))
