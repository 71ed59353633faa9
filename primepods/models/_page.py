"""One page of a listing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import attrs

from .._utils.plain import ToDict

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(kw_only=True)
class Page(ToDict, Generic[T_co]):
    """One page of a listing: a snapshot that can be iterated and measured.

    Attributes:
        total_count: How many there are in all, as the API counts; ``None`` if it does not say.
        offset: How many come before this page.
        limit: How many the page may hold.
        data: The page's items.
    """

    total_count: int | None
    offset: int
    limit: int
    data: tuple[T_co, ...]

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)
