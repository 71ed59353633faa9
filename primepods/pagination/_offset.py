"""Lists paginated by offset, which may change while they are read.

A page is a snapshot of contiguous rows. It is *anchored* if it begins at offset 0, or with a row that is
already known. If all pages so far are anchored, no row that stayed in the list was skipped. So pages are
requested with an overlap of one row. If a page is not anchored, rows before it have probably been deleted.
The reader then steps back until a page is anchored, at the latest at offset 0.

The order of the responses does not matter, so pages may be requested ahead. The order of the rows is assumed
to be stable, except that a record of the history moves when its pod ends. A row that moves can be missed. So
the reader compares the number of rows with the server's count, and reads the list again if rows are missing.
It cannot notice a missed row if a known row is deleted in the same read.

The *end* of a page is its offset plus its number of rows. More rows may follow a full page. The end of any
other page counts as the end of the list after this number of responses:

- one (two for an empty list), if no count is higher than the end;
- three in a row, if only an earlier count is higher;
- three, if the count of this page is higher; the read then fails.

If fewer rows are known than were counted, the list is then read again, at most three times, until no rows are
missing or a read finds nothing new.

Some guards are against servers that misbehave. Empty pages from a replica that lost its rows were reported of
the API's availability endpoint; an ignored ``offset``, pages of one row, and too high counts are imagined.
The numbers below are chosen.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import attrs

from ._pager import AsyncPager
from ._reader import FetchedPage, KnownRows, Reading, Source, WantedPage

T = TypeVar("T")

_LARGE_PAGE_SIZE: Final = 100
"""Smaller pages get one more row for the overlap. In larger pages, the overlap costs at most 1 %."""
_END_CONFIRMATIONS: Final = 3
"""Responses that must agree that the list ends below a count, or that a page after the first is empty."""
_EMPTY_CONFIRMATIONS: Final = 2
"""Responses without rows that confirm that the list is empty."""
_MAX_REREADS: Final = 3
"""Max times that a list with missing rows is read again."""
_MAX_PAGES_WITHOUT_PROGRESS: Final = 50
"""Max consecutive pages without a new row, if few rows are known."""
_MAX_REVISITS_PER_PAGE: Final = 4
"""Additional pages without a new row, per page of known rows: steps back read pages again."""


def offset_pager(source: Source[T], page_size: int) -> AsyncPager[T]:
    """Return a pager of a list that is requested by ``offset`` and ``limit``."""
    return AsyncPager(lambda: OffsetReader(source, page_size), path=source.path, page_size=page_size)


@attrs.frozen(eq=False, repr=False)
class _AnchoredPage(Generic[T]):
    """An anchored page, and the offset at which it was requested."""

    offset: int
    page: FetchedPage[T]


@attrs.frozen(eq=False, repr=False)
class _Reread:
    """A repeated read of the list, because rows are missing.

    Attributes:
        number: Its number, from 1.
        known_before: Number of known rows when it began.
        counted_before: The server's count when it began.
    """

    number: int
    known_before: int
    counted_before: int


class OffsetReader(Generic[T]):
    """One read of a list by offset.

    Args:
        page_size: Rows per request; below 100, one more is requested for the overlap.
    """

    def __init__(self, source: Source[T], page_size: int) -> None:
        self.source = source
        self.limit = page_size if page_size >= _LARGE_PAGE_SIZE else page_size + 1
        self.rows: KnownRows[T] = KnownRows(source)
        self._last: _AnchoredPage[T] | None = None
        self._longest_page = 0
        """Number of rows of the longest page."""
        self._highest_count = 0
        """The highest count that the server has stated and not corrected."""
        self._contradictions = 0
        """Responses since the last new row or reread that ended the list below the server's count."""
        self._confirmations = 0
        """Consecutive responses that showed the end of the list, with a count that agrees."""
        self._pages_without_progress = 0
        self._is_searching = False
        """Whether the offset of the next page is unknown, so that requests ahead would be useless."""
        self._reread: _Reread | None = None

    def read(self) -> Reading[T, None]:
        next_offset: int | None = 0
        while next_offset is not None:
            anchored = yield from self._read_anchored(next_offset)
            is_new = yield from self.rows.add(anchored.page)
            self._last = anchored
            self._longest_page = max(self._longest_page, len(anchored.page.rows))
            if is_new:
                self._pages_without_progress = self._contradictions = self._confirmations = 0
            else:
                self._count_page_without_progress()
            next_offset = yield from self._choose_next(anchored)
        self.rows.finish()

    def _read_anchored(self, offset: int) -> Reading[T, _AnchoredPage[T]]:
        """Return the page at ``offset`` if it is anchored, else an anchored page before it."""
        step = 1
        while True:
            page = yield from self._read_verified(offset)
            if offset == 0 or (page.rows and page.keys[0] in self.rows):
                return _AnchoredPage(offset, page)
            # Step back by as many rows as the count has fallen, and at least twice as far as before.
            count_before = (self._last.page.total_count or 0) if self._last else 0
            deleted = count_before - (page.total_count or 0)
            step = max(step, deleted)
            offset = max(0, offset - step)
            step *= 2
            self._is_searching = True
            self._confirmations = 0
            self._count_page_without_progress()

    def _read_verified(self, offset: int) -> Reading[T, FetchedPage[T]]:
        """Return the page at an offset; request it again if it is empty or the same as the last page.

        Raises:
            ProtocolError: The server ignores ``offset``.
        """
        page = yield from self._fetch(offset)
        # An empty page may come from a replica that lags or has lost its rows.
        for _ in range(_END_CONFIRMATIONS - 1):
            if offset == 0 or page.rows:
                break
            if self._counted(page) > offset:
                # The server counts more rows: discard earlier confirmations.
                self._confirmations = 0
            page = yield from self._fetch(offset)
        if self._last is None or offset in {0, self._last.offset}:
            return page
        if len(page.rows) <= 1 or page.keys != self._last.page.keys:
            return page
        # Either the list has shifted by a whole page, or the server ignores `offset`.
        first = yield from self._fetch(0)
        again = yield from self._fetch(offset)
        if first.keys == again.keys == page.keys:
            raise self.rows.error(
                f"the pages at offset 0 and {offset} are the same, so the server ignores `offset`",
                "Check the base URL; a cache or gateway may drop the query.",
            )
        return again

    def _choose_next(self, anchored: _AnchoredPage[T]) -> Reading[T, int | None]:
        """Return the offset to request after an anchored page; ``None`` at the end of the list.

        Raises:
            ProtocolError: The list is incomplete, or its pages cannot overlap.
        """
        page = anchored.page
        end = anchored.offset + len(page.rows)
        if self._reread is not None and len(self.rows) >= self._highest_count:
            # No rows are missing: the repeated read need not go on.
            return None
        if self._may_be_followed(page, end):
            self._is_searching = False
            self._confirmations = 0
            return end - 1
        if not self._confirm_end(page, end):
            self._is_searching = True
            return anchored.offset
        if self._longest_page == 1:
            yield from self._check_pages_can_overlap(page)
        if self._counted(page) > end:
            raise self.rows.incomplete_error(counted=self._counted(page), found=end)
        self._highest_count = self._counted(page)
        return 0 if self._begin_reread_if_needed() else None

    def _may_be_followed(self, page: FetchedPage[T], end: int) -> bool:
        """Return whether more rows may follow a page.

        More rows may follow a full page, whatever the count says. A shorter page is the last if the count
        agrees. After a page of one row, this returns false, since the overlap would make the next offset the
        same.
        """
        is_full = len(page.rows) >= min(self.limit, page.limit)
        return len(page.rows) > 1 and (is_full or page.total_count != end)

    def _confirm_end(self, page: FetchedPage[T], end: int) -> bool:
        """Count a response that shows the end of the list; return whether enough responses agree on it."""
        if self._counted(page) > end:
            self._contradictions += 1
            self._confirmations = 0
            return self._contradictions >= _END_CONFIRMATIONS
        self._confirmations += 1
        if self._highest_count > end:
            return self._confirmations >= _END_CONFIRMATIONS
        return bool(page.rows) or self._confirmations >= _EMPTY_CONFIRMATIONS

    def _counted(self, page: FetchedPage[T]) -> int:
        """Return the server's count of rows, or the highest one so far if the page has no count."""
        return self._highest_count if page.total_count is None else page.total_count

    def _begin_reread_if_needed(self) -> bool:
        """Begin another read if rows are missing and it may find them; return whether it has begun.

        Raises:
            ProtocolError: Several reads have not found the missing rows.
        """
        known, last = len(self.rows), self._reread
        # If the last reread found nothing new, the server is assumed to count some rows twice.
        found_nothing_new = last is not None and known == last.known_before
        if known >= self._highest_count or found_nothing_new:
            return False
        number = 1 if last is None else last.number + 1
        if last is not None and number > _MAX_REREADS:
            # Rows that were added since the last reread began may explain a count above the known rows. But
            # if fewer rows are known than were counted before that reread, rows are missing.
            if known < last.counted_before:
                raise self.rows.incomplete_error(counted=self._highest_count, found=known)
            return False
        self._reread = _Reread(number, known_before=known, counted_before=self._highest_count)
        self._contradictions = self._confirmations = 0
        return True

    def _fetch(self, offset: int) -> Reading[T, FetchedPage[T]]:
        """Return the page at an offset; request later pages ahead once a second page is wanted."""
        stride = max(1, self._longest_page - 1)
        ahead_until = 0
        if offset and self._longest_page > 1 and self._last is not None and not self._is_searching:
            ahead_until = self._last.page.total_count or 0
        page = yield WantedPage(position=offset, stride=stride, ahead_until=ahead_until)
        self._highest_count = max(self._highest_count, page.total_count or 0)
        return page

    def _check_pages_can_overlap(self, page: FetchedPage[T]) -> Reading[T, None]:
        """Check that the server can return more than one row per page, if no page had more.

        Raises:
            ProtocolError: The server returns one row per page, so that pages cannot overlap.
        """
        # A server that limits its pages to one row may count only that row.
        could_hold_more = page.limit != 1
        if page.total_count == 1 and could_hold_more:
            return
        # Request the offsets 1, 0 and 1. If the first and the third response have the same row, and the
        # second has one other row, the list had both rows all the time, and a page holds only one.
        second = (yield from self._fetch(1)).keys[:1]
        if not second:
            return
        first = (yield from self._fetch(0)).keys
        again = (yield from self._fetch(1)).keys[:1]
        if len(first) == 1 and first != second and second == again:
            raise self.rows.error("no page holds more than one row", "Report this error.")

    def _count_page_without_progress(self) -> None:
        self._pages_without_progress += 1
        pages_read = len(self.rows) // max(1, self._longest_page - 1)
        allowed = _MAX_PAGES_WITHOUT_PROGRESS + _MAX_REVISITS_PER_PAGE * pages_read
        if self._pages_without_progress > allowed:
            raise self.rows.error(
                f"{self._pages_without_progress} pages in a row had no new rows, so the list probably "
                "changes faster than it is read",
                "Use a larger page_size.",
            )
