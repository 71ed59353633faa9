"""Answers that are asked for again and again, and mostly come back unchanged."""

from __future__ import annotations

from typing import Any


class ResponseCache:
    """Keeps the last answer to each request with what it was decoded to, so that an unchanged one is not
    decoded again.

    Args:
        max_bytes: Of bodies and request targets that are kept at most; the least recently used go first. What
            they are decoded to takes about four times as much memory.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._entries: dict[str, tuple[bytes, Any]] = {}

    def get(self, target: str, body: bytes) -> Any | None:
        """Return what the same body was decoded to the last time; ``None`` if the answer has changed."""
        entry = self._entries.get(target)
        if entry is None or entry[0] != body:
            return None
        self._entries[target] = self._entries.pop(target)
        return entry[1]

    def put(self, target: str, body: bytes, value: Any) -> None:
        """Keep an answer, and let go of others, or of one that is too large, to stay within the bound."""
        self._drop(target)
        self._entries[target] = body, value
        self._size += len(target) + len(body)
        while self._size > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, target: str) -> None:
        entry = self._entries.pop(target, None)
        if entry is not None:
            self._size -= len(target) + len(entry[0])
