"""Paginated lists: the pager that users iterate, and the readers behind it."""

from ._numbered import numbered_pager
from ._offset import OffsetReader, offset_pager
from ._pager import AsyncPager
from ._reader import FetchedPage, Source

__all__ = ["AsyncPager", "FetchedPage", "OffsetReader", "Source", "numbered_pager", "offset_pager"]
