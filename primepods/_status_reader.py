"""Reader of status rows, which finds ids that make a batch fail, and lets calls share requests."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from ._decoding.pods import decode_statuses
from ._http.executor import RequestExecutor, is_unsent
from ._http.request import Request
from ._http.response_cache import ResponseCache
from ._http.status_batches import chunk_ids, status_request
from ._operations import LISTENERS, set_listeners
from ._utils.concurrency import map_bounded
from ._utils.exceptions import copy_exception
from ._utils.fault_search import GIVE_UP_AFTER, FaultSearch
from .errors import APIError, PrimePodsError, ProtocolError, RateLimitError, TransportError
from .models import PodStatus

if TYPE_CHECKING:
    from ._operations.operation import Listeners

_ID_ERROR_STATUSES: Final = frozenset({400, 413, 414, 422})
"""HTTP statuses that are about the ids, or about their number, even if no request succeeds."""
_POSSIBLE_ID_ERROR_STATUSES: Final = _ID_ERROR_STATUSES | {403, 404}
"""HTTP statuses that may be about ids. A 403 or 404 may also be about the key or the base URL."""
_MAX_REQUESTS: Final = 250
"""Max requests to search a failed batch; ids that are undecided by then count as failed (chosen)."""
_PART_ATTEMPTS: Final = 2
"""Max attempts of a request for a part of a failed batch (chosen)."""
_CACHE_BYTES: Final = 8 * 1024 * 1024
"""Max bytes of the response cache, enough for about 18,000 pods (chosen)."""


def may_be_caused_by_ids(error: Exception) -> bool:
    """Return whether some of a request's ids may have caused its failure."""
    if isinstance(error, APIError):
        transient = error.transient and not isinstance(error, RateLimitError)
        return transient or error.status_code in _POSSIBLE_ID_ERROR_STATUSES
    return isinstance(error, ProtocolError) or (isinstance(error, TransportError) and error.maybe_received)


@attrs.frozen(eq=False, repr=False)
class StatusResponse:
    """Rows and errors by id, from one or more status responses."""

    rows: dict[str, PodStatus] = attrs.field(factory=dict[str, PodStatus])
    errors: dict[str, PrimePodsError] = attrs.field(factory=dict[str, PrimePodsError])


class StatusReader:
    """Reader of status rows.

    Args:
        cache_bytes: Max bytes of the cache of decoded responses.
    """

    def __init__(self, executor: RequestExecutor, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self.executor = executor
        self._cache = ResponseCache(cache_bytes, executor.settings.clock)
        self._open_call: _SharedCall | None = None

    async def read(self, pod_ids: list[str]) -> StatusResponse:
        """Fetch the statuses of checked, distinct ids in concurrent batches; find ids that make a batch fail.

        Raises:
            PrimePodsError: A request failed, and its ids do not seem to be the cause.
        """
        read_call = _ReadCall(self)
        limit = self.executor.settings.max_concurrency
        await map_bounded(read_call.read_chunk, self.chunks(pod_ids), limit)
        return read_call.result()

    def clear_cache(self) -> None:
        """Clear the response cache, to free its memory before the reader itself is freed."""
        self._cache.clear()

    def chunks(self, pod_ids: list[str]) -> list[list[str]]:
        """Split checked, distinct ids into batches.

        No maximum is documented. A batch has at most 100 ids, like the vendor's other batch requests, and a
        request line of at most 8,000 bytes, because common servers refuse more than 8,190.
        """
        return list(chunk_ids(pod_ids, prefix=urlsplit(self.executor.settings.base_url).path))

    async def read_one(self, pod_id: str) -> PodStatus | None:
        """Return the status of one pod; ``None`` if the response has no row for it.

        Calls in the same iteration of the event loop share requests.
        """
        while True:
            call = self._open_call
            if call is None or call.loop is not asyncio.get_running_loop():
                call = self._open_call = _SharedCall(self)
            response = await call.wait_for(pod_id)
            if response is not None:
                break
            # Other code has cancelled the shared call, but not this caller: try again.
        error = response.errors.get(pod_id)
        if error is not None:
            raise copy_exception(error)
        return response.rows.get(pod_id)

    def close_shared_call(self, call: _SharedCall) -> None:
        """Let later callers of :meth:`read_one` begin another call."""
        if self._open_call is call:
            self._open_call = None

    def read_batch(
        self, pod_ids: list[str], *, executor: RequestExecutor | None = None, ends_at: float | None = None
    ) -> Awaitable[StatusResponse]:
        """Return an awaitable that requests one batch. An unreadable row becomes an error of its id.

        Args:
            pod_ids: One of :meth:`chunks`.
            executor: Sends the request; by default the reader's executor.
            ends_at: The latest time to give up, on the client's clock; by default the deadline.
        """
        request = status_request(pod_ids)
        return (executor or self.executor).call(
            request, lambda data: self._decode(data, request, pod_ids), cache=self._cache, ends_at=ends_at
        )

    def _decode(self, data: Any, request: Request, pod_ids: list[str]) -> StatusResponse:
        requested = set(pod_ids)
        rows, errors = decode_statuses(data)
        response = StatusResponse({row.pod_id: row for row in rows if row.pod_id in requested})
        for error in errors:
            shape_error = self.executor.shape_error(request, error)
            # A row without an id (imagined) may belong to any pod: all pods without a row get its error.
            suspects = pod_ids if error.row_id is None else [error.row_id]
            for pod_id in suspects:
                if pod_id in requested and pod_id not in response.rows:
                    response.errors.setdefault(pod_id, shape_error)
        return response


class _ReadCall:
    """One call of :meth:`StatusReader.read`."""

    def __init__(self, reader: StatusReader) -> None:
        self._reader = reader
        self._executor = reader.executor.for_many()
        self._response = StatusResponse()
        self._has_success = False
        self._failures: list[PrimePodsError] = []

    async def read_chunk(self, pod_ids: list[str]) -> None:
        """Request one batch; if some of its ids may have made it fail, read the rows of the others.

        Raises:
            PrimePodsError: The request failed for another reason, or too many requests have failed.
        """
        settings = self._executor.settings
        ends_at = settings.clock.time() + settings.deadline

        def goes_on_after(error: Exception) -> bool:
            return not is_unsent(error) and settings.clock.time() < ends_at

        error = await self._read(pod_ids, self._executor, ends_at)
        if error is None or not goes_on_after(error):
            return
        policy = attrs.evolve(settings.retry, attempts=min(_PART_ATTEMPTS, settings.retry.attempts))
        executor = self._executor.with_settings(attrs.evolve(settings, retry=policy))
        search = FaultSearch[str](
            lambda ids: self._read(ids, executor, ends_at),
            goes_on_after,
            singles=GIVE_UP_AFTER,
            halves=_MAX_REQUESTS,
            concurrency=settings.max_concurrency,
        )
        await search.run(pod_ids, lambda: self._has_success)

    def result(self) -> StatusResponse:
        """Return the rows and errors of all batches.

        Raises:
            PrimePodsError: No request succeeded, and the first error may have another cause than the ids.
        """
        if self._failures and not self._has_success:
            first = self._failures[0]
            if not isinstance(first, APIError) or first.status_code not in _ID_ERROR_STATUSES:
                raise copy_exception(first)
        return self._response

    async def _read(
        self, pod_ids: list[str], executor: RequestExecutor, ends_at: float
    ) -> PrimePodsError | None:
        """Request the rows of some ids. Keep them, or the error of the request, which is also returned.

        Raises:
            PrimePodsError: Ids are not the cause, or ``GIVE_UP_AFTER`` requests have failed and none has
                succeeded.
        """
        error: PrimePodsError | None = None
        try:
            response = await self._reader.read_batch(pod_ids, executor=executor, ends_at=ends_at)
            if not (response.rows or response.errors):
                # Reported of the availability endpoint: a replica that has lost its rows responds like this.
                # A second response must confirm it.
                response = await self._reader.read_batch(pod_ids, executor=executor, ends_at=ends_at)
        except PrimePodsError as exc:
            if not (may_be_caused_by_ids(exc) or is_unsent(exc)):
                raise
            error = exc.with_traceback(None)
            response = StatusResponse(errors=dict.fromkeys(pod_ids, error))
            self._failures.append(error)
        else:
            self._has_success = True
        if len(self._failures) >= GIVE_UP_AFTER and not self._has_success:
            raise copy_exception(self._failures[0])
        for pod_id in pod_ids:
            self._response.errors.pop(pod_id, None)
        self._response.rows.update(response.rows)
        # Copy the exceptions: other calls, and several ids, may share them.
        self._response.errors.update({key: copy_exception(exc) for key, exc in response.errors.items()})
        return error


class _SharedCall:
    """One call of :meth:`StatusReader.read` for all callers of ``read_one`` in an iteration of the loop."""

    def __init__(self, reader: StatusReader) -> None:
        self._pod_ids: dict[str, None] = {}
        self._listeners: list[Listeners | None] = []
        self.loop = asyncio.get_running_loop()
        self._reader = reader
        self._callers = 0
        self._task: asyncio.Task[StatusResponse] | None = None
        # Callers await this event, not the task: cancelling one caller would cancel the task for all.
        self._done = asyncio.Event()
        # An empty context: otherwise its log lines would carry the context variables of the first caller.
        self.loop.call_soon(self._start, context=contextvars.Context())

    async def wait_for(self, pod_id: str) -> StatusResponse | None:
        """Return the result for the pods of all callers; ``None`` if the task was cancelled.

        Raises:
            PrimePodsError: The call has failed; each caller gets a copy.
        """
        self._pod_ids[pod_id] = None
        self._listeners.append(LISTENERS.get())
        self._callers += 1
        try:
            await self._done.wait()
        finally:
            self._callers -= 1
            if not self._callers and self._task is not None:
                self._task.cancel()
        if self._task is None or self._task.cancelled():
            return None
        error = self._task.exception()
        if error is not None:
            raise copy_exception(error)
        return self._task.result()

    def _start(self) -> None:
        self._reader.close_shared_call(self)
        if self._callers:
            set_listeners(self._listeners)
            self._task = self.loop.create_task(self._reader.read(list(self._pod_ids)))
            self._task.add_done_callback(lambda _: self._done.set())
