"""Pods: everything on the page `Managing Pods
<https://docs.primeintellect.ai/api-reference/managing-pods>`_.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from operator import attrgetter
from typing import Any, Literal, TypeVar, get_args

from .._answers import missing_row
from .._concurrency import map_bounded
from .._convert import (
    DecodeError,
    decode_deletion,
    decode_history,
    decode_log,
    decode_pod,
    decode_pods,
)
from .._session import Gone, Session
from .._wire import PODS, Request, check_count, check_id, check_ids, page_request, pod_path
from ..errors import NotFoundError, PrimePodsError
from ..models import Deletions, HistoryRecord, Page, Pod, PodState, PodStatus, PodStatuses
from ..pages import AsyncPager, Source
from ._statuses import StatusReader

T = TypeVar("T")

SortBy = Literal["terminatedAt", "createdAt"]
SortOrder = Literal["asc", "desc"]

_MAX_LIMIT = 1_000
_MAX_INTEGER = 2**31 - 1


class AsyncPods:
    """``client.pods``: list, look at and delete pods.

    Every method raises, besides what it names: :class:`~primepods.AuthenticationError`,
    :class:`~primepods.PermissionDeniedError`, :class:`~primepods.RateLimitError`,
    :class:`~primepods.ServerError` and other :class:`~primepods.APIError`;
    :class:`~primepods.TransportError` and :class:`~primepods.RequestTimeoutError` where no answer came;
    :class:`~primepods.ProtocolError` where it cannot be understood; ``ValueError`` and ``TypeError`` for
    arguments that cannot be sent; :class:`~primepods.ClientClosedError`.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._statuses = StatusReader(session)

    async def page(self, *, offset: int = 0, limit: int = 100) -> Page[Pod]:
        """Return one page of the pods that are not terminated: ``GET /api/v1/pods/``.

        Args:
            offset: How many pods to skip.
            limit: How many to return at most, from 1 to 1,000.
        """
        check_count("offset", offset, minimum=0, maximum=_MAX_INTEGER)
        check_count("limit", limit, minimum=1, maximum=_MAX_LIMIT)
        return await self._page(offset, limit)

    def list(self, *, page_size: int = 100) -> AsyncPager[Pod]:
        """Iterate all pods that are not terminated, each exactly once: ``async for pod in pods.list()``.

        Sends nothing until iterated; see :class:`~primepods.AsyncPager` for what it guarantees while pods
        come and go.

        Args:
            page_size: Pods per request, from 1 to 1,000.
        """
        check_count("page_size", page_size, minimum=1, maximum=_MAX_LIMIT)
        return AsyncPager(self._source(self._page, attrgetter("id"), f"{PODS}/"), page_size)

    async def get(self, pod_id: str) -> Pod:
        """Return one pod: ``GET /api/v1/pods/{id}``.

        Args:
            pod_id: The pod's id.

        Raises:
            NotFoundError: No such pod; a terminated one is in :meth:`history`.
        """
        request = Request(method="GET", path=pod_path(pod_id), route=f"{PODS}/{{id}}")
        return await self._ask(request, partial(decode_pod, pod_id=pod_id))

    async def status(self, pod_id: str) -> PodStatus:
        """Return the status of one pod: ``GET /api/v1/pods/status``.

        Calls made in the same iteration of the event loop share a request.

        Args:
            pod_id: The pod's id.

        Raises:
            NotFoundError: The API has no row for it: it is terminated, or not visible yet.
        """
        row = await self._statuses.read_one(check_id(pod_id))
        if row is None:
            raise missing_row("GET", f"{PODS}/status", pod_id)
        return row

    async def statuses(self, pod_ids: Iterable[str]) -> PodStatuses:
        """Return the status of any number of pods: ``GET /api/v1/pods/status``, 100 ids a request.

        The requests run concurrently, within the client's ``max_concurrency``.

        Args:
            pod_ids: Ids; duplicates are asked for once.

        Returns:
            A mapping from id to status in the order asked, with ``.missing`` (ids without a row, which does
            not prove that they are gone) and ``.errors`` (ids that the API refused).
        """
        ids = check_ids(pod_ids)
        answer = await self._statuses.read(ids)
        rows, errors = answer.rows, answer.errors
        return PodStatuses(
            {pod_id: rows[pod_id] for pod_id in ids if pod_id in rows},
            missing=tuple(pod_id for pod_id in ids if pod_id not in rows and pod_id not in errors),
            errors={pod_id: errors[pod_id] for pod_id in ids if pod_id in errors},
        )

    async def delete(self, pod_id: str, *, missing_ok: bool = False) -> PodState:
        """Terminate one pod: ``DELETE /api/v1/pods/{id}``. Deleting goes on after the answer.

        Args:
            pod_id: The pod's id.
            missing_ok: Whether a pod that the API does not have counts as deleted.

        Returns:
            What the API answered; DELETING for an answer without a body; TERMINATED for a missing pod with
            ``missing_ok``, and when an earlier attempt, whose answer was lost, has deleted it.

        Raises:
            NotFoundError: No such pod, without ``missing_ok``.
        """
        request = Request(method="DELETE", path=pod_path(pod_id), route=f"{PODS}/{{id}}")
        try:
            return await self._ask(request, decode_deletion)
        except Gone:
            return PodState.TERMINATED
        except NotFoundError:
            if missing_ok:
                return PodState.TERMINATED
            raise

    async def delete_many(self, pod_ids: Iterable[str], *, missing_ok: bool = False) -> Deletions:
        """Terminate many pods concurrently, whatever becomes of each.

        All ids are checked before the first request. A failure ends only that pod's deletion.

        Args:
            pod_ids: Ids; duplicates are deleted once.
            missing_ok: Whether pods that the API does not have count as deleted.

        Returns:
            A mapping from id to the state that the API answered, with ``.errors`` for the pods that were not
            deleted and ``.raise_for_errors()``.
        """
        ids = check_ids(pod_ids)

        async def delete_one(pod_id: str) -> PodState | PrimePodsError:
            try:
                return await self.delete(pod_id, missing_ok=missing_ok)
            except PrimePodsError as exc:
                return exc

        outcomes = dict(
            zip(ids, await map_bounded(delete_one, ids, self._session.settings.max_concurrency), strict=True)
        )
        return Deletions(
            {pod_id: state for pod_id, state in outcomes.items() if isinstance(state, PodState)},
            errors={pod_id: error for pod_id, error in outcomes.items() if isinstance(error, PrimePodsError)},
        )

    async def history_page(
        self,
        *,
        offset: int = 0,
        limit: int = 100,
        sort_by: SortBy = "terminatedAt",
        sort_order: SortOrder = "desc",
    ) -> Page[HistoryRecord]:
        """Return one page of what was rented: ``GET /api/v1/pods/history``.

        Args:
            offset: How many records to skip.
            limit: How many to return at most, from 1 to 1,000.
            sort_by: ``"terminatedAt"`` or ``"createdAt"``.
            sort_order: ``"desc"`` or ``"asc"``.
        """
        check_count("offset", offset, minimum=0, maximum=_MAX_INTEGER)
        check_count("limit", limit, minimum=1, maximum=_MAX_LIMIT)
        _check_sorting(sort_by, sort_order)
        return await self._history_page(offset, limit, sort_by, sort_order)

    def history(
        self, *, page_size: int = 100, sort_by: SortBy = "terminatedAt", sort_order: SortOrder = "desc"
    ) -> AsyncPager[HistoryRecord]:
        """Iterate the whole history, each record exactly once, as :meth:`list` does for pods.

        Args:
            page_size: Records per request, from 1 to 1,000.
            sort_by: ``"terminatedAt"`` or ``"createdAt"``.
            sort_order: ``"desc"`` or ``"asc"``.
        """
        check_count("page_size", page_size, minimum=1, maximum=_MAX_LIMIT)
        _check_sorting(sort_by, sort_order)
        fetch = partial(self._history_page, sort_by=sort_by, sort_order=sort_order)
        return AsyncPager(self._source(fetch, attrgetter("id"), f"{PODS}/history"), page_size)

    async def logs(self, pod_id: str, *, tail: int | None = 100) -> str:
        """Return the end of a pod's log: ``GET /api/v1/pods/{id}/log``.

        Args:
            pod_id: The pod's id.
            tail: How many entries, from 1; ``None`` leaves it to the API.

        Returns:
            Text, whatever JSON the API wraps it in. It is the pod's own output: it may hold anything.

        Raises:
            NotFoundError: No such pod.
        """
        path = f"{pod_path(pod_id)}/log"
        query = ""
        if tail is not None:
            query = f"tail={check_count('tail', tail, minimum=1, maximum=_MAX_INTEGER)}"
        request = Request(method="GET", path=path, route=f"{PODS}/{{id}}/log", query=query, text_allowed=True)
        return await self._ask(request, decode_log)

    async def _page(self, offset: int, limit: int) -> Page[Pod]:
        request = page_request(f"{PODS}/", offset=offset, limit=limit)
        return await self._ask(request, partial(decode_pods, offset=offset, limit=limit))

    async def _history_page(
        self, offset: int, limit: int, sort_by: SortBy, sort_order: SortOrder
    ) -> Page[HistoryRecord]:
        request = page_request(
            f"{PODS}/history", offset=offset, limit=limit, sort_by=sort_by, sort_order=sort_order
        )
        return await self._ask(request, partial(decode_history, offset=offset, limit=limit))

    def _source(
        self, fetch: Callable[[int, int], Awaitable[Page[T]]], key: Callable[[T], str], path: str
    ) -> Source[T]:
        return Source(fetch=fetch, key=key, path=path, window=self._session.settings.max_concurrency)

    async def _ask(self, request: Request, decode: Callable[[Any], T]) -> T:
        data = await self._session.call(request)
        try:
            return decode(data)
        except DecodeError as exc:
            broken = exc
        raise self._session.broken(request, path=broken.path, reason=broken.reason, value=broken.value)


def _check_sorting(sort_by: str, sort_order: str) -> None:
    for name, value, allowed in (
        ("sort_by", sort_by, get_args(SortBy)),
        ("sort_order", sort_order, get_args(SortOrder)),
    ):
        if value not in allowed:
            msg = f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}"
            raise ValueError(msg)
