"""Types of iterators that can be closed, for `contextlib.aclosing` and `contextlib.closing`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)


class ClosableAsyncIterator(Protocol[T_co]):
    """An asynchronous iterator with ``aclose()``."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    async def __anext__(self) -> T_co: ...

    async def aclose(self) -> None:
        """End the iteration and its requests."""
        ...


class ClosableIterator(Protocol[T_co]):
    """An iterator with ``close()``."""

    def __iter__(self) -> Iterator[T_co]: ...

    def __next__(self) -> T_co: ...

    def close(self) -> None:
        """End the iteration and its requests."""
        ...
