"""Listings: offset pages of a list that changes meanwhile, read so that nothing is lost or repeated.

One page is a snapshot. Call a page *grounded* when it begins at offset 0 or its first row has been yielded
before. All that follows a grounded row within its page is contiguous, so nothing that lasts is skipped
between one grounded page and the next. Pages therefore overlap by one row. When a page is not grounded (rows
before it were deleted), what was prefetched is dropped and the pager steps back until it stands on known
ground again; offset 0 always is. The proof needs no order among the fetches, so pages may be prefetched; it
only needs rows that last to keep their order, as they do in this API.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import attrs

from .errors import ProtocolError
from .models import Page

T = TypeVar("T")

_FULL_OVERLAP: Final = 100
_DOUBTS: Final = 2
_PATIENCE: Final = 50
_MAX_PAGES: Final = 100_000


@attrs.frozen(kw_only=True)
class Source(Generic[T]):
    """Where a listing comes from.

    Attributes:
        fetch: Asks for one page by offset and limit.
        key: The id of an item.
        path: For error messages.
        window: How many pages may be asked for ahead.
        max_pages: Where a listing that never ends is given up.
    """

    fetch: Callable[[int, int], Awaitable[Page[T]]]
    key: Callable[[T], str]
    path: str
    window: int
    max_pages: int = _MAX_PAGES


class AsyncPager(Generic[T]):
    """A listing, read page by page as it is iterated. Each iteration is a new listing.

    ``async for item in pager`` yields each item once; ``pager.pages()`` yields the same items as
    :class:`Page` objects. *Every item that is there from the first request to the last is yielded exactly
    once, whatever is created or deleted meanwhile*; items that come or go during the listing may or may not
    appear. It rests on the order of the list: an item that moves within it while it is read may be missed.
    Nothing is requested before the first item is wanted, and no second page before a second page is.

    A server that cannot be paged (it ignores ``offset``, gives one row a page, never ends, or changes its
    list faster than it can be read) ends the iteration with a :class:`~primepods.ProtocolError`.

    Leaving the loop early leaks nothing; ``async with pager:`` makes it prompt.
    """

    def __init__(self, source: Source[T], page_size: int) -> None:
        self._source = source
        self._page_size = page_size
        self._open: weakref.WeakSet[AsyncGenerator[Any, None]] = weakref.WeakSet()
        self._kept: list[AsyncGenerator[Any, None]] | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        return self._track(self._items())

    def pages(self) -> AsyncIterator[Page[T]]:
        """Return an iterator over the same items page by page; the pages' sizes vary."""
        return self._track(_Listing(self._source, self._page_size).pages())

    async def aclose(self) -> None:
        """End all iterations of this pager and free their requests."""
        for iterator in list(self._open):
            await iterator.aclose()

    async def __aenter__(self) -> Self:
        # A loop that is left lets go of its iterator; kept, it can be closed at the end of the block.
        self._kept = list(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
        self._kept = None

    def __repr__(self) -> str:
        return f"<AsyncPager of {self._source.path}, page_size={self._page_size}>"

    def _track(self, iterator: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        self._open.add(iterator)
        if self._kept is not None:
            self._kept.append(iterator)
        return iterator

    async def _items(self) -> AsyncGenerator[T, None]:
        async with aclosing(_Listing(self._source, self._page_size).pages()) as pages:
            async for page in pages:
                for item in page:
                    yield item


class _Listing(Generic[T]):
    """One run through a listing."""

    def __init__(self, source: Source[T], page_size: int) -> None:
        self._source = source
        # The overlap row rides along; from 100 on, one row in a hundred is cheaper than a larger page.
        self._limit = page_size if page_size >= _FULL_OVERLAP else page_size + 1
        self._seen: set[str] = set()
        self._ahead: deque[tuple[int, asyncio.Task[Page[T]]]] = deque()
        self._last_keys: list[str] = []
        self._total: int | None = None
        self._longest = 0
        self._requests = 0
        self._barren = 0
        self._searching = False

    async def pages(self) -> AsyncGenerator[Page[T], None]:
        """Yield pages of items not yielded before, until a grounded page reaches the end of the list."""
        offset, doubts = 0, 0
        try:
            while True:
                offset, page = await self._grounded(offset)
                following = self._following(offset, page)
                fresh = self._fresh(page)
                if fresh.data:
                    yield fresh
                doubts = doubts + 1 if following == offset else 0
                self._searching = doubts > 0
                if following is None or doubts > _DOUBTS:
                    await self._refuse_single_rows()
                    return
                offset = following
        finally:
            await self._drop()

    async def _grounded(self, offset: int) -> tuple[int, Page[T]]:
        """Return a page at ``offset``, or as far before it as it takes to stand on known ground."""
        step, empty_at = 1, -1
        while True:
            page = await self._page(offset)
            keys = self._keys(page)
            if not keys and empty_at != offset:
                # A replica that lost its rows answers like this: an empty page is believed when said twice.
                empty_at = offset
                continue
            if offset and len(keys) > 1 and keys == self._last_keys:
                page = await self._check_offset_counts(offset, keys)
                keys = self._keys(page)
            if offset == 0 or (keys and keys[0] in self._seen):
                self._searching, self._last_keys = False, keys
                return offset, page
            fall = (self._total or 0) - (page.total_count or 0)
            step = max(step, fall)
            offset, step = max(0, offset - step), step * 2
            self._searching = True
            self._count_barren()

    def _following(self, offset: int, page: Page[T]) -> int | None:
        """Return the offset of the next page, which repeats this one's last row; ``None`` at the end."""
        end = offset + len(page)
        self._total = page.total_count
        self._longest = max(self._longest, len(page))
        # Behind a page that is full there may be more, whatever the count says; behind a shorter one there is
        # not, unless the server caps its pages and counts wrong.
        if page.total_count == end and len(page) < self._limit:
            return None
        claims_more = page.total_count is not None and page.total_count > end
        if len(page) > 1:
            return end - 1
        return offset if claims_more else None

    async def _refuse_single_rows(self) -> None:
        """Believe that the list ends where no page shows more, but not if no page can show two rows.

        Raises:
            ProtocolError: The server gives one row a page: there is no overlap to stand on.
        """
        if self._longest != 1 or self._total == 1:
            return
        # Proof that no change of the list explains: a row is second before and after a first page without it.
        second = self._keys(await self._page(1))[:1]
        if not second:
            return
        first = self._keys(await self._page(0))
        if len(first) == 1 and first != second == self._keys(await self._page(1))[:1]:
            raise self._error("no page holds more than one row", "Report it.")

    def _fresh(self, page: Page[T]) -> Page[T]:
        """Return what of a grounded page has not been yielded, and remember it."""
        fresh: dict[str, T] = {}
        for item in page:
            key = self._source.key(item)
            if key not in self._seen:
                fresh[key] = item
        self._seen.update(fresh)
        if fresh:
            self._barren = 0
        else:
            self._count_barren()
        return attrs.evolve(page, data=tuple(fresh.values()))

    async def _page(self, offset: int) -> Page[T]:
        """Return the page at ``offset``, prefetched or asked for now; keep the window full behind it."""
        if self._ahead and self._ahead[0][0] != offset:
            await self._drop()
        if not self._ahead:
            self._send(offset)
        task = self._ahead[0][1]
        self._prefetch(offset)
        try:
            return await task
        finally:
            if self._ahead and self._ahead[0][1] is task:
                self._ahead.popleft()

    def _prefetch(self, offset: int) -> None:
        """Ask for the pages after ``offset``, as far as the list is known to go and the window allows."""
        if offset == 0 or self._searching or self._total is None or self._longest <= 1:
            return
        following = self._ahead[-1][0] + self._longest - 1
        while len(self._ahead) < self._source.window and following < self._total - 1:
            self._send(following)
            following += self._longest - 1

    def _send(self, offset: int) -> None:
        self._requests += 1
        if self._requests > self._source.max_pages:
            raise self._error(f"the list has no end after {self._source.max_pages:,} pages", "Report it.")
        task = asyncio.ensure_future(self._source.fetch(offset, self._limit))
        # Whoever drops a page does not care how it would have failed.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._ahead.append((offset, task))

    async def _drop(self) -> None:
        """Cancel what was prefetched and wait until it has let go of its connection."""
        tasks = [task for _, task in self._ahead]
        self._ahead.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _check_offset_counts(self, offset: int, keys: list[str]) -> Page[T]:
        """Tell a list that shifted by a whole page from a server that ignores ``offset``.

        Returns:
            The page at ``offset``, asked for again.
        """
        await self._drop()
        first = await self._page(0)
        again = await self._page(offset)
        if self._keys(first) == self._keys(again) == keys:
            raise self._error(
                f"the pages at offset 0 and {offset} are the same: the server ignores `offset`",
                "Check the base URL; a cache or gateway may drop the query.",
            )
        return again

    def _count_barren(self) -> None:
        self._barren += 1
        # Walking back over known ground brings nothing new either, and is as long as what was read.
        if self._barren > _PATIENCE + 4 * len(self._seen) // max(1, self._longest - 1):
            raise self._error(
                f"{self._barren} pages in a row brought nothing new: the list changes faster than it is read",
                "Use a larger page_size.",
            )

    def _keys(self, page: Page[T]) -> list[str]:
        return [self._source.key(item) for item in page]

    def _error(self, what: str, remedy: str) -> ProtocolError:
        text = f"GET {self._source.path}: {what} ({len(self._seen):,} items were read). {remedy}"
        return ProtocolError(text, method="GET", url_path=self._source.path)
