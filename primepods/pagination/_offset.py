"""Lists paginated by offset, which may change while they are read.

A page is a snapshot of contiguous rows. It is *anchored* if it begins at offset 0, or with a row that is
already known, unless it repeats the last page at another offset. If all pages so far are anchored, no row
that stayed in the list was skipped. So pages are requested with an overlap of one row. If a page is not
anchored, rows before it have probably been deleted. The reader then steps back until a page is anchored, at
the latest at offset 0.

The order of the responses does not matter, so pages may be requested ahead. The order of the rows is assumed
to be stable, except that a record of the history moves when its pod ends. A row that moves can be missed. So
the reader compares the number of rows with the server's count, and reads the list again if rows are missing.
It cannot notice a missed row if a known row is deleted in the same read.

The *end* of a page is its offset plus its number of rows. More rows may follow a page of at least two rows,
unless it is not full and the server's count equals its end. Any other page is requested again until enough
responses vote for the end of the list. A new row restarts this vote, which ends:

- after one response (two for an empty list), if no response has counted more rows than the end;
- after three such responses in a row, if an earlier one has counted more;
- after three responses that count more themselves, in a row or not: the read then fails. One without a count
  is taken to state the highest count so far.

If fewer rows are known than were counted, the list is then read again, at most three times, until no rows are
missing or a read finds nothing new.

Empty pages from a replica that lost its rows were reported for the API's availability endpoint. Servers that
ignore ``offset``, and counts that are too high, are imagined. If a server returns one row per page
(imagined), pages cannot overlap: the read then fails if the server counts more rows or, without a count, if
the next page has another row. The numbers below are chosen.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import attrs

from ._pager import AsyncPager
from ._reader import FetchedPage, PageReader, Reading, Source, WantedPage

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
"""Additional pages without a new row, per page of known rows, because stepping back reads pages again."""


def offset_pager(source: Source[T], page_size: int) -> AsyncPager[T]:
    """Return a pager of a list that is requested by ``offset`` and ``limit``."""
    return AsyncPager(lambda: OffsetReader(source, page_size), path=source.path, page_size=page_size)


@attrs.frozen(eq=False, repr=False)
class _AnchoredPage(Generic[T]):
    """An anchored page.

    Attributes:
        offset: The offset at which it was requested.
        page: The page.
        is_direct: Whether it is the response to the first request for the wanted page: the reader did not
            have to repeat the request or to step back.
    """

    offset: int
    page: FetchedPage[T]
    is_direct: bool


@attrs.define(eq=False, repr=False)
class _EndVotes:
    """Votes on whether the list has ended, since the last new row. The ends of the responses may differ.

    Attributes:
        contradictions: Number of responses that count more rows than the end.
        confirmations: Number of the last responses in a row that do not count more.
    """

    contradictions: int = 0
    confirmations: int = 0

    def add(self, end: int, *, counted: int, highest_count: int) -> bool:
        """Add a response; return whether the read must now end, or fail if this response counts more rows."""
        if counted > end:
            self.contradictions += 1
            self.confirmations = 0
            return self.contradictions == _END_CONFIRMATIONS
        self.confirmations += 1
        if highest_count > end:
            return self.confirmations >= _END_CONFIRMATIONS
        return end > 0 or self.confirmations >= _EMPTY_CONFIRMATIONS


class OffsetReader(PageReader[T]):
    """One read of a list by offset.

    Args:
        page_size: Rows per request; below 100, one more is requested for the overlap.
    """

    def __init__(self, source: Source[T], page_size: int) -> None:
        super().__init__(source, page_size if page_size >= _LARGE_PAGE_SIZE else page_size + 1)
        self._longest_page = 0
        """Number of rows of the longest page: the real page size, if the server caps it below ``limit``."""
        self._highest_count = 0
        """The highest count that the server has stated and not corrected."""
        self._pages_without_progress = 0

    def read(self) -> Reading[T, None]:
        for rereads in range(1 + _MAX_REREADS):
            known_before, counted_before = len(self.rows), self._highest_count
            yield from self._read_list(is_reread=rereads > 0)
            known = len(self.rows)
            # If a reread finds nothing new, the server is assumed to count some rows twice.
            if known >= self._highest_count or known == known_before:
                break
            # Rows that were added since the last reread began may explain a count above the known rows. But
            # if fewer rows are known than were counted before that reread, rows are missing.
            if rereads == _MAX_REREADS and known < counted_before:
                raise self.rows.incomplete_error(counted=self._highest_count, found=known)
        self.rows.finish()

    def _read_list(self, *, is_reread: bool) -> Reading[T, None]:
        """Read the list to its end, or reread it until no rows are missing.

        Raises:
            ProtocolError: The server counts more rows than it returns.
        """
        last: _AnchoredPage[T] | None = None
        wanted = WantedPage(position=0)
        votes = _EndVotes()
        while not (is_reread and len(self.rows) >= self._highest_count):
            last = yield from self._read_anchored(wanted, last)
            page, end = last.page, last.offset + len(last.page.rows)
            is_new = yield from self.rows.add(page)
            self._longest_page = max(self._longest_page, len(page.rows))
            if is_new:
                self._pages_without_progress = 0
                votes = _EndVotes()
            else:
                self._count_page_without_progress()
            is_full = len(page.rows) >= min(self.limit, page.limit)
            # Not after a page of one row: with the overlap, the next offset would not be higher.
            may_be_followed = len(page.rows) > 1 and (is_full or page.total_count != end)
            if may_be_followed or not last.is_direct:
                # This response, or one before it, has shown another end: confirmations must follow in a row.
                votes.confirmations = 0
            if may_be_followed:
                stride = self._longest_page - 1
                wanted = WantedPage(position=end - 1, stride=stride, ahead_until=page.total_count or 0)
                continue
            wanted = WantedPage(position=last.offset)
            counted = self._highest_count if page.total_count is None else page.total_count
            if votes.add(end, counted=counted, highest_count=self._highest_count):
                if counted > end:
                    raise self.rows.incomplete_error(counted=counted, found=end)
                if counted == 0 and self._longest_page == 1 and (yield from self._has_more(end, votes)):
                    continue
                self._highest_count = counted
                return

    def _has_more(self, end: int, votes: _EndVotes) -> Reading[T, bool]:
        """Return whether rows follow a page of one row, for which the server states no count.

        Raises:
            ProtocolError: Repeatedly, rows follow, and all pages have one row.
        """
        page = yield from self._fetch(WantedPage(position=end))
        if all(key in self.rows for key in page.keys):
            return False
        # A row that has just been created is on the next page, too.
        votes.contradictions += 1
        if votes.contradictions == _END_CONFIRMATIONS:
            raise self.rows.error(
                "the server returns one row per page and no count, so the end of the list is unknown",
                "More rows exist. Report this error.",
            )
        return True

    def _read_anchored(
        self, wanted: WantedPage, last: _AnchoredPage[T] | None
    ) -> Reading[T, _AnchoredPage[T]]:
        """Return the wanted page if it is anchored, else an anchored page before it."""
        is_direct = True
        step = 1
        while True:
            offset = wanted.position
            page = yield from self._fetch(wanted)
            if last is None or offset == 0:
                return _AnchoredPage(offset, page, is_direct)
            # An empty page may come from a replica that lags or has lost its rows.
            for _ in range(_END_CONFIRMATIONS - 1):
                if page.rows:
                    break
                is_direct = False
                page = yield from self._fetch(wanted)
            # The list may have shifted by a whole page, or the server ignores `offset`.
            is_repeated = page.keys == last.page.keys and offset != last.offset
            if page.rows and page.keys[0] in self.rows and not is_repeated:
                return _AnchoredPage(offset, page, is_direct)
            if page.total_count is not None:
                # If the count has fallen by n, n rows before the page may have been deleted.
                step = max(step, (last.page.total_count or 0) - page.total_count)
            wanted = WantedPage(position=max(0, offset - step))
            step *= 2
            is_direct = False
            self._count_page_without_progress()

    def _fetch(self, wanted: WantedPage) -> Reading[T, FetchedPage[T]]:
        page = yield wanted
        self._highest_count = max(self._highest_count, page.total_count or 0)
        return page

    def _count_page_without_progress(self) -> None:
        self._pages_without_progress += 1
        pages_read = len(self.rows) // max(1, self._longest_page - 1)
        allowed = _MAX_PAGES_WITHOUT_PROGRESS + _MAX_REVISITS_PER_PAGE * pages_read
        if self._pages_without_progress > allowed:
            raise self.rows.error(
                f"{self._pages_without_progress} pages in a row had no new rows, so the list probably "
                "changes faster than it is read, or the server ignores `offset`",
                "Use a larger page_size, or check the base URL; a cache or gateway may drop the query.",
            )
