"""Shortened ids for tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Final

MIN_LENGTH: Final = 8


def shorten_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Return a unique prefix of each id. All are clipped to the same length, at least 8 characters."""
    unique = set(ids)
    length = next(size for size in count(MIN_LENGTH) if len({one[:size] for one in unique}) == len(unique))
    return {pod_id: pod_id[:length] for pod_id in unique}
