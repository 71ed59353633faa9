"""Ids as a table shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

MIN_LENGTH: Final = 8


def shorten_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Return for each id its beginning that no other of them has: one length for all, 8 or more."""
    whole = sorted(set(ids))
    length = max([MIN_LENGTH, *(_shared(*neighbours) + 1 for neighbours in pairwise(whole))])
    return {pod_id: pod_id[:length] for pod_id in whole}


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
