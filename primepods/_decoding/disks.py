"""Decoders of responses about one disk."""

from __future__ import annotations

from typing import Any

from ..models.account import Disk
from .rows import as_object, decode_item


def decode_disk(data: Any, disk_id: str) -> Disk:
    """Decode the response to ``GET /disks/{id}``."""
    return decode_item(data, Disk, disk_id)


def decode_disk_users(data: Any, disk_id: str) -> Disk:
    """Decode only a disk's id, pods and clusters from the response to ``GET /disks/{id}``."""
    row = as_object(data)
    return decode_disk({key: row[key] for key in ("id", "pods", "clusters") if key in row}, disk_id)
