"""Batches of pod ids for status requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from .request import PODS, Request, encode_id

MAX_IDS_PER_REQUEST: Final = 100
MAX_REQUEST_LINE: Final = 8_000
_LINE_OVERHEAD: Final = len("GET  HTTP/1.1\r\n")


def status_request(ids: Sequence[str]) -> Request:
    """Build the request for the status of up to 100 pods with checked ids."""
    path = f"{PODS}/status"
    encoded = ids if _need_no_encoding(ids) else [encode_id(pod_id) for pod_id in ids]
    return Request(method="GET", path=path, query="pod_ids=" + "&pod_ids=".join(encoded))


def chunk_ids(ids: list[str], prefix: str = "") -> Iterator[list[str]]:
    """Split ids into batches of at most 100 ids and 8,000 bytes of request line.

    Args:
        ids: Checked ids without duplicates.
        prefix: Path of the base URL, which is part of the request line.
    """
    room = MAX_REQUEST_LINE - _LINE_OVERHEAD - len(prefix) - len(f"{PODS}/status?")
    overhead = len("&pod_ids=")
    if _need_no_encoding(ids) and MAX_IDS_PER_REQUEST * (overhead + max(map(len, ids))) <= room:
        # Even a hundred of the longest ids fit.
        for start in range(0, len(ids), MAX_IDS_PER_REQUEST):
            yield ids[start : start + MAX_IDS_PER_REQUEST]
        return
    chunk: list[str] = []
    used = 0
    for pod_id in ids:
        cost = overhead + len(encode_id(pod_id))
        if chunk and (len(chunk) == MAX_IDS_PER_REQUEST or used + cost > room):
            yield chunk
            chunk = []
            used = 0
        chunk.append(pod_id)
        used += cost
    if chunk:
        yield chunk


def _need_no_encoding(ids: Sequence[str]) -> bool:
    """Return whether all ids are alphanumeric: the fast path."""
    return "".join(ids).encode().isalnum()
