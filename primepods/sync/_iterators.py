"""Blocking iterators of lists and watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Self, TypeVar

from .._utils.iterators import ClosableIterator
from .._utils.text import blocking_repr
from ..errors import PrimePodsError, ProtocolError
from ..models import Page, PodChange
from ..pagination import AsyncPager
from ..waiting.watch import AsyncWatch
from ._portal import Portal
from ._stream import Streams

T = TypeVar("T")


class _Iterated:
    """Base class of blocking counterparts of what is iterated over."""

    def __init__(self, portal: Portal, wrapped: object) -> None:
        self._portal = portal
        self._wrapped = wrapped
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
        return blocking_repr(self._wrapped)


class Pager(_Iterated, Generic[T]):
    """A list, read page by page as it is iterated. Each iteration reads it again.

    ``for item in pager`` yields each item once; ``pager.pages()`` yields the items in :class:`Page`
    objects. As with :class:`~primepods.AsyncPager`, an iteration that ends normally is complete.
    After Ctrl-C, ``next()`` on the same iterator continues where it was; after an error, it raises the same
    error again. Leaving the loop early leaks nothing; ``with pager:`` makes the cleanup immediate.
    """

    def __init__(self, portal: Portal, pager: AsyncPager[T]) -> None:
        super().__init__(portal, pager)
        self._pager = pager

    def __iter__(self) -> ClosableIterator[T]:
        return self._streams.iterate(self._pager.pages(), flatten=True)

    def pages(self) -> ClosableIterator[Page[T]]:
        """Return an iterator over the same items, page by page; the size of the pages varies."""
        return self._streams.iterate(self._pager.pages())

    def collect(self) -> tuple[list[T], PrimePodsError | None]:
        """Read all pages; return the items, and the error if not all could be read.

        ``list(pager)`` raises the error instead.

        Returns:
            The items that could be read, and the error; ``None`` if the items are complete.
        """
        return self._portal.call(self._pager.collect)

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
        items, error = self._portal.call(self._pager.find, lambda _: True)
        return [item for item in items if predicate(item)], error


class Watch(_Iterated):
    """The changes of pods as they happen: ``for change in client.pods.watch(ids)``.

    Yields a :class:`PodChange` for the first state of every pod, then for its changes. A slow consumer gets
    only the newest states. The watch ends when all pods are gone, or have not appeared for a minute. Each
    ``for`` loop is a new watch. After Ctrl-C, ``next()`` on the same iterator continues where it was. Leaving
    the loop early leaks nothing; ``with`` makes the cleanup immediate.
    """

    def __init__(self, portal: Portal, watch: AsyncWatch) -> None:
        super().__init__(portal, watch)
        self._watch = watch

    def __iter__(self) -> ClosableIterator[PodChange]:
        return self._streams.iterate(aiter(self._watch))
