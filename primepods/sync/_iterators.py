"""Blocking iterators over the async iterators of pagers, watches, pools and jobs."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

from .._utils.iterators import ClosableIterator
from .._utils.text import blocking_repr
from ..errors import ClientClosedError, PrimePodsError, ProtocolError
from ..models import Page, PodChange
from ..pagination import AsyncPager
from ..waiting.watch import AsyncWatch
from ._call import BlockingCall
from ._delegate import Delegate
from ._portal import Portal

A = TypeVar("A")
T = TypeVar("T")


class Streams:
    """The active iterations of a pager or a watch, in all threads."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._open: weakref.WeakValueDictionary[int, Stream[Any]] = weakref.WeakValueDictionary()

    def iterate(self, source: AsyncIterator[Any], *, flatten: bool = False) -> Stream[Any]:
        """Return an iterator over the items of ``source`` or, with ``flatten``, of its batches."""
        stream = Stream[Any](self._portal, source, flatten=flatten)
        self._open[id(stream)] = stream
        return stream

    def close(self) -> None:
        """Close all iterations, including those that wait for an item in another thread."""
        for ref in self._open.valuerefs():
            stream = ref()
            if stream is not None:
                stream.close()


class Stream(Iterator[T]):
    """A blocking iterator over an asynchronous iterator. An interrupted ``next`` loses no item.

    Threads can share it: each item goes to one of them.
    """

    def __init__(self, portal: Portal, source: Any, *, flatten: bool) -> None:
        self._portal = portal
        self._loop = portal.loop()
        self._source = source
        self._flatten = flatten
        self._items: deque[T] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        has_ended = False
        while True:
            # Do not test `self._items` first: another thread may take the last item in between.
            with suppress(IndexError):
                return self._items.popleft()
            if has_ended:
                raise StopIteration
            has_ended = not self._run(self._pull)

    def _run(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self._portal.run(BlockingCall(function), self._loop)

    async def _pull(self) -> bool:
        """Store the next item or batch; return ``False`` at the end."""
        try:
            item = await anext(self._source)
        except StopAsyncIteration:
            return False
        self._items.extend(item if self._flatten else (item,))
        return True

    def close(self) -> None:
        """Close the iterator and cancel its requests, even while another thread waits for an item."""
        self._items.clear()
        if not self._loop.is_inherited:
            with suppress(ClientClosedError):
                self._run(self._source.aclose)


class _Iterated(Delegate[A]):
    """Base class of blocking counterparts of what is iterated over."""

    def __init__(self, portal: Portal, wrapped: A) -> None:
        super().__init__(portal, wrapped)
        self._streams = Streams(portal)

    def close(self) -> None:
        """End all iterations, and cancel their requests.

        Unfinished iterations raise :class:`~primepods.ClientClosedError` from then on, also in a thread that
        is waiting for the next item.
        """
        self._streams.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return blocking_repr(self._async)


class Pager(_Iterated[AsyncPager[T]], Generic[T]):
    """A list, read page by page as it is iterated. Each iteration reads it again.

    ``for item in pager`` yields each item once; ``pager.pages()`` yields the items in :class:`Page`
    objects. As with :class:`~primepods.AsyncPager`, an iteration that ends normally is complete.
    After Ctrl-C, ``next()`` on the same iterator continues where it was; after an error, it raises the same
    error again. Leaving the loop early leaks nothing; ``with pager:`` makes the cleanup immediate.
    """

    def __iter__(self) -> ClosableIterator[T]:
        return self._streams.iterate(self._async.pages(), flatten=True)

    def pages(self) -> ClosableIterator[Page[T]]:
        """Return an iterator over the same items, page by page; the size of the pages varies."""
        return self._streams.iterate(self._async.pages())

    def collect(self) -> tuple[list[T], PrimePodsError | None]:
        """Read all pages; return the items, and the error if not all could be read.

        ``list(pager)`` raises the error instead.

        Returns:
            The items that could be read, and the error; ``None`` if the items are complete.
        """
        return self._portal.call(self._async.collect)

    def find(self, predicate: Callable[[T], bool]) -> tuple[list[T], ProtocolError | None]:
        """Return the items for which ``predicate`` holds, even if other rows cannot be read.

        Args:
            predicate: Returns whether an item is wanted.

        Returns:
            The items, and the error about unreadable rows, if any. Such a row may be a wanted item.

        Raises:
            PrimePodsError: The list could not be read to the end.
        """
        # Fetch all items: `predicate` runs in the calling thread, since it may call the client.
        items, error = self._portal.call(self._async.find, lambda _: True)
        return [item for item in items if predicate(item)], error


class Watch(_Iterated[AsyncWatch]):
    """The changes of pods as they happen: ``for change in client.pods.watch(ids)``.

    Yields a :class:`PodChange` for the first state of every pod, then for its changes. A slow consumer gets
    only the newest states. The watch ends when all pods are gone, or have not appeared for a minute. Each
    ``for`` loop is a new watch. After Ctrl-C, ``next()`` on the same iterator continues where it was. Leaving
    the loop early leaks nothing; ``with`` makes the cleanup immediate.
    """

    def __iter__(self) -> ClosableIterator[PodChange]:
        return self._streams.iterate(aiter(self._async))
