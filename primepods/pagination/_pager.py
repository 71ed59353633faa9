"""The pager and its iterators."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from .._utils.exceptions import copy_exception
from .._utils.iterators import ClosableAsyncIterator
from ..errors import ClientClosedError, PrimePodsError, ProtocolError
from ..models import Page
from ._reader import FetchedPage, PageReader, RequestWindow, WantedPage

T = TypeVar("T")


class AsyncPager(Generic[T]):
    """A list, read page by page as it is iterated. Each iteration reads it again.

    ``async for item in pager`` yields each item once; ``pager.pages()`` yields the items in
    :class:`Page` objects. The first page is requested when the first item is wanted. Later pages may be
    requested ahead.

    *An iteration that ends normally is complete*: it has as many items as the API counts, or reading the list
    again has found no others; without a count, it ends at an empty page, or after a page that shows only the
    last known item. If the items keep their order, every item that exists from the first request to
    the last is yielded exactly once, whatever is created or deleted meanwhile. Items that are created or
    deleted during the iteration may or may not appear. Availability lists are read by page number: an item
    that moves to another page meanwhile may be missed.

    If rows are still missing after that, or cannot be read, the iteration yields all other items and then
    raises a :class:`~primepods.ProtocolError`. It also raises this error if the list cannot be paged, for
    example because the server ignores the offset.

    A timeout around the next item loses nothing: the iterator continues where it was. After an error, it
    raises that error again. Leaving the loop early leaks nothing; ``async with pager:`` makes the cleanup
    immediate.

    Args:
        open_reader: Returns a new reader of the list.
        path: Path of the list, for the ``repr``.
        page_size: Items per request, for the ``repr``.
    """

    def __init__(self, open_reader: Callable[[], PageReader[T]], *, path: str, page_size: int) -> None:
        self._open_reader = open_reader
        self._path = path
        self._page_size = page_size
        self._open_iterators: weakref.WeakSet[_PageIterator[T] | _ItemIterator[T]] = weakref.WeakSet()
        self._kept_alive: list[_PageIterator[T] | _ItemIterator[T]] | None = None

    def __aiter__(self) -> ClosableAsyncIterator[T]:
        iterator = _ItemIterator(_PageIterator(self._open_reader()))
        self._track(iterator)
        return iterator

    def pages(self) -> ClosableAsyncIterator[Page[T]]:
        """Return an iterator over the same items, page by page; the size of the pages varies."""
        iterator = _PageIterator(self._open_reader())
        self._track(iterator)
        return iterator

    async def collect(self) -> tuple[list[T], PrimePodsError | None]:
        """Read all pages; return the items, and the error if not all could be read.

        ``[item async for item in pager]`` raises the error instead.

        Returns:
            The items that could be read, and the error; ``None`` if the items are complete.
        """
        return await self._collect(self._open_reader())

    async def find(self, predicate: Callable[[T], bool]) -> tuple[list[T], ProtocolError | None]:
        """Return the items for which ``predicate`` holds, even if other rows cannot be read.

        Args:
            predicate: Returns whether an item is wanted.

        Returns:
            The items, and the error about unreadable rows, if any. Such a row may be a wanted item.

        Raises:
            PrimePodsError: The list could not be read to the end.
        """
        reader = self._open_reader()
        items, error = await self._collect(reader)
        if error is not None and not (isinstance(error, ProtocolError) and reader.rows.is_complete):
            raise error
        return [item for item in items if predicate(item)], error

    async def _collect(self, reader: PageReader[T]) -> tuple[list[T], PrimePodsError | None]:
        items: list[T] = []
        pages = _PageIterator(reader)
        self._track(pages)
        try:
            async for page in pages:
                items += page.data
        except PrimePodsError as exc:
            # Drop the frames of the error: this frame would make a reference cycle with it.
            return items, exc.with_traceback(None)
        finally:
            await pages.aclose()
        return items, None

    async def aclose(self) -> None:
        """End all iterations of this pager and cancel their requests.

        An unfinished iteration then raises :class:`~primepods.ClientClosedError`, even in a task that is
        waiting for the next item.
        """
        for iterator in list(self._open_iterators):
            await iterator.aclose()

    async def __aenter__(self) -> Self:
        # A loop that ends early drops its iterator; keep it, so that the end of the block can close it.
        self._kept_alive = list(self._open_iterators)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
        self._kept_alive = None

    def __repr__(self) -> str:
        return f"<AsyncPager of {self._path}, page_size={self._page_size}>"

    def _track(self, iterator: _PageIterator[T] | _ItemIterator[T]) -> None:
        self._open_iterators.add(iterator)
        if self._kept_alive is not None:
            self._kept_alive.append(iterator)


class _PageIterator(Generic[T]):
    """Iterator of pages. Cancelling a caller that waits for a page loses nothing.

    The requests run in tasks without a reference to the iterator. So the garbage collector can free an
    abandoned iterator, which then cancels the requests.
    """

    def __init__(self, reader: PageReader[T]) -> None:
        self._path = reader.source.path
        self._reading = reader.read()
        self._window = RequestWindow(reader)
        self._wanted: WantedPage | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._final_error: BaseException | None = None
        """The exception with which the iteration ended."""
        self._traceback: TracebackType | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page[T]:
        try:
            self._loop = asyncio.get_running_loop()
            while True:
                if self._final_error is not None:
                    # A copy: the exception kept here must not keep the caller's frames alive.
                    raise copy_exception(self._final_error).with_traceback(self._traceback)
                step = self._advance()
                if isinstance(step, Page):
                    return step
                if step is None:
                    # The iteration has ended: the next turn of the loop raises.
                    await self._window.aclose()
                else:
                    # If this is cancelled, the request is not. With `await step`, it would be.
                    await asyncio.wait([step])
        finally:
            # The frames of a raised exception must not keep the iterator and its requests alive.
            del self

    def _advance(self) -> Page[T] | asyncio.Task[FetchedPage[T]] | None:
        """Return the next page, or a request to wait for; ``None`` if ``_final_error`` is set."""
        try:
            while True:
                step = self._step()
                if not isinstance(step, WantedPage):
                    return step
                self._wanted = step
        except StopIteration:
            self._final_error = StopAsyncIteration()
        except Exception as exc:  # noqa: BLE001 - kept, and raised by __anext__ from now on
            # An API error's frames would keep the response alive; a defect needs them for its report.
            self._traceback = None if isinstance(exc, PrimePodsError) else exc.__traceback__
            self._final_error = exc.with_traceback(None)
        return None

    def _step(self) -> WantedPage | Page[T] | asyncio.Task[FetchedPage[T]]:
        """Return the reader's next step, or the request that the reader waits for."""
        if self._wanted is None:
            return next(self._reading)
        request = self._window.request(self._wanted)
        if not request.done():
            return request
        self._window.discard_first()
        if request.cancelled():
            # Other code has cancelled the request, but not this iteration: send it again.
            return self._wanted
        fetched = request.result()
        self._wanted = None
        return self._reading.send(fetched)

    async def aclose(self) -> None:
        """End the iteration and its requests; an iteration that has ended or failed keeps its outcome."""
        if self._final_error is None:
            text = f"GET {self._path}: the iteration was closed before its end. Iterate over the pager again."
            self._final_error = ClientClosedError(text)
        await self._window.aclose()

    def __del__(self) -> None:
        # The garbage collector may call this in any thread.
        if self._loop is not None and self._final_error is None:
            with suppress(RuntimeError):  # the loop is closed, and has ended all tasks
                self._loop.call_soon_threadsafe(self._window.cancel)


class _ItemIterator(Generic[T]):
    """Iterator of the pages' items."""

    def __init__(self, pages: _PageIterator[T]) -> None:
        self._pages = pages
        self._items: deque[T] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        items = self._items
        if items:
            return items.popleft()
        try:
            while not items:
                items.extend(await self._pages.__anext__())
            return items.popleft()
        finally:
            # See _PageIterator.
            del self

    async def aclose(self) -> None:
        self._items.clear()
        await self._pages.aclose()
