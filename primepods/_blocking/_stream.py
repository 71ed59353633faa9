"""Blocking iterators over the async iterators of pagers and watches."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, TypeVar

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
    """A blocking iterator over an asynchronous iterator. An interrupted ``next`` loses no item."""

    def __init__(self, portal: Portal, source: Any, *, flatten: bool) -> None:
        self._portal = portal
        self._loop = portal.loop()
        self._source = source
        self._flatten = flatten
        self._items: deque[T] = deque()

    def __next__(self) -> T:
        while True:
            # Do not test `self._items` first: another thread may take the last item in between.
            with suppress(IndexError):
                return self._items.popleft()
            if not self._portal.run(BlockingCall(self._pull), self._loop):
                raise StopIteration

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
                self._portal.run(BlockingCall(self._source.aclose), self._loop)
