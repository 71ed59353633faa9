"""Faults of connections and of the HTTP protocol."""

from __future__ import annotations

import math

import attrs
from attrs import validators

from .._api.http import Response
from ._base import DURATION, Fault, Raw, ReplacedResponse, status_phrase


@attrs.frozen
class Reset(ReplacedResponse):
    """The connection is reset before the API receives the request or, with ``acted``, after it acted."""

    def outcome(self, response: Response) -> Raw:
        del response
        return Raw(None, reset=True)


@attrs.frozen
class Cut(Fault):
    """The API acts; the connection is closed after ``share`` of the body's bytes."""

    share: float = attrs.field(
        default=0.5,
        validator=[validators.instance_of((int, float)), validators.ge(0), validators.lt(1)],
    )

    def outcome(self, response: Response) -> Raw:
        kept = int(len(response.body) * self.share)
        return Raw(response.status, (_head(response, len(response.body)), response.body[:kept]))


@attrs.frozen
class WrongLength(Fault):
    """The API acts; the response's Content-Length is ``by`` bytes too large (too small if negative)."""

    by: int = attrs.field(default=10, validator=validators.instance_of(int))

    def outcome(self, response: Response) -> Raw:
        return Raw(response.status, (_head(response, max(0, len(response.body) + self.by)), response.body))


@attrs.frozen
class Drip(Fault):
    """The API acts; the body is sent in at most ``pieces`` pieces, spread over ``seconds``."""

    seconds: float = attrs.field(validator=DURATION)
    pieces: int = attrs.field(default=10, validator=[validators.instance_of(int), validators.ge(1)])

    def outcome(self, response: Response) -> Raw:
        body, size = response.body, max(1, math.ceil(len(response.body) / self.pieces))
        parts = tuple(body[at : at + size] for at in range(0, len(body), size))
        return Raw(
            response.status, (_head(response, len(body)), *parts), pause=self.seconds / max(1, len(parts))
        )


@attrs.frozen
class BadChunk(Fault):
    """The API acts; the response is chunked, and the size of one chunk is not a number."""

    def outcome(self, response: Response) -> Raw:
        half = len(response.body) // 2
        # An empty chunk would end the body.
        first = b"%x\r\n%s\r\n" % (half, response.body[:half]) if half else b""
        second = b"zz\r\n" + response.body[half:] + b"\r\n0\r\n\r\n"
        return Raw(response.status, (_head(response, None), first, second))


def _head(response: Response, length: int | None) -> bytes:
    """Return the head of a response, with ``length`` as its Content-Length; ``None`` for a chunked body."""
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    headers = {"Content-Type": "application/json", **response.headers, **framing, "Connection": "close"}
    lines = [
        f"HTTP/1.1 {response.status} {status_phrase(response.status)}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"
