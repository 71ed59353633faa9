"""Lists paginated by offset, read without loss or repetition while they change.

One page is a snapshot. A page is *grounded* when it begins at offset 0 or its first row is already known.
The rows of a page are contiguous, so no lasting row is skipped between one grounded page and the next. Pages
therefore overlap by one row. When a page is not grounded (rows before it were deleted), the reader drops the
pages requested ahead and steps back to a grounded one; offset 0 always is. This holds in whatever order the
requests are answered, so pages may be requested ahead; it only needs lasting rows to keep their order. To
find rows that move (records of the history that end), the reader compares the server's count with the rows
received, and reads the list again if they differ.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from ._pager import AsyncPager
from ._reader import FetchedPage, KnownRows, Reading, Source, WantedPage

T = TypeVar("T")

_FULL_OVERLAP: Final = 100
"""Page size from which no extra row is requested for the overlap: sharing one costs 1% more pages at most."""
_ANSWERS: Final = 3
"""Responses that confirm that the list ends before its stated count."""
_EMPTY_ANSWERS: Final = 2
"""Responses without rows that confirm that the list is empty."""
_MAX_REREADS: Final = 3
"""Maximum repeated reads of a list whose rows move during the read."""
_MAX_PAGES_WITHOUT_PROGRESS: Final = 50
_MAX_BACKTRACKS: Final = 4
"""How many times all pages read may be stepped over without progress, beyond these 50."""


def offset_pager(source: Source[T], page_size: int) -> AsyncPager[T]:
    """Return a pager of a list that is requested by ``offset`` and ``limit``."""
    return AsyncPager(lambda: OffsetReader(source, page_size), path=source.path, page_size=page_size)


class OffsetReader(Generic[T]):
    """One read of a list by offset.

    Args:
        source: The source of its pages.
        page_size: New rows per page.
    """

    def __init__(self, source: Source[T], page_size: int) -> None:
        self.source = source
        self.limit = page_size if page_size >= _FULL_OVERLAP else page_size + 1
        self.rows: KnownRows[T] = KnownRows(source)
        self._last: FetchedPage[T] | None = None
        """The last grounded page."""
        self._last_offset = 0
        self._longest = 0
        self._highest_count = 0
        """The highest count that the server has stated and not corrected."""
        self._contradictions = 0
        """Responses since the last new row whose count was higher than their rows."""
        self._confirmations = 0
        """Consecutive responses that showed the end of the list, with a count that agrees."""
        self._pages_without_progress = 0
        self._is_searching = False
        """True while the next page's offset is open, so that requests ahead would be useless."""
        self._rereads = 0
        self._known_before_reread = 0
        self._count_before_reread = 0

    def read(self) -> Reading[T, None]:
        """Read the list; see :class:`PageReader`."""
        following: int | None = 0
        while following is not None:
            offset, page = yield from self._grounded_page(following)
            is_new = yield from self.rows.add(page)
            self._last, self._last_offset = page, offset
            self._longest = max(self._longest, len(page.rows))
            if is_new:
                self._pages_without_progress = self._contradictions = self._confirmations = 0
            else:
                self._count_page_without_progress()
            following = yield from self._following(offset, page)
        self.rows.finish()

    def _grounded_page(self, offset: int) -> Reading[T, tuple[int, FetchedPage[T]]]:
        """Return a grounded page at ``offset``, or at the nearest offset before it that has one."""
        step = 1
        while True:
            page = yield from self._settled_page(offset)
            if offset == 0 or (page.rows and page.keys[0] in self.rows):
                return offset, page
            # Step back by as many rows as were deleted, and at least by 1, 2, 4, ...
            count_before = (self._last.total_count or 0) if self._last else 0
            deleted = count_before - (page.total_count or 0)
            step = max(step, deleted)
            offset = max(0, offset - step)
            step *= 2
            self._is_searching = True
            self._confirmations = 0
            self._count_page_without_progress()

    def _settled_page(self, offset: int) -> Reading[T, FetchedPage[T]]:
        """Return the page at an offset; repeat the request while it is empty or the same as the last page."""
        page = yield from self._page(offset)
        for _ in range(_ANSWERS - 1):
            if offset == 0 or page.rows:
                break
            # A replica that lags, or has lost its rows, returns none: that does not confirm the end.
            if self._counted(page) > offset:
                self._confirmations = 0
            page = yield from self._page(offset)
        return (yield from self._check_offset_is_used(offset, page))

    def _following(self, offset: int, page: FetchedPage[T]) -> Reading[T, int | None]:
        """Return the offset of the page after a grounded one; ``None`` at the end of the list."""
        end = offset + len(page.rows)
        if self._rereads and len(self.rows) >= self._highest_count:
            return None
        if self._may_go_on(page, end):
            self._is_searching, self._confirmations = False, 0
            return end - 1
        if self._must_ask_again(page, end):
            self._is_searching = True
            return offset
        if self._longest == 1:
            yield from self._refuse_single_rows(page)
        if self._counted(page) > end:
            raise self.rows.incomplete(counted=self._counted(page), found=end)
        self._highest_count = self._counted(page)
        return 0 if self._should_reread() else None

    def _may_go_on(self, page: FetchedPage[T], end: int) -> bool:
        """Tell whether more rows may follow a page.

        A full page may be followed by more, whatever the count says. A shorter one is the last if the count
        agrees. A page of one row is only the overlap.
        """
        is_full = len(page.rows) >= min(self.limit, page.limit)
        return len(page.rows) > 1 and (is_full or page.total_count != end)

    def _must_ask_again(self, page: FetchedPage[T], end: int) -> bool:
        """Tell whether another response must confirm that a page is the last.

        Three must agree if the server counts more rows than it returns, or has counted more before; two if
        the list is empty.
        """
        if self._counted(page) > end:
            self._contradictions += 1
            self._confirmations = 0
            return self._contradictions < _ANSWERS
        self._confirmations += 1
        if self._highest_count > end:
            return self._confirmations < _ANSWERS
        return not page.rows and self._confirmations < _EMPTY_ANSWERS

    def _counted(self, page: FetchedPage[T]) -> int:
        return self._highest_count if page.total_count is None else page.total_count

    def _should_reread(self) -> bool:
        """Tell whether another read of the list may find missing rows.

        Raises:
            ProtocolError: Several reads have not found them.
        """
        known = len(self.rows)
        # The last reread found nothing new: the server's count includes rows that it lists twice.
        is_settled = self._rereads > 0 and known == self._known_before_reread
        if known >= self._highest_count or is_settled:
            return False
        if self._rereads == _MAX_REREADS:
            # With fewer rows than even the older, lower count, rows are missing and not only new.
            if known < self._count_before_reread:
                raise self.rows.incomplete(counted=self._highest_count, found=known)
            return False
        self._rereads += 1
        self._known_before_reread, self._count_before_reread = known, self._highest_count
        self._contradictions = self._confirmations = 0
        return True

    def _page(self, offset: int) -> Reading[T, FetchedPage[T]]:
        """Return the page at an offset; request later pages ahead once a second page is wanted."""
        stride, until = max(1, self._longest - 1), 0
        if offset and self._longest > 1 and self._last is not None and not self._is_searching:
            until = (self._last.total_count or 0) - 1
        page = yield WantedPage(position=offset, stride=stride, until=until)
        self._highest_count = max(self._highest_count, page.total_count or 0)
        return page

    def _refuse_single_rows(self, page: FetchedPage[T]) -> Reading[T, None]:
        """Check that the server can return more than one row per page, after a list of one row.

        Raises:
            ProtocolError: The server returns one row per page, so that pages cannot overlap.
        """
        if page.total_count == 1 and page.limit != 1:
            return
        # Proof: the row at offset 1 is the same before and after a page at offset 0 that lacks it.
        second = (yield from self._page(1)).keys[:1]
        if not second:
            return
        first = (yield from self._page(0)).keys
        again = (yield from self._page(1)).keys[:1]
        if len(first) == 1 and first != second == again:
            raise self.rows.error("no page holds more than one row", "Report it.")

    def _check_offset_is_used(self, offset: int, page: FetchedPage[T]) -> Reading[T, FetchedPage[T]]:
        """Distinguish a list that shifted by a whole page from a server that ignores ``offset``.

        Returns:
            The page, requested again if it is the same as the last one.

        Raises:
            ProtocolError: The server ignores ``offset``.
        """
        last = self._last
        if last is None or offset in {0, self._last_offset} or len(page.rows) <= 1 or page.keys != last.keys:
            return page
        first = yield from self._page(0)
        again = yield from self._page(offset)
        if first.keys == again.keys == page.keys:
            raise self.rows.error(
                f"the pages at offset 0 and {offset} are the same: the server ignores `offset`",
                "Check the base URL; a cache or gateway may drop the query.",
            )
        return again

    def _count_page_without_progress(self) -> None:
        self._pages_without_progress += 1
        # Stepping back over known rows brings nothing new either, and may take all pages read, a few times.
        pages_read = len(self.rows) // max(1, self._longest - 1)
        allowed = _MAX_PAGES_WITHOUT_PROGRESS + _MAX_BACKTRACKS * pages_read
        if self._pages_without_progress > allowed:
            raise self.rows.error(
                f"{self._pages_without_progress} pages in a row brought nothing new: the list changes faster "
                "than it is read",
                "Use a larger page_size.",
            )
