"""Requests for single pages of an endpoint, alone or for a pager."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from .._decoding.fields import DecodeError
from .._decoding.rows import decode_page
from .._http.executor import RequestExecutor
from .._http.request import PODS, Request, page_request
from .._utils.arguments import check_count
from .._utils.strict_json import is_object, show
from ..errors import ProtocolError
from ..models import Page, Pod
from ..pagination import AsyncPager, FetchedPage, Source, offset_pager

if TYPE_CHECKING:
    from ..leasing.pods_api import ListedPod

T = TypeVar("T")

PAGE_SIZE: Final = 100
"""Default number of rows of a page, as in the API."""
MAX_LIMIT: Final = 1_000
"""Max rows of a page."""


def page_source(
    executor: RequestExecutor,
    fetch: Callable[[int, int], Awaitable[FetchedPage[T]]],
    path: str,
    keep: Callable[[T], bool] | None = None,
    *,
    name: str | None = None,
) -> Source[T]:
    """Return the source of a pager.

    Args:
        executor: Sends the requests.
        fetch: Requests one page.
        path: The path, for messages.
        keep: Returns whether to yield an item; by default, all are yielded.
        name: Operation under which each request is reported to ``on_event``, such as ``pods.list``; ``None``
            if the caller is an operation itself.
    """
    settings = executor.settings
    if name is not None and settings.on_event is not None:
        fetch = settings.on_event.wrap(name, settings.clock, fetch)
    # Twice the limit on requests in flight: even if all responses arrive together, the next requests are sent
    # before the pages are decoded.
    return Source(fetch=fetch, path=path, keep=keep, window=settings.max_concurrency * 2)


async def fetch_page(
    executor: RequestExecutor,
    request: Request,
    model: type[T],
    *,
    offset: int,
    limit: int,
    key: Callable[[T], str] = attrgetter("id"),
    ends_at: float | None = None,
    on_body: Callable[[Any], None] | None = None,
    make_bare: Callable[..., T] | None = None,
    **keys: str,
) -> FetchedPage[T]:
    """Request one page.

    Args:
        executor: Sends the request.
        request: The request.
        model: The model of a row.
        offset: Offset of the page, if the response does not state it.
        limit: Max rows of the page, if the response does not state it.
        key: Returns the identity of an item.
        ends_at: Time on the client's clock at which to give up; by default, the call's deadline.
        on_body: Called with the whole response, before its rows are decoded.
        make_bare: Returns the item for an unreadable row that has an id, called with its ``id`` and ``name``.
        keys: Keys of the rows and the count in the response; see :func:`decode_page`.

    Returns:
        The page with all its rows; in place of an unreadable row, its error, or the item of ``make_bare``.
    """

    def decode(data: Any) -> tuple[Page[T], list[DecodeError]]:
        if on_body is not None:
            on_body(data)
        return decode_page(data, model=model, offset=offset, limit=limit, **keys)

    page, errors = await executor.call(request, decode, ends_at=ends_at)
    rows: list[T | ProtocolError] = list(page.data)
    row_keys = [key(item) for item in page.data]
    for error in errors:
        # The errors are in ascending order, so each index is right when its error is inserted.
        index = error.index or 0
        row_keys.insert(index, error.row_id or show(error.row))
        if make_bare is None or not error.row_id:
            rows.insert(index, executor.shape_error(request, error))
        else:
            name = error.row.get("name") if is_object(error.row) else None
            rows.insert(index, make_bare(id=error.row_id, name=name if isinstance(name, str) else None))
    return FetchedPage(
        total_count=page.total_count, offset=page.offset, limit=page.limit, rows=rows, keys=row_keys
    )


def list_pager(
    executor: RequestExecutor,
    path: str,
    model: type[T],
    page_size: int,
    *,
    name: str,
    key: Callable[[T], str] = attrgetter("id"),
    route: str | None = None,
    make_bare: Callable[..., T] | None = None,
    keep: Callable[[T], bool] | None = None,
    **query: str,
) -> AsyncPager[T]:
    """Return a pager of all rows of a list.

    Args:
        executor: Sends the requests.
        path: The path of the list.
        model: The model of a row.
        page_size: Rows per request, from 1 to 1,000; below 100, one more is requested for the overlap.
        name: See :func:`page_source`.
        key: Returns the identity of an item.
        route: The path with ``{id}`` in place of an id, if it contains one.
        make_bare: See :func:`fetch_page`.
        keep: See :func:`page_source`.
        query: Other parameters of each request.
    """
    check_count("page_size", page_size, minimum=1, maximum=MAX_LIMIT)

    async def fetch(offset: int, limit: int) -> FetchedPage[T]:
        request = attrs.evolve(page_request(path, offset=offset, limit=limit, **query), route=route)
        return await fetch_page(
            executor, request, model, offset=offset, limit=limit, key=key, make_bare=make_bare
        )

    return offset_pager(page_source(executor, fetch, path, keep, name=name), page_size)


async def read_page(
    executor: RequestExecutor, path: str, model: type[T], offset: int, limit: int, **query: str
) -> Page[T]:
    """Return one page of a list; raise an error if a row is unreadable."""
    check_count("offset", offset, minimum=0)
    check_count("limit", limit, minimum=1, maximum=MAX_LIMIT)
    request = page_request(path, offset=offset, limit=limit, **query)
    return (await fetch_page(executor, request, model, offset=offset, limit=limit)).whole()


def ignore_body(_: Any) -> None:
    """Ignore the body of a successful response."""


def listed_pods(executor: RequestExecutor) -> AsyncPager[ListedPod]:
    """Return a pager of all pods, including rows of which only id and name can be read."""
    from ..leasing.pods_api import BareRow

    model = cast("type[ListedPod]", Pod)
    return list_pager(executor, f"{PODS}/", model, MAX_LIMIT, name="pods.list", make_bare=BareRow)
