"""Shortened ids for tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

MIN_LENGTH: Final = 8


def shorten_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Return a unique prefix of each id. All are clipped to the same length, at least 8 characters."""
    sorted_ids = sorted(set(ids))
    # The longest common prefixes are those of neighbours in the sorted list.
    length = max([MIN_LENGTH, *(_common_prefix_length(*pair) + 1 for pair in pairwise(sorted_ids))])
    return {pod_id: pod_id[:length] for pod_id in sorted_ids}


def _common_prefix_length(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
