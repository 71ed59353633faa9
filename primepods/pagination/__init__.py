"""Lists that are read page by page: the iterator that users hold, and the ways of reading behind it."""

from ._numbered import numbered_pager
from ._offset import offset_pager
from ._pager import AsyncPager
from ._reader import FetchedPage, Source

__all__ = ["AsyncPager", "FetchedPage", "Source", "numbered_pager", "offset_pager"]
