"""Remedies, which are the last part of error messages."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from ..config import DEFAULT_BASE_URL, KEY_PAGE, Settings
from .backoff import SAFE_METHODS, is_idempotent
from .request import DISKS, PODS, SSH_KEYS, Request

MISSING_POD: Final = "Check the id. A terminated pod is no longer listed: see `pods.history()`."
_MISSING_DISK: Final = "Check the id: see `disks.list()`."
_NOT_SUPPORTED: Final = (
    "The server does not support this request, and a retry does not help: check the base URL and the proxy."
)
ADD_FUNDS: Final = "Add funds to the wallet."
_BY_STATUS: Final[Mapping[int, str]] = {
    400: "Correct what the API's message names: the same request would fail again.",
    402: ADD_FUNDS,
    409: "Look at the current state, then try again.",
    413: "Send fewer ids, or a smaller body.",
    422: "Correct the parameters that the API's message names.",
    429: "Send fewer requests, or share one client.",
    501: _NOT_SUPPORTED,
    505: _NOT_SUPPORTED,
}
_LISTINGS: Final = frozenset({f"{DISKS}/", f"{PODS}/", f"{PODS}/status", f"{PODS}/history"})
_LISTED_BY: Final[Mapping[str, str]] = {
    f"{PODS}/": "pods.list()",
    f"{DISKS}/": "disks.list()",
    SSH_KEYS: "ssh_keys.list()",
}
"""Calls that list the items created by a POST, by the path of the POST."""
_PERMISSIONS: Final[Mapping[str, str]] = {PODS: "Instances", DISKS: "Disks"}
"""Names of a key's permissions, by the prefix of the path."""


def remedy_for(status: int, request: Request, settings: Settings, *, is_json: bool) -> str:
    """Return the remedy for an error response.

    A 401 or 403 that is not JSON is assumed to be a gateway's.
    """
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        if is_json:
            return _key_remedy(status, request, settings.key_source)
        return _gateway_remedy(settings.base_url)
    if status == HTTPStatus.NOT_FOUND:
        return _not_found_remedy(request, settings.base_url)
    if status == HTTPStatus.TOO_MANY_REQUESTS and not is_idempotent(request.method):
        return "The request was not carried out: send it again later."
    if status == HTTPStatus.CONFLICT and request.path.startswith(PODS):
        return "Look at the state of the pod with `pods.get()`, then try again."
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        remedy = server_failure_remedy(request)
        return remedy[0].upper() + remedy[1:]
    return "See the API's message."


def server_failure_remedy(request: Request) -> str:
    """Return the remedy for a failure of the server, to continue a sentence."""
    remedy = remedy_after_failure(request, if_idempotent="try later.")
    return f"the API, or a gateway in front of it, failed: {remedy}"


def remedy_after_failure(request: Request, *, if_idempotent: str) -> str:
    """Return the remedy for a request that failed after it was sent, to continue a sentence.

    ``if_idempotent`` is the remedy for an idempotent request, which can be sent again.
    """
    if is_idempotent(request.method):
        return if_idempotent
    listing = _LISTED_BY.get(request.path) if request.method == "POST" else None
    where = "" if listing is None else f" in `{listing}`"
    return (
        f"the {request.method} may still have been carried out. Look for its effect{where} before you send "
        "it again."
    )


def _not_found_remedy(request: Request, base_url: str) -> str:
    if request.path in _LISTINGS:
        return f"The path does not exist at {base_url}: check the base URL (by default {DEFAULT_BASE_URL})."
    if request.path.startswith(PODS):
        return MISSING_POD
    if request.path.startswith(DISKS):
        return _MISSING_DISK
    return f"Check the path, the ids in it and the base URL {base_url}."


def _gateway_remedy(base_url: str) -> str:
    return (
        f"This response is probably from a gateway, proxy or login page in front of {base_url}, not from the "
        "API. Check the base URL and the network, or try later."
    )


def _key_remedy(status: int, request: Request, key_source: str) -> str:
    need = "that allows the request"
    resource = next((name for path, name in _PERMISSIONS.items() if request.path.startswith(path)), None)
    if resource is not None:
        permission = "Read" if request.method in SAFE_METHODS else "Read and Write"
        need = f"with the permission {resource} ({permission})"
    if status == HTTPStatus.UNAUTHORIZED:
        return (
            f"The API key ({key_source}) is wrong or expired: replace it by one {need}, which you create at "
            f"{KEY_PAGE}."
        )
    return (
        f"The request needs an API key {need}; see {KEY_PAGE}. A 403 can also mean that the API does not "
        "accept the key, or that the pod is another team's."
    )
