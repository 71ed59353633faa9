"""One page of a listing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, overload

import attrs

from .._utils.plain import ToDict, summary_fields
from .._utils.summaries import html_table

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(kw_only=True)
class Page(ToDict, Generic[T_co]):
    """One page of a listing; it supports iteration, indexing and ``len``."""

    total_count: int | None
    """Total number of items that the API reports, or ``None``."""
    offset: int
    """Number of items before this page."""
    limit: int
    """Max number of items on the page."""
    data: tuple[T_co, ...]
    """The page's items."""

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.data)

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T_co, ...]: ...
    def __getitem__(self, index: int | slice) -> T_co | tuple[T_co, ...]:
        """Return an item of the page, or a slice as a tuple."""
        return self.data[index]

    def _repr_html_(self) -> str:
        total = "an unknown number" if self.total_count is None else self.total_count
        first: Any = self.data[0] if self.data else None
        names = summary_fields(type(first)) if isinstance(first, ToDict) else ()
        rows = [[getattr(item, name) for name in names] for item in self.data]
        return html_table(f"{len(self)} of {total}, from offset {self.offset}", names, rows)

    def __len__(self) -> int:
        return len(self.data)
