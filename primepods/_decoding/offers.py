"""From decoded JSON to offers."""

from __future__ import annotations

from typing import Any

from ..offers import DiskOffer, Offer
from .rows import DecodedPage, page_of_items


def decode_offers(data: Any, offset: int, limit: int) -> DecodedPage[Offer]:
    """Decode a page of ``GET /availability/gpus`` or ``multi-node``."""
    return page_of_items(data, Offer, offset, limit)


def decode_disk_offers(data: Any, offset: int, limit: int) -> DecodedPage[DiskOffer]:
    """Decode a page of ``GET /availability/disks``."""
    return page_of_items(data, DiskOffer, offset, limit)
