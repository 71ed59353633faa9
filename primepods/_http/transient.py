"""Transient errors of the API: after them, calls are retried if that is safe, and waits continue."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

_TRANSIENT_STATUSES: Final = frozenset({408, 421, 425, 429})
"""Besides 5xx: request timeout, misdirected request, too early, too many requests."""
_PERMANENT_SERVER_ERRORS: Final = frozenset({501, 505})


def is_transient(status: int, *, is_json: bool) -> bool:
    """Return whether a retry can succeed after an error response."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        # The API explains these in JSON; anything else is assumed to be from a gateway.
        return not is_json
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return status not in _PERMANENT_SERVER_ERRORS
    return status in _TRANSIENT_STATUSES
