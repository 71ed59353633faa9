"""What every way of reading a list has: where pages come from, requests ahead, and the rows so far."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import attrs

from .._utils.exceptions import copy_exception
from ..errors import ProtocolError
from ..models import Page

T = TypeVar("T")
R = TypeVar("R")

_MOST_ERRORS: Final = 6
"""Up to how many errors of one list are told."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class FetchedPage(Generic[T]):
    """One page as it came over the wire.

    Attributes:
        total_count: How many rows there are in all, as the server counts; ``None`` if it does not say.
        offset: How many rows come before this page.
        limit: How many rows the page may hold, as the server says.
        rows: The items, and in the place of each that cannot be read the error that says why.
        keys: What tells rows apart, one for each: rows with equal keys are the same item.
    """

    total_count: int | None
    offset: int
    limit: int
    rows: Sequence[T | ProtocolError]
    keys: Sequence[str]

    def whole(self) -> Page[T]:
        """Return the page if all of it can be read.

        Raises:
            ProtocolError: The first row that cannot.
        """
        items: list[T] = []
        for row in self.rows:
            if isinstance(row, ProtocolError):
                raise copy_exception(row)
            items.append(row)
        return self.holding(tuple(items))

    def holding(self, items: tuple[T, ...]) -> Page[T]:
        """Return this page as users see it, with some of its items."""
        return Page(total_count=self.total_count, offset=self.offset, limit=self.limit, data=items)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Source(Generic[T]):
    """Where a list comes from.

    Attributes:
        fetch: Asks for one page, by its offset (or its number, from 1) and the rows that it may hold.
        path: For error messages.
        window: How many requests may be on their way.
        keep: Tells which items are yielded; by default, all.
        max_requests: Where a list that never ends is given up.
    """

    fetch: Callable[[int, int], Awaitable[FetchedPage[T]]]
    path: str
    window: int
    keep: Callable[[T], bool] | None = None
    max_requests: int = 100_000


class KnownRows(Generic[T]):
    """The rows that have come so far: none is yielded twice, and what cannot be read is not forgotten.

    Args:
        source: Where they come from.

    Attributes:
        is_complete: Whether all rows have come, readable or not.
    """

    def __init__(self, source: Source[T]) -> None:
        self.is_complete: bool = False
        self._path = source.path
        self._keep = source.keep
        self._yielded: set[str] = set()
        self._unreadable: dict[str, ProtocolError] = {}

    def __len__(self) -> int:
        return len(self._yielded) + len(self._unreadable.keys() - self._yielded)

    def __contains__(self, key: str) -> bool:
        return key in self._yielded or key in self._unreadable

    def add(self, page: FetchedPage[T]) -> Reading[T, bool]:
        """Remember all rows, and yield the items that had not come before and are kept.

        Returns:
            Whether there was a new row.
        """
        known = len(self)
        new = self._new_items(page)
        if self._keep is not None:
            new = list(filter(self._keep, new))
        if new:
            yield page.holding(tuple(new))
        return len(self) > known

    def _new_items(self, page: FetchedPage[T]) -> list[T]:
        new: list[T] = []
        for key, row in zip(page.keys, page.rows, strict=True):
            if isinstance(row, ProtocolError):
                self._unreadable.setdefault(key, row)
            elif key not in self._yielded:
                self._yielded.add(key)
                self._unreadable.pop(key, None)
                new.append(row)
        return new

    def finish(self) -> None:
        """End a list whose rows have all come.

        Raises:
            ProtocolError: Some of them cannot be read.
        """
        self.is_complete = True
        if self._unreadable:
            raise copy_exception(_first_of(list(self._unreadable.values())))

    def incomplete(self, *, counted: int, found: int) -> ProtocolError:
        """Return the error for a list that shows fewer rows than the API counts."""
        return self.error(
            f"the API counts {counted:,}, but {found:,} could be read, also when asked again",
            "What is missing may exist: list again later, and report this if it stays so.",
        )

    def error(self, problem: str, remedy: str) -> ProtocolError:
        """Return the error for a list that cannot be read on; rows that could not be read go first."""
        text = f"GET {self._path}: {problem} ({len(self._yielded):,} items were read). {remedy}"
        error = ProtocolError(text, method="GET", url_path=self._path)
        return _first_of([*self._unreadable.values(), error])


def _first_of(errors: list[ProtocolError]) -> ProtocolError:
    """Return the first error, with notes about the others."""
    for other in errors[1:_MOST_ERRORS]:
        errors[0].add_note(f"Besides: {other}")
    if len(errors) > _MOST_ERRORS:
        errors[0].add_note(f"Besides: {len(errors) - _MOST_ERRORS:,} errors more")
    return errors[0]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class WantedPage:
    """Which page a reader needs next.

    Attributes:
        position: Its offset or number.
        stride: How far it is from one page to the next.
        until: Pages before this position are worth asking for ahead.
    """

    position: int
    stride: int = 1
    until: int = 0


Reading: TypeAlias = Generator[WantedPage | Page[T], FetchedPage[T], R]
"""A run through a list, or a part of it, without input and output of its own.

Yields either the page that it needs, and is sent it, or a page of items for the user. As it never waits, it
cannot be interrupted half-way: a caller who stops waiting for a page leaves it where it was.
"""


class PageReader(Protocol[T]):
    """A way of reading a list; each object reads it once.

    Attributes:
        source: Where its pages come from.
        limit: How many rows a page may hold.
        rows: The rows that have come.
    """

    source: Source[T]
    limit: int
    rows: KnownRows[T]

    def read(self) -> Reading[T, None]:
        """Read the list.

        Raises:
            ProtocolError: All that can be read has been yielded, and that is not all.
        """
        ...


class RequestWindow(Generic[T]):
    """The requests for the page that is wanted and for those after it.

    Args:
        reader: What wants them.
    """

    def __init__(self, reader: PageReader[T]) -> None:
        self._reader = reader
        self._requests = 0
        self._ahead: deque[tuple[int, asyncio.Task[FetchedPage[T]]]] = deque()
        self._running: set[asyncio.Task[FetchedPage[T]]] = set()

    def request(self, wanted: WantedPage) -> asyncio.Task[FetchedPage[T]]:
        """Return the request for a page, made earlier or now, and make those that are worth making ahead."""
        if self._ahead and self._ahead[0][0] != wanted.position:
            self.cancel()
        if not self._ahead:
            self._send(wanted.position)
        following = self._ahead[-1][0] + wanted.stride
        while len(self._ahead) < self._reader.source.window and following < wanted.until:
            self._send(following)
            following += wanted.stride
        return self._ahead[0][1]

    def discard_first(self) -> None:
        """Forget the first request, whose page is used now."""
        self._ahead.popleft()

    def cancel(self) -> None:
        """End all requests."""
        for _, task in self._ahead:
            task.cancel()
        self._ahead.clear()

    async def aclose(self) -> None:
        """End all requests, and wait until they have let go of their connections."""
        self.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _send(self, position: int) -> None:
        source, most = self._reader.source, self._reader.source.max_requests
        self._requests += 1
        if self._requests > most:
            raise self._reader.rows.error(f"the list has no end after {most:,} requests", "Report it.")
        task = asyncio.ensure_future(source.fetch(position, self._reader.limit))
        self._running.add(task)
        task.add_done_callback(self._note_end)
        self._ahead.append((position, task))

    def _note_end(self, task: asyncio.Task[FetchedPage[T]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Otherwise asyncio reports the failure of a request whose page nobody wants any more.
            task.exception()
