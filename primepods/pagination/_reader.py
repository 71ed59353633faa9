"""Parts that all list readers share: the source of pages, the requests ahead, and the rows so far."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import attrs

from .._utils.exceptions import copy_exception
from ..errors import ProtocolError
from ..models import Page

T = TypeVar("T")
R = TypeVar("R")

_MAX_ERRORS: Final = 6
"""Max errors that the exception of a list reports (chosen)."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class FetchedPage(Generic[T]):
    """One page as received.

    Attributes:
        total_count: Total rows by the server's count; ``None`` without a count.
        offset: Number of rows before this page.
        limit: Max rows of the page, as stated by the server or else as requested.
        rows: The items, or the error of an item that cannot be read.
        keys: A key per row; rows with equal keys are the same item.
    """

    total_count: int | None
    offset: int
    limit: int
    rows: Sequence[T | ProtocolError]
    keys: Sequence[str]

    def whole(self) -> Page[T]:
        """Return the page if all of its rows can be read.

        Raises:
            ProtocolError: The error of the first unreadable row.
        """
        items: list[T] = []
        for row in self.rows:
            if isinstance(row, ProtocolError):
                raise copy_exception(row)
            items.append(row)
        return self.to_page(tuple(items))

    def to_page(self, items: tuple[T, ...]) -> Page[T]:
        return Page(total_count=self.total_count, offset=self.offset, limit=self.limit, data=items)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Source(Generic[T]):
    """Source of a list's pages.

    Attributes:
        fetch: Requests one page; the arguments are its offset (or its number, from 1) and the max number of
            rows.
        path: For error messages.
        window: Max pages that are requested at a time: the wanted page and later ones.
        keep: Returns whether to yield an item; by default, all are yielded.
        max_requests: Max requests per read (chosen); a read that needs more fails.
    """

    fetch: Callable[[int, int], Awaitable[FetchedPage[T]]]
    path: str
    window: int
    keep: Callable[[T], bool] | None = None
    max_requests: int = 100_000


@attrs.frozen(kw_only=True, eq=False, repr=False)
class WantedPage:
    """The page that a reader needs next.

    Attributes:
        position: Its offset or number.
        stride: Distance from one page to the next.
        ahead_until: Pages before this position are worth requesting ahead.
    """

    position: int
    stride: int = 1
    ahead_until: int = 0


Reading: TypeAlias = Generator[WantedPage | Page[T], FetchedPage[T], R]
"""A read of a list or a part of it, without I/O.

Yields two kinds of steps:

- a ``WantedPage``: fetch this page, and ``send`` it;
- a ``Page`` of items for the user: continue with ``next``.

It never awaits, so cancelling a caller that waits for a page does not change the state of the read.
"""


class KnownRows(Generic[T]):
    """The keys of the rows received so far, and the errors of unreadable rows.

    Attributes:
        is_complete: Whether all rows have been received, readable or not.
    """

    def __init__(self, source: Source[T]) -> None:
        self.is_complete: bool = False
        self._path = source.path
        self._keep = source.keep
        self._readable: set[str] = set()
        """Keys of readable rows, including those that ``keep`` rejects."""
        self._unreadable: dict[str, ProtocolError] = {}

    def __len__(self) -> int:
        return len(self._readable) + len(self._unreadable)

    def __contains__(self, key: str) -> bool:
        return key in self._readable or key in self._unreadable

    def add(self, page: FetchedPage[T]) -> Reading[T, bool]:
        """Add a page's rows; yield its new items that match ``keep``.

        Returns:
            Whether at least one row was new, readable or not.
        """
        count_before = len(self)
        new = self._new_items(page)
        if self._keep is not None:
            new = list(filter(self._keep, new))
        if new:
            yield page.to_page(tuple(new))
        return len(self) > count_before

    def _new_items(self, page: FetchedPage[T]) -> list[T]:
        new: list[T] = []
        for key, row in zip(page.keys, page.rows, strict=True):
            if key in self._readable:
                continue
            if isinstance(row, ProtocolError):
                self._unreadable.setdefault(key, row)
            else:
                self._readable.add(key)
                self._unreadable.pop(key, None)
                new.append(row)
        return new

    def finish(self) -> None:
        """Record that all rows have been received.

        Raises:
            ProtocolError: Some rows cannot be read.
        """
        self.is_complete = True
        if self._unreadable:
            raise _first_of(list(self._unreadable.values()))

    def incomplete_error(self, *, counted: int, found: int) -> ProtocolError:
        """Return the error for a list with fewer rows than the API counts."""
        return self.error(
            f"the API counts {counted:,} rows, but returned only {found:,}, even after repeated requests",
            "The missing rows may exist. List again later; if this error persists, report it.",
        )

    def error(self, problem: str, remedy: str) -> ProtocolError:
        """Return the error for a list that cannot be read further.

        If rows are unreadable, return the error of the first one instead. Its notes report this error first,
        and then those of at most four other rows.
        """
        text = f"GET {self._path}: {problem} ({len(self._readable):,} items were read). {remedy}"
        error = ProtocolError(text, method="GET", url_path=self._path)
        errors = list(self._unreadable.values())
        errors.insert(1, error)
        return _first_of(errors)


def _first_of(errors: list[ProtocolError]) -> ProtocolError:
    """Return a copy of the first error, with notes about at most five others."""
    first = copy_exception(errors[0])
    for other in errors[1:_MAX_ERRORS]:
        first.add_note(f"Another error: {other}")
    if len(errors) > _MAX_ERRORS:
        first.add_note(f"{len(errors) - _MAX_ERRORS:,} more errors")
    return first


class PageReader(ABC, Generic[T]):
    """Reader of a list; one object reads it once.

    Attributes:
        source: The source of the pages.
        limit: Max rows per page.
        rows: The rows received so far.
    """

    def __init__(self, source: Source[T], limit: int) -> None:
        self.source = source
        self.limit = limit
        self.rows: KnownRows[T] = KnownRows(source)

    @abstractmethod
    def read(self) -> Reading[T, None]:
        """Read the list.

        Raises:
            ProtocolError: The list is incomplete, or a row is unreadable. All items that could be read have
                been yielded.
        """


class RequestWindow(Generic[T]):
    """The requests for the wanted page and the pages after it."""

    def __init__(self, reader: PageReader[T]) -> None:
        self._reader = reader
        self._request_count = 0
        self._pending: deque[tuple[int, asyncio.Task[FetchedPage[T]]]] = deque()
        """Position and task of each request that the reader may still want."""
        self._running: set[asyncio.Task[FetchedPage[T]]] = set()

    def request(self, wanted: WantedPage) -> asyncio.Task[FetchedPage[T]]:
        """Return the request for the wanted page, and send those for later pages ahead."""
        if self._pending and self._pending[0][0] != wanted.position:
            self.cancel()
        if not self._pending:
            self._send(wanted.position)
        next_position = self._pending[-1][0] + wanted.stride
        while len(self._pending) < self._reader.source.window and next_position < wanted.ahead_until:
            self._send(next_position)
            next_position += wanted.stride
        return self._pending[0][1]

    def discard_first(self) -> None:
        self._pending.popleft()

    def cancel(self) -> None:
        for _, task in self._pending:
            task.cancel()
        self._pending.clear()

    async def aclose(self) -> None:
        """Cancel all requests, and wait until they have released their connections."""
        self.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _send(self, position: int) -> None:
        source = self._reader.source
        self._request_count += 1
        if self._request_count > source.max_requests:
            problem = f"the list has no end after {source.max_requests:,} requests"
            raise self._reader.rows.error(problem, "Report this error.")
        task = asyncio.ensure_future(source.fetch(position, self._reader.limit))
        self._running.add(task)
        task.add_done_callback(self._on_task_done)
        self._pending.append((position, task))

    def _on_task_done(self, task: asyncio.Task[FetchedPage[T]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Retrieve the exception: otherwise asyncio logs it when nothing awaits this request.
            task.exception()
