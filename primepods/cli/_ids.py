"""Short ids for tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

MIN_LENGTH: Final = 8


def shorten_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Return a unique beginning of each id, all of the same length: 8 characters or more."""
    whole = sorted(set(ids))
    length = max([MIN_LENGTH, *(_shared(*neighbours) + 1 for neighbours in pairwise(whole))])
    return {pod_id: pod_id[:length] for pod_id in whole}


def _shared(one: str, other: str) -> int:
    """Return the length of the common prefix of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
