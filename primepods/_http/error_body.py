"""Parser of error responses, which have several formats."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from .._utils.secret import Secret
from .._utils.strict_json import is_list, is_object, loads, show
from .._utils.text import one_line
from ..errors import FieldError

_MAX_MESSAGE_DEPTH: Final = 5
_MAX_MESSAGE_LENGTH: Final = 500
_MAX_TEXT_LENGTH: Final = 20_000
"""Max characters used of one text."""
_MAX_ERRORS: Final = 1_000


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ErrorBody:
    """Content of an error response, with the key redacted.

    Attributes:
        value: The decoded JSON, or else the text; ``None`` if the body is empty or nested too deeply.
        is_json: Whether the body is JSON.
        message: The response's message as one line, with punctuation at its end.
        errors: The problems that the response lists, usually one per parameter.
    """

    value: Any
    is_json: bool
    message: str
    errors: tuple[FieldError, ...] = ()


def read_error(body: bytes, key: Secret) -> ErrorBody:
    """Parse the body of an error response, in any format."""
    try:
        value = scrub_value(loads(body), key)
    except ValueError:
        text = key.scrub(body.decode(errors="replace"))
        # Scrub again: decoding HTML escapes can reveal the key.
        message = key.scrub(_text_of_page(text))
        return ErrorBody(value=text or None, is_json=False, message=_sentence(message))
    errors = _field_errors(value)
    if errors:
        message = "; ".join(
            f"{error.param}: {error.details}" if error.param else error.details for error in errors
        )
    else:
        message = _message(value)
    return ErrorBody(value=value, is_json=True, message=_sentence(message), errors=errors)


def scrub_value(value: Any, key: Secret) -> Any:
    """Return a decoded value with the key redacted; ``None`` if the value is nested too deeply."""
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


def _text_of_page(text: str) -> str:
    """Return the readable part of a text that is not JSON: a web page's title, or the text without tags."""
    import html  # noqa: PLC0415 - it holds a large table that few programs need

    text = text[:_MAX_TEXT_LENGTH]
    title = re.search(r"<title[^<>]*>([^<]+)", text, re.IGNORECASE)
    return html.unescape(title[1] if title else re.sub(r"<[^<>]*>", " ", text))


def _message(body: Any, depth: int = 0) -> str:
    if is_object(body) and depth < _MAX_MESSAGE_DEPTH:
        for name in ("detail", "message", "error", "errors", "msg", "title"):
            if body.get(name):
                return _message(body[name], depth + 1)
    if isinstance(body, str):
        return body
    return show(body) if body else ""


def _field_errors(body: Any) -> tuple[FieldError, ...]:
    """Parse ``{"errors": [{param, details}]}`` (documented) and ``{"detail": [{loc, msg}]}`` (reported)."""
    if not is_object(body):
        return ()
    lists = [entries for entries in (body.get("errors"), body.get("detail")) if is_list(entries)]
    found = [_field_error(entry) for entries in lists for entry in entries[:_MAX_ERRORS]]
    return tuple(error for error in found if error is not None)


def _field_error(entry: Any) -> FieldError | None:
    if isinstance(entry, str):
        return FieldError("", one_line(entry))
    if not is_object(entry):
        return None
    place = entry.get("loc")
    if is_list(place):
        parts = [_as_text(part) for part in place]
        if len(parts) > 1 and parts[0] in {"body", "query", "path"}:
            del parts[0]
        param = ".".join(parts)
    else:
        param = _as_text(entry.get("param") or "")
    details = entry.get("details") or entry.get("msg") or entry.get("message") or entry
    # Pydantic adds this prefix; the server is reported to send Pydantic's messages.
    return FieldError(one_line(param), one_line(_as_text(details)).removeprefix("Value error, "))


def _as_text(value: Any) -> str:
    text = value if isinstance(value, str) else show(value)
    return text[:_MAX_TEXT_LENGTH]


def _sentence(text: str) -> str:
    """Return the server's text as one short line with punctuation at its end."""
    line = one_line(text.strip()[:_MAX_TEXT_LENGTH]) or "The response has no text."
    if len(line) > _MAX_MESSAGE_LENGTH:
        line = f"{line[:_MAX_MESSAGE_LENGTH]}…"
    return line if line[-1] in ".!?…" else f"{line}."
