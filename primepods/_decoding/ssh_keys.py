"""From decoded JSON to SSH keys."""

from __future__ import annotations

from typing import Any

from ..keys import SSHKey
from .rows import DecodedPage, as_object, hook_of, page_of_rows


def decode_ssh_keys(data: Any, offset: int, limit: int) -> DecodedPage[SSHKey]:
    """Decode a page of ``GET /ssh_keys/``."""
    return page_of_rows(data, SSHKey, offset, limit)


def decode_new_ssh_key(data: Any) -> SSHKey:
    """Decode the answer of ``POST /ssh_keys/``."""
    return hook_of(SSHKey)(as_object(data), SSHKey)
