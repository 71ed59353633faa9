"""Cache of decoded responses, for repeated requests whose response rarely changes."""

from __future__ import annotations

from typing import Any, Final

from .._utils.clock import Clock

MAX_IDLE: Final = 15.0
"""Seconds after which an unused entry is dropped at the next :meth:`ResponseCache.put`."""


class ResponseCache:
    """Cache of the last response to each request, with its decoded value.

    Args:
        max_bytes: Max bytes of bodies and request targets; the least recently used entries are dropped
            first. The decoded values take about four times as much memory.
    """

    def __init__(self, max_bytes: int, clock: Clock) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._size = 0
        self._entries: dict[str, tuple[bytes, Any, float]] = {}
        """Body, decoded value and time of the last use; the least recently used first."""

    def get(self, target: str, body: bytes) -> Any | None:
        """Return the decoded value of ``body`` if ``body`` equals the stored response, else ``None``."""
        entry = self._entries.get(target)
        if entry is None:
            return None
        cached_body, value, _ = entry
        if cached_body != body:
            return None
        del self._entries[target]
        self._entries[target] = body, value, self._clock.time()
        return value

    def put(self, target: str, body: bytes, value: Any) -> None:
        """Store a response; drop entries unused for ``MAX_IDLE``, and others while the cache is too large."""
        self._drop(target)
        now = self._clock.time()
        self._entries[target] = body, value, now
        self._size += len(target) + len(body)
        for oldest, (_, _, used_at) in list(self._entries.items()):
            if self._size <= self._max_bytes and used_at >= now - MAX_IDLE:
                break
            self._drop(oldest)

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0

    def _drop(self, target: str) -> None:
        entry = self._entries.pop(target, None)
        if entry is not None:
            body, _, _ = entry
            self._size -= len(target) + len(body)
