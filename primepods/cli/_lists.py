"""Reader of lists that keeps the readable rows if there is an error."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

import primepods

T = TypeVar("T")


@contextmanager
def read_all(items: Iterable[T]) -> Generator[list[T]]:
    """Yield all items of a pager; raise the error that ended it after the block.

    Pagers continue past unreadable rows: such a row must not hide the others here, either.
    """
    found: list[T] = []
    error: primepods.ProtocolError | None = None
    try:
        for item in items:
            found.append(item)  # noqa: PERF402 - what came before an error is kept
    except primepods.ProtocolError as exc:
        if not found:
            raise
        error = exc
    yield found
    if error is not None:
        raise error
