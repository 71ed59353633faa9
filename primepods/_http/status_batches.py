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
    encoded = ids if _are_alphanumeric(ids) else [encode_id(pod_id) for pod_id in ids]
    return Request(method="GET", path=path, query="pod_ids=" + "&pod_ids=".join(encoded))


def chunk_ids(ids: list[str], prefix: str = "") -> Iterator[list[str]]:
    """Split checked ids into batches of at most 100 ids and 8,000 bytes of request line.

    ``prefix`` is the path of the base URL, a part of the request line.
    """
    max_length = MAX_REQUEST_LINE - _LINE_OVERHEAD - len(prefix) - len(f"{PODS}/status?")
    overhead = len("&pod_ids=")
    if _are_alphanumeric(ids) and MAX_IDS_PER_REQUEST * (overhead + max(map(len, ids))) <= max_length:
        # Fast path: even a hundred of the longest ids fit.
        for start in range(0, len(ids), MAX_IDS_PER_REQUEST):
            yield ids[start : start + MAX_IDS_PER_REQUEST]
        return
    chunk: list[str] = []
    length = 0
    for pod_id in ids:
        id_length = overhead + len(encode_id(pod_id))
        if chunk and (len(chunk) == MAX_IDS_PER_REQUEST or length + id_length > max_length):
            yield chunk
            chunk = []
            length = 0
        chunk.append(pod_id)
        length += id_length
    if chunk:
        yield chunk


def _are_alphanumeric(ids: Sequence[str]) -> bool:
    """Return whether all ids are ASCII letters and digits, which need no percent-encoding."""
    return "".join(ids).encode().isalnum()
