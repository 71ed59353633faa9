"""Blocking iterators over the async iterators of pagers, watches and jobs."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Self, TypeVar

from ..errors import ClientClosedError
from ._call import BlockingCall
from ._portal import Portal

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
