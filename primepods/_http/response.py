"""Conversion of responses to data or errors, without I/O."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from .._utils.clock import parse_http_date
from .._utils.secret import Secret
from .._utils.strict_json import loads, show
from .._utils.text import one_line
from ..config import Settings
from ..errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    ValidationError,
)
from .error_body import read_error, scrub_value
from .remedies import MISSING_POD, remedy_for, server_failure_remedy
from .request import PODS, Request
from .transient import is_transient

_MAX_EXCERPT_LENGTH: Final = 200
_EPOCH_SECONDS: Final = 1_000_000_000
"""A ``Retry-After`` of at least this is a time since the epoch: as a duration it would be 31 years."""
_ERROR_CLASSES: Final[Mapping[int, type[APIError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitError,
}
_PASSWORD: Final = re.compile(
    r"""
    ("[^"]*password[^"]*"\s*:\s*)
    (
        "(?:[^"\\]|\\.)*(?:"|\\?$)  # a string
        | [\[{].*                    # an array or object, and all after it: it may be nested
        | [^",\]\}\s]+              # a number, true, false, null
    )
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
"""A JSON member with a password, which may be cut off; group 1 is everything before the value."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Response:
    """A complete response.

    Attributes:
        status: HTTP status.
        headers: Headers, with names in lower case.
        body: The decompressed body.
        sent_count: Number of times that the server may have received the request.
    """

    status: int
    # Hidden, because rich's tracebacks show the fields of an attrs class even if the class has `repr=False`.
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    sent_count: int = 1


def parse_response(request: Request, response: Response, *, settings: Settings, now: float) -> Any:
    """Return the data of a response to a client with these settings, or raise the error that it reports.

    ``now`` is in seconds since the epoch.

    Raises:
        APIError: The status is not 2xx; for common statuses, a subclass.
        ProtocolError: The response is not from the API, or has no usable content.
    """
    if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        return _parse_success(request, response, settings.api_key)
    raise _build_error(request, response, settings, now)


def _parse_success(request: Request, response: Response, key: Secret) -> Any:
    if not response.body.strip():
        may_be_empty = request.text_allowed or response.status == HTTPStatus.NO_CONTENT
        if request.method == "GET" and not may_be_empty:
            raise protocol_error(request, "an empty body", key, found=response.body)
        return None
    try:
        return loads(response.body)
    except ValueError as exc:
        reason = f"not JSON ({exc})"
    # Raise outside the `except`: otherwise the decoder's error, which holds the whole document, would be the
    # context of this one.
    content_type = response.headers.get("content-type", "").lower()
    looks_like_html = response.body.lstrip()[:1] == b"<" and not content_type.startswith("text/plain")
    if "html" in content_type or looks_like_html:
        # HTML is from a login page or a gateway (imagined), not from the API.
        reason = "HTML"
    elif request.text_allowed:
        return response.body.decode(errors="replace")
    raise protocol_error(request, reason, key, found=response.body)


def _build_error(
    request: Request, response: Response, settings: Settings, now: float
) -> APIError | ProtocolError:
    status, key = response.status, settings.api_key
    body = read_error(response.body, key)
    # The response to a HEAD has no body: assume that it is from the API.
    is_json = body.is_json or request.method == "HEAD"
    if status == HTTPStatus.NOT_FOUND and not is_json:
        # A gateway's 404 (imagined) must not become a NotFoundError: the pod may be running, and billed.
        return protocol_error(request, "not JSON, with status 404", key, found=response.body)
    default_class = ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else APIError
    error_class = _ERROR_CLASSES.get(status, default_class)
    fields: dict[str, Any] = {
        "status_code": status,
        "method": request.method,
        "path": request.path,
        "message": body.message,
        "body": body.value,
        "headers": {key.scrub(name): key.scrub(value) for name, value in response.headers.items()},
        "retry_after": read_retry_after(response.headers, now=now),
        "transient": is_transient(status, is_json=is_json),
    }
    if error_class is ValidationError:
        fields["errors"] = body.errors
    phrase = f"{status} {http.client.responses.get(status, '')}".strip()
    remedy = remedy_for(status, request, settings, is_json=is_json)
    return error_class(f"{request.method} {request.path}: {phrase}: {body.message} {remedy}", **fields)


def missing_row_error(pod_id: str) -> NotFoundError:
    """Build the error for a pod that has no row in a successful response about statuses."""
    path, message = f"{PODS}/status", f"The response has no row for pod {pod_id!r}."
    return NotFoundError(
        f"GET {path}: {message} {MISSING_POD}",
        status_code=404,
        method="GET",
        path=path,
        message=message,
    )


def read_retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the number of seconds that a response asks to wait, or ``None``.

    ``Retry-After`` is a number of seconds or a date. Other APIs are reported to send seconds since the epoch.
    A date or time is compared with the response's own ``Date``, because clocks differ.

    Args:
        headers: Headers of the response, with names in lower case.
        now: Seconds since the epoch, used if the response has no ``Date``.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]+)?", text):
        seconds = float(text)
        if seconds < _EPOCH_SECONDS:
            return seconds
        retry_at: float | None = seconds
    else:
        retry_at = parse_http_date(text)
    if retry_at is None:
        return None
    server_time = parse_http_date(headers.get("date", ""))
    return max(0.0, retry_at - (now if server_time is None else server_time))


def protocol_error(  # noqa: PLR0913 - all that is known of an invalid response
    request: Request,
    reason: str,
    key: Secret,
    *,
    found: object = None,
    path: str = "",
    remedy: str | None = None,
    transient: bool = True,
) -> ProtocolError:
    """Build the error for an invalid response.

    Args:
        request: The request.
        reason: The end of the sentence "the API's response is invalid: …".
        key: The key to redact from the excerpt.
        found: The invalid bytes or JSON value, of which a short excerpt is shown.
        path: Path inside the response.
        remedy: What the user can do; by default, check the base URL.
        transient: Whether a retry can succeed.
    """
    excerpt = "" if "password" in path.lower() else _excerpt(found, key)
    where = f" at {path}" if path else ""
    begins = "The value begins" if path else "The response begins"
    excerpt_text = f" {begins}: {excerpt!r}." if excerpt else ""
    if remedy is None:
        remedy = f"Check the base URL. If it is right, {server_failure_remedy(request)}"
    problem = f"the API's response is invalid{where}: {key.scrub(reason)}."
    text = f"{request.method} {request.path}: {problem}{excerpt_text} {remedy}"
    return ProtocolError(
        text, method=request.method, url_path=request.path, path=path, excerpt=excerpt, transient=transient
    )


def _excerpt(found: object, key: Secret) -> str:
    if found is None:
        return ""
    if isinstance(found, bytes):
        # Redact before clipping, or a part of the key could remain at the end.
        text = key.scrub(found.decode(errors="replace"))
    else:
        text = show(scrub_value(found, key))
    # Clip before redacting passwords, to limit the work, but to four times the length: redaction shortens the
    # text.
    clipped = text[: 4 * _MAX_EXCERPT_LENGTH]
    return one_line(_PASSWORD.sub(r'\1"[redacted]"', clipped))[:_MAX_EXCERPT_LENGTH]
