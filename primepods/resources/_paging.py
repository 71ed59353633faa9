"""Pages of an endpoint, one request each: for pagers and for single pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeVar

from .._decoding.fields import DecodeError
from .._decoding.rows import decode_page
from .._http.executor import RequestExecutor
from .._http.request import DISKS, PODS, Request, page_request
from .._utils.strict_json import is_object, show
from ..account import Disk
from ..errors import ProtocolError
from ..leasing.pods_api import ListedPod
from ..models import Page, Pod
from ..pagination import AsyncPager, FetchedPage, Source, offset_pager

T = TypeVar("T")
Row = TypeVar("Row", Pod, Disk)

_LISTED_PAGE_SIZE: Final = 1_000


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
        keep: Accepts the items to yield.
        name: Operation under which each request is reported to ``on_event``, such as ``pods.list``; ``None``
            if the caller is an operation itself.
    """
    settings = executor.settings
    if name is not None and settings.on_event is not None:
        fetch = settings.on_event.wrap(name, settings.clock, fetch)
    # Twice the number of requests in flight: even if all responses arrive together, the next requests leave
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
    **keys: str,
) -> FetchedPage[T]:
    """Request one page.

    Args:
        executor: Sends the request.
        request: The request.
        model: The model of a row.
        offset: Offset of the page, if the response does not state it.
        limit: Maximum rows of the page, if the response does not state it.
        key: Returns the identity of an item.
        ends_at: Time to give up, by the client's clock; by default after the deadline.
        on_body: Called with the whole response, before its rows are decoded.
        keys: Keys of the rows and the count in the response; see :func:`decode_page`.

    Returns:
        The page with all its rows; in place of an unreadable row, its error.
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
        rows.insert(index, executor.shape_error(request, error))
        row_keys.insert(index, show(error.row) if error.row_id is None else error.row_id)
    return FetchedPage(
        total_count=page.total_count, offset=page.offset, limit=page.limit, rows=rows, keys=row_keys
    )


def listed_pods(executor: RequestExecutor) -> AsyncPager[ListedPod]:
    """Return a pager of all pods, also of those of whose rows only id and name can be read."""
    return _identities(
        executor, PODS, Pod, lambda pod: ListedPod(pod.id, pod.name, pod), partial(ListedPod, pod=None)
    )


def listed_disks(executor: RequestExecutor) -> AsyncPager[Disk]:
    """Return a pager of all disks; from a row of which only id and name can be read, with these only."""

    def of_names(disk_id: str, name: str | None) -> Disk:
        return Disk(id=disk_id, name=name)

    return _identities(executor, DISKS, Disk, lambda disk: disk, of_names)


def _identities(
    executor: RequestExecutor,
    path: str,
    model: type[Row],
    of_row: Callable[[Row], T],
    of_names: Callable[[str, str | None], T],
) -> AsyncPager[T]:
    """Return a pager of items for all rows, also for those of which only id and name can be read.

    Args:
        executor: Sends the requests.
        path: The path of the list.
        model: The model of a row.
        of_row: Returns the item for a row.
        of_names: Returns the item for an id and a name; ``None`` if the row has none that is text.
    """

    async def fetch(offset: int, limit: int) -> FetchedPage[T]:
        request = page_request(f"{path}/", offset=offset, limit=limit)
        decode = partial(decode_page, model=model, offset=offset, limit=limit)
        page, errors = await executor.call(request, decode)
        rows: list[T | ProtocolError] = [of_row(row) for row in page.data]
        keys = [row.id for row in page.data]
        for error in errors:
            index, name = error.index or 0, error.row.get("name") if is_object(error.row) else None
            name = name if isinstance(name, str) else None
            rows.insert(
                index, of_names(error.row_id, name) if error.row_id else executor.shape_error(request, error)
            )
            keys.insert(index, error.row_id or show(error.row))
        return FetchedPage(
            total_count=page.total_count, offset=page.offset, limit=page.limit, rows=rows, keys=keys
        )

    name = f"{'pods' if path == PODS else 'disks'}.list"
    return offset_pager(page_source(executor, fetch, f"{path}/", name=name), _LISTED_PAGE_SIZE)
