"""Lists by offset, read so that nothing is lost or repeated while they change.

One page is a snapshot. Call a page *grounded* when it begins at offset 0 or its first row has come before.
All that follows a grounded row within its page is contiguous, so nothing that lasts is skipped between one
grounded page and the next. Pages therefore overlap by one row. When a page is not grounded (rows before it
were deleted), what was requested ahead is dropped and the reader steps back until it stands on known ground
again; offset 0 always is. The proof needs no order among the requests, so pages may be requested ahead; it
only needs rows that last to keep their order. Rows that move (records of the history that end) are found by
comparing the server's count with the rows that came, and reading again where they differ.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from ._pager import AsyncPager
from ._reader import FetchedPage, KnownRows, Reading, Source, WantedPage

T = TypeVar("T")

_FULL_OVERLAP: Final = 100
"""From this page size on, one row more in a page costs more than one page more in a hundred."""
_ANSWERS: Final = 3
"""How many answers it takes to believe that the list ends before the count that it stated."""
_EMPTY_ANSWERS: Final = 2
"""How many answers without any row it takes to believe that there is none."""
_MAX_REREADS: Final = 3
"""How often a list is read again whose rows move while it is read."""
_PAGES_WITHOUT_PROGRESS: Final = 50


def offset_pager(source: Source[T], page_size: int) -> AsyncPager[T]:
    """Return a pager of a list that is asked for by ``offset`` and ``limit``."""
    return AsyncPager(lambda: OffsetReader(source, page_size), path=source.path, page_size=page_size)


class OffsetReader(Generic[T]):
    """One run through a list by offset.

    Args:
        source: Where its pages come from.
        page_size: How many new rows a page should bring.
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
        """The highest count that the server has stated and not taken back."""
        self._contradictions = 0
        """How many answers, since the last new row, have counted more than they show."""
        self._confirmations = 0
        """How many answers in a row have shown the end of the list and counted no more."""
        self._pages_without_progress = 0
        self._is_searching = False
        """Whether it is open where the next page begins, so that requests ahead would be in vain."""
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
        """Return a page at ``offset``, or as far before it as it takes to stand on known ground."""
        step = 1
        while True:
            page = yield from self._settled_page(offset)
            if offset == 0 or (page.rows and page.keys[0] in self.rows):
                return offset, page
            before = self._last.total_count if self._last else None
            step = max(step, (before or 0) - (page.total_count or 0))
            offset, step = max(0, offset - step), step * 2
            self._is_searching, self._confirmations = True, 0
            self._count_page_without_progress()

    def _settled_page(self, offset: int) -> Reading[T, FetchedPage[T]]:
        """Return the page at an offset, requested again while it is empty or repeats the last one."""
        page = yield from self._page(offset)
        for _ in range(_ANSWERS - 1):
            if offset == 0 or page.rows:
                break
            # A replica that lags, or has lost its rows, answers without any.
            if self._counted(page) > offset:
                self._confirmations = 0
            page = yield from self._page(offset)
        return (yield from self._check_offset_counts(offset, page))

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
        """Tell whether there may be more behind a page.

        Behind one that is full there may be, whatever the count says; behind a shorter one there is not if
        the count says so, too.
        """
        is_full = len(page.rows) >= min(self.limit, page.limit)
        return len(page.rows) > 1 and (is_full or page.total_count != end)

    def _must_ask_again(self, page: FetchedPage[T], end: int) -> bool:
        """Tell whether it takes another answer to believe that the list ends with a page."""
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
        """Tell whether rows are missing that another run through the list can find.

        Raises:
            ProtocolError: They have not been found in several runs.
        """
        known = len(self.rows)
        # Twice the same from end to end: nothing moves, but there are rows that come twice.
        is_settled = self._rereads > 0 and known == self._known_before_reread
        if known >= self._highest_count or is_settled:
            return False
        if self._rereads == _MAX_REREADS:
            if known < self._count_before_reread:
                raise self.rows.incomplete(counted=self._highest_count, found=known)
            return False
        self._rereads += 1
        self._known_before_reread, self._count_before_reread = known, self._highest_count
        self._contradictions = self._confirmations = 0
        return True

    def _page(self, offset: int) -> Reading[T, FetchedPage[T]]:
        """Return the page at an offset; those behind it are asked for once a second page is wanted."""
        stride, until = max(1, self._longest - 1), 0
        if offset and self._longest > 1 and self._last is not None and not self._is_searching:
            until = (self._last.total_count or 0) - 1
        page = yield WantedPage(position=offset, stride=stride, until=until)
        self._highest_count = max(self._highest_count, page.total_count or 0)
        return page

    def _refuse_single_rows(self, page: FetchedPage[T]) -> Reading[T, None]:
        """Believe that the list ends where no page shows more, but not if no page can show two rows.

        Raises:
            ProtocolError: The server gives one row a page: there is no overlap to stand on.
        """
        if page.total_count == 1 and page.limit != 1:
            return
        # Proof that no change of the list explains: a row is second before and after a first page without it.
        second = (yield from self._page(1)).keys[:1]
        if not second:
            return
        first = (yield from self._page(0)).keys
        again = (yield from self._page(1)).keys[:1]
        if len(first) == 1 and first != second == again:
            raise self.rows.error("no page holds more than one row", "Report it.")

    def _check_offset_counts(self, offset: int, page: FetchedPage[T]) -> Reading[T, FetchedPage[T]]:
        """Tell a list that shifted by a whole page from a server that ignores ``offset``.

        Returns:
            The page, asked for again if it is the same as the last.

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
        # Walking back over known ground brings nothing new either, and is as long as what was read.
        allowed = _PAGES_WITHOUT_PROGRESS + 4 * len(self.rows) // max(1, self._longest - 1)
        if self._pages_without_progress > allowed:
            raise self.rows.error(
                f"{self._pages_without_progress} pages in a row brought nothing new: the list changes faster "
                "than it is read",
                "Use a larger page_size.",
            )
