"""Requests and replies as plain values, and the API's ways to say no. Pure: no sockets, no state."""

import re
from typing import overload
from urllib.parse import parse_qsl

from attrs import field, frozen

from .shapes import encode

INT64 = 2**63
_INTEGER = re.compile(r"-?[0-9]{1,40}")


@frozen(kw_only=True)
class Call:
    """One request, taken apart."""

    method: str
    path: str
    query: list[tuple[str, str]]
    host: str = ""
    authorization: str | None = None
    body: bytes = b""
    raw_query: str = ""
    lag: float = 0.0
    """Seconds by which the answer lags behind: not of the request's choosing, but of a fault's."""


@frozen
class Reply:
    """One answer; its body is JSON unless a fault has been at it."""

    status: int
    body: bytes
    headers: dict[str, str] = field(factory=dict[str, str])


class Refused(Exception):  # noqa: N818  an answer, not an error of the emulator
    """Raised by whatever finds a reason not to serve a request; carries the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def ok(value: object) -> Reply:
    """200 with `value` as JSON."""
    return Reply(200, encode(value))


def detail(status: int, text: str, headers: dict[str, str] | None = None) -> Reply:
    """An error in the shape `{"detail": text}`."""
    return Reply(status, encode({"detail": text}), headers if headers is not None else {})


def invalid(*errors: tuple[str, str]) -> Refused:
    """422 in the schema's shape, from pairs of parameter and explanation."""
    body = {"errors": [{"param": param, "details": details} for param, details in errors]}
    return Refused(Reply(422, encode(body)))


def parse_query(raw: str) -> list[tuple[str, str]]:
    """All pairs of a query string in their order, blank values included."""
    if "%" not in raw and "+" not in raw:
        pairs = (part.partition("=") for part in raw.split("&") if part)
        return [(key, value) for key, _, value in pairs]
    return parse_qsl(raw, keep_blank_values=True, errors="replace")


def scalar(call: Call, name: str) -> str | None:
    """The one value of a query key, or `None`; a key given twice is refused."""
    values = many(call, name)
    if len(values) > 1:
        raise invalid((name, "Input should be given once"))
    return values[0] if values else None


def many(call: Call, name: str) -> list[str]:
    """All values of a repeated query key; values with a NUL byte are refused."""
    values = [value for key, value in call.query if key == name]
    if any("\0" in value for value in values):
        raise invalid((name, "Input should not contain NUL bytes"))
    return values


@overload
def integer(call: Call, name: str, default: int, *, low: int = ..., high: int = ...) -> int: ...
@overload
def integer(call: Call, name: str, default: None, *, low: int = ..., high: int = ...) -> int | None: ...
def integer(
    call: Call, name: str, default: int | None, *, low: int = -INT64, high: int = INT64 - 1
) -> int | None:
    """The integer value of a query key; anything that is none, or out of bounds, is refused."""
    text = scalar(call, name)
    if text is None:
        return default
    if not _INTEGER.fullmatch(text):
        raise invalid((name, "Input should be a valid integer, unable to parse string as an integer"))
    value = int(text)
    if value < low:
        raise invalid((name, f"Input should be greater than or equal to {low}"))
    if value > high:
        raise invalid((name, f"Input should be less than or equal to {high}"))
    return value


def choice(call: Call, name: str, allowed: tuple[str, ...]) -> str | None:
    """The value of a query key that must be one of `allowed` if it is there."""
    value = scalar(call, name)
    if value is not None and value not in allowed:
        raise invalid((name, "Input should be " + " or ".join(repr(word) for word in allowed)))
    return value
