"""Which errors of the API are transient: repeated by calls, ridden out by waits."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

_TRANSIENT_STATUSES: Final = frozenset({408, 421, 425, 429})
"""Besides 5xx: timed out, misdirected, too early, too many."""
_LASTING_SERVER_ERRORS: Final = frozenset({501, 505})


def is_transient(status: int, *, is_json: bool) -> bool:
    """Tell whether asking again later can help, after an answer that is an error."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        # The API explains these in JSON; anything else is a gateway's page, which says nothing of the key.
        return not is_json
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return status not in _LASTING_SERVER_ERRORS
    return status in _TRANSIENT_STATUSES
