"""Answers, deciphered without I/O: into data, or into the error that they mean."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from ._json import is_list, is_object, loads, show
from ._secret import Secret
from ._wire import Request
from .errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    FieldError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    ValidationError,
)

KEY_PAGE: Final = "https://app.primeintellect.ai/dashboard/tokens"
_EXCERPT: Final = 200
_DEEPEST_MESSAGE: Final = 5
_PASSWORD: Final = re.compile(r"""("[^"]*password[^"]*"\s*:\s*)("(?:[^"\\]|\\.)*("|$))""", re.IGNORECASE)


@attrs.define
class Memo:
    """The body of the last answer to a request that is made again and again."""

    body: bytes | None = attrs.field(default=None, repr=False)


UNCHANGED: Final = object()
"""Stands for the data of an answer that is the last one, to the byte."""


@attrs.frozen(kw_only=True)
class Response:
    """One answer, read to its end. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


def decipher(request: Request, response: Response, *, key: Secret, retry_after: float | None) -> Any:
    """Return the data of an answer, or raise what the answer means.

    Args:
        request: What was asked.
        response: What came back.
        key: Redacted wherever the server repeats it.
        retry_after: Seconds that the answer asked to wait.

    Raises:
        APIError: The API said no; one of its subclasses.
        ProtocolError: A success that is no JSON.
    """
    if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        return _success(request, response, key)
    raise _failure(request, response, key, retry_after)


def _success(request: Request, response: Response, key: Secret) -> Any:
    if not response.body.strip():
        if request.method == "GET" and not request.text_allowed:
            raise protocol_error(request, "an empty body", response.body, key)
        return None
    try:
        return loads(response.body)
    except ValueError as exc:
        reason = f"no JSON ({exc})"
    # Raised outside the `except`: the decoder's error holds the whole document.
    if is_html(response):
        reason = "HTML"
    elif request.text_allowed:
        return response.body.decode(errors="replace")
    raise protocol_error(request, reason, response.body, key)


def is_html(response: Response) -> bool:
    """Tell whether a web page came back: a login page or a gateway, not the API."""
    return "html" in response.headers.get("content-type", "") or response.body.lstrip()[:1] == b"<"


def protocol_error(  # noqa: PLR0913 - what is known of a broken answer
    request: Request, reason: str, found: object, key: Secret, *, path: str = "", remedy: str | None = None
) -> ProtocolError:
    """Build the error for an answer that breaks the contract.

    Args:
        request: What was asked.
        reason: What came back, as the end of "the answer is …".
        found: The offending bytes or JSON value, shown as a short excerpt.
        key: Redacted from the excerpt.
        path: Where in the answer.
        remedy: What to do; the default suspects the base URL or a gateway.
    """
    excerpt = _excerpt(found, key)
    where = f" at {path}" if path else ""
    shown = f" The answer begins: {excerpt!r}." if excerpt else ""
    remedy = remedy or "Check the base URL; if it is right, the API or a gateway before it failed: try later."
    reason = key.scrub(reason)
    text = f"{request.method} {request.path}: the API's answer is broken{where}: {reason}.{shown} {remedy}"
    return ProtocolError(text, method=request.method, url_path=request.path, path=path, excerpt=excerpt)


def _excerpt(found: object, key: Secret) -> str:
    if found is None:
        return ""
    text = found[: 4 * _EXCERPT].decode(errors="replace") if isinstance(found, bytes) else show(found)
    return key.scrub(one_line(_PASSWORD.sub(r'\1"[redacted]"', text)))[:_EXCERPT]


def one_line(text: str) -> str:
    """Return text from the server as one printable line: no control codes reach a terminal or log."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text.split()))


_CLASSES: Final[Mapping[int, type[APIError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitError,
}
_REMEDIES: Final[Mapping[int, str]] = {
    400: "Correct the request.",
    401: f"The API key is missing, wrong or expired: make one at {KEY_PAGE}, pass it as api_key.",
    402: "Add funds to the wallet.",
    404: "Check the id; a terminated pod leaves list, get and status and is found in `pods.history()`.",
    409: "Look at the state of the pod with `pods.get()`, then try again.",
    413: "Send less at once.",
    422: "Correct the parameters named.",
    429: "Ask less often, share one client, or give RetryPolicy a larger max_delay.",
}


def _permission_remedy(method: str) -> str:
    need = "Instances: Read" if method in {"GET", "HEAD", "OPTIONS"} else "Instances: Read and Write"
    return (
        f"This needs an API key with the permission {need}; see {KEY_PAGE}. The API also says so to a key "
        "that it does not know, and for pods of another team."
    )


def _failure(request: Request, response: Response, key: Secret, retry_after: float | None) -> APIError:
    body, message, errors = _read_error(response, key)
    status = response.status
    kind = _CLASSES.get(status, ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else APIError)
    if status == HTTPStatus.FORBIDDEN:
        remedy = _permission_remedy(request.method)
    elif kind is ServerError:
        remedy = "The API or a gateway before it failed: try later."
    else:
        remedy = _REMEDIES.get(status, "See the API's message.")
    fields: dict[str, Any] = {
        "status_code": status,
        "method": request.method,
        "path": request.path,
        "message": message,
        "body": body,
        "headers": {name: key.scrub(value) for name, value in response.headers.items()},
        "retry_after": retry_after,
    }
    if kind is ValidationError:
        fields["errors"] = errors
    phrase = f"{status} {_phrase(status)}".strip()
    return kind(f"{request.method} {request.path}: {phrase}: {message} {remedy}", **fields)


def missing_row(method: str, path: str, pod_id: str) -> NotFoundError:
    """Build the error for a pod of which a successful answer has no row."""
    message = f"The API has no pod {pod_id!r}."
    return NotFoundError(
        f"{method} {path}: {message} {_REMEDIES[404]}",
        status_code=404,
        method=method,
        path=path,
        message=message,
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _read_error(response: Response, key: Secret) -> tuple[Any, str, tuple[FieldError, ...]]:
    """Find the message in any of the shapes in which errors have been seen."""
    text = key.scrub(response.body.decode(errors="replace"))
    try:
        body: Any = loads(text.encode())
    except ValueError:
        plain = html.unescape(re.sub(r"<[^>]*>", " ", text)) if "<" in text else text
        message = _sentence(plain)
        return text or None, message or "The answer has no text.", ()
    errors = _field_errors(body)
    if errors:
        return (
            body,
            _sentence("; ".join(f"{e.param}: {e.details}" if e.param else e.details for e in errors)),
            errors,
        )
    return body, _sentence(_message(body)) or "The answer has no text.", ()


def _message(body: Any, depth: int = 0) -> str:
    if is_object(body) and depth < _DEEPEST_MESSAGE:
        for name in ("detail", "message", "error", "errors", "msg", "title"):
            if body.get(name):
                return _message(body[name], depth + 1)
    if isinstance(body, str):
        return body
    return show(body) if body else ""


def _field_errors(body: Any) -> tuple[FieldError, ...]:
    """Read ``{"errors": [{param, details}]}`` and ``{"detail": [{loc, msg}]}``."""
    if not is_object(body):
        return ()
    found: list[FieldError] = []
    for entries in (body.get("errors"), body.get("detail")):
        for entry in entries if is_list(entries) else ():
            if is_object(entry):
                found.append(_field_error(entry))
            elif isinstance(entry, str):
                found.append(FieldError("", one_line(entry)))
    return tuple(found)


def _field_error(entry: dict[str, Any]) -> FieldError:
    place = entry.get("loc")
    if is_list(place):
        parts = [str(part) for part in place]
        param = ".".join(parts[1:] if parts[:1] in (["body"], ["query"], ["path"]) and parts[1:] else parts)
    else:
        param = str(entry.get("param") or "")
    details = entry.get("details") or entry.get("msg") or entry.get("message") or show(entry)
    return FieldError(one_line(param), one_line(str(details)))


def _sentence(text: str) -> str:
    """Return the server's words as one short line that ends like a sentence."""
    line = one_line(text)
    longest = 500
    if len(line) > longest:
        line = f"{line[:longest]}…"
    return line if not line or line[-1] in ".!?…" else f"{line}."
