"""Lists with unreadable rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

import primepods

T = TypeVar("T")


@contextmanager
def readable_rows(items: Iterable[T]) -> Generator[list[T]]:
    """Yield the readable rows of a pager; raise the error about the others after the block.

    If no row is readable, raise the error before the block.
    """
    found: list[T] = []
    error: primepods.ProtocolError | None = None
    try:
        for item in items:
            found.append(item)  # noqa: PERF402 - `extend` would lose the items before an error
    except primepods.ProtocolError as exc:
        if not found:
            raise
        error = exc
    yield found
    if error is not None:
        raise error
