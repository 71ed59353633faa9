"""A list that changes while it is read, and the servers in front of it, good and bad."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs

from primepods import AsyncPager, ProtocolError
from primepods.pagination import FetchedPage, Source, offset_pager

Fetch = Callable[[int, int], Awaitable[FetchedPage[str]]]


def pager(
    fetch: Fetch, page_size: int = 100, *, window: int = 16, max_requests: int = 100_000
) -> AsyncPager[str]:
    """A pager of ids over a function that stands for the server."""
    return offset_pager(
        Source(fetch=fetch, path="/list", window=window, max_requests=max_requests), page_size
    )


def fetched(
    rows: Sequence[str],
    *,
    total_count: int | None,
    offset: int,
    limit: int,
    unreadable: frozenset[str] = frozenset(),
) -> FetchedPage[str]:
    """A page of ids, some of which stand for rows that cannot be read."""
    readable = [row if row not in unreadable else unreadable_row(row) for row in rows]
    return FetchedPage(total_count=total_count, offset=offset, limit=limit, rows=readable, keys=rows)


def unreadable_row(row: str) -> ProtocolError:
    """The error in place of a row."""
    return ProtocolError(f"{row} cannot be read", method="GET", url_path="/list", path=row)


def names(count: int) -> list[str]:
    """The rows of a list."""
    return [f"row-{n:05d}" for n in range(count)]


@attrs.frozen
class Change:
    """Some rows that come or go, at a place that is a share of the list."""

    at: float
    rows: int
    """Negative: deleted."""


@attrs.define
class Api:
    """A list and the server in front of it.

    Attributes:
        rows: The list as it is now.
        changes: What happens to it, one entry before a page is taken; None for nothing.
        cap: Rows in a page at most.
        echoes_cap: Whether answers name the cap as their limit.
        counts: Whether answers have a total_count.
        delays: Turns of the loop that pass before and after a page is taken, in circles.
        unreadable: Rows that cannot be read.
    """

    rows: list[str]
    changes: list[Change | None] = attrs.field(factory=list)
    cap: int = 1_000
    echoes_cap: bool = True
    counts: bool = True
    delays: Sequence[int] = (0,)
    unreadable: frozenset[str] = frozenset()
    asked: list[tuple[int, int]] = attrs.field(factory=list)
    deleted: set[str] = attrs.field(factory=set)
    created: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

    @classmethod
    def of(cls, count: int, **more: object) -> Api:
        """A list of so many rows."""
        return cls(names(count), **more)  # type: ignore[arg-type]  # passed on as they are

    async def fetch(self, offset: int, limit: int) -> FetchedPage[str]:
        """Answer with one page, after the next change."""
        self.asked.append((offset, limit))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        delay = self.delays[len(self.asked) % len(self.delays)]
        try:
            for _ in range(delay):
                await asyncio.sleep(0)
            self.change()
            page = self.page(self.rows, offset, limit)
            for _ in range(delay):
                await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        return page

    def page(self, rows: list[str], offset: int, limit: int) -> FetchedPage[str]:
        """A page of some state of the list."""
        return fetched(
            rows[offset : offset + min(limit, self.cap)],
            total_count=len(rows) if self.counts else None,
            offset=offset,
            limit=min(limit, self.cap) if self.echoes_cap else limit,
            unreadable=self.unreadable,
        )

    def change(self) -> None:
        """Let the next change happen."""
        change = self.changes.pop(0) if self.changes else None
        if change is None:
            return
        place = min(int(change.at * len(self.rows)), len(self.rows))
        if change.rows < 0:
            self.deleted.update(self.rows[place : place - change.rows])
            del self.rows[place : place - change.rows]
        else:
            new = [f"new-{self.created + n:05d}" for n in range(change.rows)]
            self.created += change.rows
            self.rows[place:place] = new


async def read(source: AsyncPager[str]) -> list[str]:
    """All that a pager yields."""
    return [row async for row in source]


async def read_until_error(source: AsyncPager[str]) -> tuple[list[str], ProtocolError | None]:
    """All that a pager yields, and the error that it ends with, if any."""
    found: list[str] = []
    try:
        async for row in source:
            found.append(row)
    except ProtocolError as error:
        return found, error
    return found, None
