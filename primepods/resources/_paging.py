"""Pages of an endpoint: one request each, for the pagers and for those who ask for a single page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from .._decoding.fields import DecodeError
from .._decoding.rows import DecodedPage
from .._http.executor import RequestExecutor
from .._http.request import Request
from .._utils.strict_json import show
from ..errors import ProtocolError
from ..pagination import FetchedPage, Source

T = TypeVar("T")


def page_source(
    executor: RequestExecutor, fetch: Callable[[int, int], Awaitable[FetchedPage[T]]], path: str
) -> Source[T]:
    """Return the source of a pager."""
    # More than can be in flight, so that no slot is free while a page is decoded.
    return Source(fetch=fetch, path=path, window=executor.settings.max_concurrency * 3 // 2)


async def fetch_page(
    executor: RequestExecutor,
    request: Request,
    decode: Callable[[Any], DecodedPage[T]],
    *,
    key: Callable[[T], str] = attrgetter("id"),
    rows_key: str = "data",
) -> FetchedPage[T]:
    """Ask for one page.

    Args:
        executor: Sends the request.
        request: What to ask.
        decode: Makes the page of the answer's JSON.
        key: What tells an item from others.
        rows_key: Where the rows stand in the answer.

    Returns:
        The page with all its rows, those that cannot be read as errors in their places.
    """
    decoded, keys = await executor.call(request, partial(_decode_with_keys, decode, rows_key))
    page = decoded.page
    rows: list[T | ProtocolError] = list(page.data)
    row_keys = [key(item) for item in page.data]
    for error, error_key in zip(decoded.errors, keys, strict=True):
        # In ascending order, so that each finds its place.
        rows.insert(error.index or 0, executor.shape_error(request, error))
        row_keys.insert(error.index or 0, error_key)
    return FetchedPage(
        total_count=page.total_count, offset=page.offset, limit=page.limit, rows=rows, keys=row_keys
    )


def _decode_with_keys(
    decode: Callable[[Any], DecodedPage[T]], rows_key: str, data: Any
) -> tuple[DecodedPage[T], list[str]]:
    decoded = decode(data)
    return decoded, [_key(error, data[rows_key]) for error in decoded.errors]


def _key(error: DecodeError, rows: Any) -> str:
    """Return what tells an unreadable row from others: its id, or else all that it holds."""
    return show(rows[error.index]) if error.row_id is None else error.row_id
