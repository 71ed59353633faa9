"""Lists paginated by page number, from 1."""

from __future__ import annotations

import math
from typing import Final, TypeVar

from ._pager import AsyncPager
from ._reader import PageReader, Reading, Source, WantedPage

T = TypeVar("T")

_MAX_REREADS: Final = 2
"""Max repeated requests (chosen) for a page that is empty although the server counts more rows (reported)."""
_MAX_PAGES_WITHOUT_PROGRESS: Final = 10
"""Max consecutive pages without a new row (chosen)."""


def numbered_pager(source: Source[T], page_size: int) -> AsyncPager[T]:
    """Return a pager of a list whose pages are numbered from 1."""
    return AsyncPager(lambda: NumberedReader(source, page_size), path=source.path, page_size=page_size)


class NumberedReader(PageReader[T]):
    """One read of a list by page number.

    Numbered pages cannot be requested with an overlap. If rows appear or disappear during the read, later
    rows can move to another page. They may then be missed, or be received twice and yielded once.
    """

    def read(self) -> Reading[T, None]:
        number = 1
        found = 0
        counted: int | None = None
        rereads = 0
        ahead_until = 0
        pages_without_progress = 0
        while True:
            page = yield WantedPage(position=number, ahead_until=ahead_until)
            is_new = yield from self.rows.add(page)
            pages_without_progress = 0 if is_new else pages_without_progress + 1
            if pages_without_progress > _MAX_PAGES_WITHOUT_PROGRESS:
                raise self.rows.error(
                    f"{pages_without_progress} pages in a row had no new rows, so the server probably "
                    "ignores the page number",
                    "Check the base URL; a cache or gateway may drop the query.",
                )
            counted = counted if page.total_count is None else page.total_count
            found += len(page.rows)
            if page.rows:
                if counted is not None and counted <= found and len(page.rows) < self.limit:
                    break
                number += 1
                rereads = 0
                last_page = math.ceil((counted or 0) / self.limit)
                ahead_until = last_page + 1
            elif rereads < _max_rereads(counted, found):
                rereads += 1
                ahead_until = 0
            else:
                break
        if counted is not None and counted > found:
            raise self.rows.incomplete_error(counted=counted, found=found)
        self.rows.finish()


def _max_rereads(counted: int | None, found: int) -> int:
    """Return how often to request an empty page again before the read ends."""
    if (counted or 0) > found:
        return _MAX_REREADS
    # If the server counts as many rows as were found, and not zero, no confirmation is needed.
    is_expected = found > 0 and counted == found
    return 0 if is_expected else 1
