"""Answers, deciphered without I/O: into data, or into the error that they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from .._utils.secret import Secret
from .._utils.strict_json import is_list, is_object, loads, show
from .._utils.text import one_line
from ..config import KEY_PAGE
from ..errors import (
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
from .request import PODS, Request

_EXCERPT: Final = 200
_DEEPEST_MESSAGE: Final = 5
_LONGEST_TEXT: Final = 20_000
"""Characters of an error's text that are looked at for a message of 500."""
_MOST_ERRORS: Final = 1_000
_TRANSIENT_STATUSES: Final = frozenset({408, 421, 425, 429})
"""Besides 5xx: timed out, misdirected, too early, too many."""
_LASTING_SERVER_ERRORS: Final = frozenset({501, 505})
_PASSWORD: Final = re.compile(
    r"""("[^"]*password[^"]*"\s*:\s*)("(?:[^"\\]|\\.)*(?:"|\\?$)|\[[^\]]*\]?|\{[^}]*\}?|[^",\]\}\s]+)""",
    re.IGNORECASE,
)


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
        ProtocolError: A success or a 404 that is not JSON.
    """
    if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        return _success(request, response, key)
    if response.status == HTTPStatus.NOT_FOUND and request.method != "HEAD" and not _is_json(response):
        # Not from the API: a pod that a gateway does not know may run, and be billed.
        what = "a web page" if is_html(response) else "no JSON"
        raise protocol_error(request, f"{what}, with the status 404", response.body, key)
    raise _failure(request, response, key, retry_after)


def _success(request: Request, response: Response, key: Secret) -> Any:
    if not response.body.strip():
        if request.method == "GET" and not request.text_allowed and response.status != HTTPStatus.NO_CONTENT:
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


def _is_transient(response: Response) -> bool:
    """Tell whether asking again later can help, after an answer that is an error."""
    status = response.status
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        # The API explains these in JSON; anything else is a gateway's page, which says nothing of the key.
        return not _is_json(response)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return status not in _LASTING_SERVER_ERRORS
    return status in _TRANSIENT_STATUSES


def _is_json(response: Response) -> bool:
    try:
        loads(response.body)
    except ValueError:
        return False
    return True


def is_html(response: Response) -> bool:
    """Tell whether a web page came back: a login page or a gateway, not the API."""
    kind = response.headers.get("content-type", "").lower()
    return "html" in kind or (response.body.lstrip()[:1] == b"<" and not kind.startswith("text/plain"))


def protocol_error(  # noqa: PLR0913 - what is known of a broken answer
    request: Request,
    reason: str,
    found: object,
    key: Secret,
    *,
    path: str = "",
    remedy: str | None = None,
    transient: bool = True,
) -> ProtocolError:
    """Build the error for an answer that breaks the contract.

    Args:
        request: What was asked.
        reason: What came back, as the end of "the answer is …".
        found: The offending bytes or JSON value, shown as a short excerpt.
        key: Redacted from the excerpt.
        path: Where in the answer.
        remedy: What to do; the default suspects the base URL or a gateway.
        transient: Whether asking again can help.
    """
    excerpt = "" if "password" in path.lower() else _excerpt(found, key)
    where = f" at {path}" if path else ""
    shown = f" The answer begins: {excerpt!r}." if excerpt else ""
    remedy = remedy or "Check the base URL; if it is right, the API or a gateway before it failed: try later."
    reason = key.scrub(reason)
    text = f"{request.method} {request.path}: the API's answer is broken{where}: {reason}.{shown} {remedy}"
    return ProtocolError(
        text, method=request.method, url_path=request.path, path=path, excerpt=excerpt, transient=transient
    )


def _excerpt(found: object, key: Secret) -> str:
    if found is None:
        return ""
    if isinstance(found, bytes):
        # Scrubbed before it is cut, or half of the key could be left at the end.
        text = key.scrub(found.decode(errors="replace"))
    else:
        text = show(_scrubbed(found, key))
    return one_line(_PASSWORD.sub(r'\1"[redacted]"', text[: 4 * _EXCERPT]))[:_EXCERPT]


def _scrubbed(value: Any, key: Secret) -> Any:
    """Return a decoded value without the key, however the JSON spelt it; ``None`` for a bottomless one."""
    try:
        return _scrub(value, key)
    except RecursionError:
        return None


def _scrub(value: Any, key: Secret) -> Any:
    if isinstance(value, str):
        return key.scrub(value)
    if is_list(value):
        return [_scrub(item, key) for item in value]
    if is_object(value):
        return {key.scrub(name): _scrub(item, key) for name, item in value.items()}
    return value


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
    402: "Add funds to the wallet.",
    404: "Check the id; a terminated pod leaves list, get and status and is found in `pods.history()`.",
    409: "Look at the state of the pod with `pods.get()`, then try again.",
    413: "Send less at once.",
    422: "Correct the parameters named.",
    429: "Ask less often, share one client, or give RetryPolicy a larger max_delay.",
}


def _remedy(status: int, request: Request) -> str:
    """Say what to do about an error."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _key_remedy(status, request)
    if status == HTTPStatus.NOT_FOUND and not request.path.startswith(PODS):
        return "Check the path and the ids in it."
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "The API or a gateway before it failed: try later."
    return _REMEDIES.get(status, "See the API's message.")


def _key_remedy(status: int, request: Request) -> str:
    need = "that allows this"
    if request.path.startswith(PODS):
        reads = request.method in {"GET", "HEAD", "OPTIONS"}
        need = f"with the permission Instances: {'Read' if reads else 'Read and Write'}"
    if status == HTTPStatus.UNAUTHORIZED:
        return (
            f"The API key is missing, wrong or expired: make one {need} at {KEY_PAGE} and pass it as api_key "
            "or set PRIME_API_KEY."
        )
    return (
        f"This needs an API key {need}; see {KEY_PAGE}. The API also says so to a key that it does not know, "
        "and for pods of another team."
    )


def _failure(request: Request, response: Response, key: Secret, retry_after: float | None) -> APIError:
    body, message, errors = _read_error(response, key)
    status = response.status
    kind = _CLASSES.get(status, ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else APIError)
    fields: dict[str, Any] = {
        "status_code": status,
        "method": request.method,
        "path": request.path,
        "message": message,
        "body": body,
        "headers": {name: key.scrub(value) for name, value in response.headers.items()},
        "retry_after": retry_after,
        "transient": _is_transient(response),
    }
    if kind is ValidationError:
        fields["errors"] = errors
    phrase = f"{status} {_phrase(status)}".strip()
    text = f"{request.method} {request.path}: {phrase}: {message} {_remedy(status, request)}"
    return kind(text, **fields)


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
    try:
        body = _scrubbed(loads(response.body), key)
    except ValueError:
        text = key.scrub(response.body.decode(errors="replace"))
        return text or None, _sentence(key.scrub(_plain(text))) or "The answer has no text.", ()
    errors = _field_errors(body)
    if errors:
        return (
            body,
            _sentence("; ".join(f"{e.param}: {e.details}" if e.param else e.details for e in errors)),
            errors,
        )
    return body, _sentence(_message(body)) or "The answer has no text.", ()


def _plain(text: str) -> str:
    """Return the words of a web page: its title, or all of them; other text as it is."""
    text = text[:_LONGEST_TEXT]
    if "<" not in text:
        return text
    import html  # noqa: PLC0415 - it holds a large table, which few programs ever need

    title = re.search(r"<title[^<>]*>([^<]+)", text, re.IGNORECASE)
    return html.unescape(title[1] if title else re.sub(r"<[^<>]*>", " ", text))


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
        for entry in entries[:_MOST_ERRORS] if is_list(entries) else ():
            if is_object(entry):
                found.append(_field_error(entry))
            elif isinstance(entry, str):
                found.append(FieldError("", one_line(entry)))
    return tuple(found)


def _field_error(entry: dict[str, Any]) -> FieldError:
    place = entry.get("loc")
    if is_list(place):
        parts = [_words(part) for part in place]
        param = ".".join(parts[1:] if parts[:1] in (["body"], ["query"], ["path"]) and parts[1:] else parts)
    else:
        param = _words(entry.get("param") or "")
    details = entry.get("details") or entry.get("msg") or entry.get("message") or entry
    return FieldError(one_line(param), one_line(_words(details)))


def _words(value: Any) -> str:
    return (value if isinstance(value, str) else show(value))[:_LONGEST_TEXT]


def _sentence(text: str) -> str:
    """Return the server's words as one short line that ends like a sentence."""
    line = one_line(text.strip()[:_LONGEST_TEXT])
    longest = 500
    if len(line) > longest:
        line = f"{line[:longest]}…"
    return line if not line or line[-1] in ".!?…" else f"{line}."
