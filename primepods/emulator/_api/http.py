"""Requests and responses as plain values, query parsing, and error responses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

import attrs

Default = TypeVar("Default", int, None)

MAX_INT64 = 2**63 - 1
_INTEGER = re.compile(r"-?[0-9]{1,40}")


@attrs.frozen(kw_only=True)
class Request:
    method: str
    path: str
    query: list[tuple[str, str]]
    host: str = ""
    authorization: str | None = None
    body: bytes = b""
    raw_query: str = ""


@attrs.frozen(kw_only=True)
class Call(Request):
    """A request that the API carries out, with its key's permissions and what faults do to it."""

    scope: Mapping[str, Mapping[str, bool] | None] = attrs.field(factory=dict[str, "dict[str, bool] | None"])
    """Permissions of the request's key."""
    lag: float = 0.0
    """Age of the data in the response, in seconds."""
    deletion_lost_after: float | None = None
    """Seconds after which an accepted deletion is forgotten, and the pod is as before."""
    dead_gpus: int = 0
    """Number of GPUs of an ordered pod that do not respond."""


@attrs.frozen
class Response:
    """A response; the body is JSON unless a fault has changed it."""

    status: int
    body: bytes
    headers: dict[str, str] = attrs.field(factory=dict[str, str])


class ResponseError(Exception):
    """Raised to respond to a request at once, with an error or a redirect."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response: Response = response


def encode(value: object) -> bytes:
    """Encode as compact JSON; raises ``ValueError`` for NaN and infinity."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def ok(value: object) -> Response:
    return Response(200, encode(value))


def detail(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return a response in the shape ``{"detail": text}``."""
    return Response(status, encode({"detail": text}), headers or {})


def refuse(status: int, text: str) -> ResponseError:
    """Return an exception that carries an error in the shape ``{"detail": text}``."""
    return ResponseError(detail(status, text))


def invalid(*errors: tuple[str, str]) -> ResponseError:
    """Return an exception that carries a 422 in the schema's shape, from pairs of parameter and details."""
    body = {"errors": [{"param": param, "details": details} for param, details in errors]}
    return ResponseError(Response(422, encode(body)))


def parse_query(raw: str) -> list[tuple[str, str]]:
    """Return all pairs of a query string in their order, blank values included."""
    # Fast path: without escapes, skip decoding, which takes most of the time for a hundred ids.
    if "%" not in raw and "+" not in raw:
        pairs = (part.partition("=") for part in raw.split("&") if part)
        return [(key, value) for key, _, value in pairs]
    return parse_qsl(raw, keep_blank_values=True, errors="replace")


def query_values(request: Request, name: str) -> list[str]:
    """Return all values of a query key; refuse values with a NUL byte."""
    values = [value for key, value in request.query if key == name]
    if any("\0" in value for value in values):
        raise invalid((name, "Input should not contain NUL bytes"))
    return values


def query_value(request: Request, name: str) -> str | None:
    """Return the value of a query key, or ``None``; refuse a repeated key."""
    values = query_values(request, name)
    if len(values) > 1:
        raise invalid((name, "Input should be given once"))
    return values[0] if values else None


def query_integer(
    request: Request, name: str, *, default: Default, low: int = -MAX_INT64 - 1, high: int = MAX_INT64
) -> int | Default:
    """Return the integer value of a query key, or ``default``; refuse other text and values out of range."""
    text = query_value(request, name)
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


def query_choice(request: Request, name: str, allowed: tuple[str, ...]) -> str | None:
    """Return the value of a query key, or ``None``; refuse values that are not in ``allowed``."""
    value = query_value(request, name)
    if value is not None and value not in allowed:
        raise invalid((name, "Input should be " + " or ".join(repr(word) for word in allowed)))
    return value


def query_page(request: Request, max_limit: int) -> tuple[int, int]:
    """Return offset and limit of a list, clamped, since the schema accepts any integer."""
    offset = max(0, query_integer(request, "offset", default=0))
    limit = max(0, query_integer(request, "limit", default=100))
    return offset, min(limit, max_limit)
