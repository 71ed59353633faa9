"""What can go wrong between a client and the API, each as a value. `FaultPlan` says when it does.

Times are on the emulator's clock: with a `ManualClock`, a delay lasts until the test has advanced it.
"""

import json
import math
from http import HTTPStatus
from typing import Any, ClassVar

from attrs import Attribute, field, frozen, validators

from ._api.http import Reply
from ._api.shapes import encode

HTML = b"<html><body>%d %s</body></html>"

_BODIES: dict[int, object] = {
    401: {"detail": "Invalid token"},
    402: {"detail": "Insufficient funds"},
    403: {"detail": "Not authenticated"},
    404: {"detail": "Pod not found"},
    422: {"errors": [{"param": "pod_ids", "details": "Input should be a valid string"}]},
    429: {"message": "Too many requests"},
}
_GATEWAY = range(502, 505)


@frozen
class Raw:
    """Bytes for the wire as they are, after which the connection ends."""

    status: int | None
    """What the log says was answered."""
    pieces: tuple[bytes, ...] = ()
    pause: float = 0.0
    """Seconds between the pieces."""
    reset: bool = False
    """Whether it ends with a reset, and not with a proper close."""


@frozen
class Fault:
    """The base of all faults: one that changes nothing."""

    ends: ClassVar[bool] = True
    """Whether it decides the answer, so that no later rule is asked."""

    @property
    def waits(self) -> float:
        """Seconds by which it holds the request up."""
        return 0.0

    @property
    def lags(self) -> float:
        """Seconds by which what the request sees lags behind."""
        return 0.0

    @property
    def reaches(self) -> bool:
        """Whether the API gets the request, and acts on it."""
        return True

    def outcome(self, reply: Reply) -> Reply | Raw:
        """What the client gets, given the reply of the API (an empty one if it did not get the request)."""
        return reply


def _seconds(instance: object, attribute: "Attribute[Any]", value: float) -> None:
    del instance
    if math.isnan(value) or value < 0:
        msg = f"{attribute.name} must be zero or more seconds, not {value!r}"
        raise ValueError(msg)


_number = validators.instance_of((int, float))
_flag = validators.instance_of(bool)


@frozen
class Status(Fault):
    """An error of the API or of a gateway before it.

    `status` is the code; `retry_after` becomes the header of that name, seconds or an HTTP date; `body` is
    JSON and by default what the API sends with the code (gateways send HTML); with `acted` the API does what
    was asked and only the answer is an error.
    """

    status: int = field(validator=[validators.instance_of(int), validators.ge(200), validators.lt(600)])
    retry_after: float | str | None = field(
        default=None, kw_only=True, validator=validators.optional(validators.instance_of((int, float, str)))
    )
    body: object = field(default=None, kw_only=True)
    acted: bool = field(default=False, kw_only=True, validator=_flag)

    @property
    def reaches(self) -> bool:
        """Only if it acts."""
        return self.acted

    def outcome(self, reply: Reply) -> Reply:
        """The error."""
        del reply
        headers = {} if self.retry_after is None else {"Retry-After": _plain(self.retry_after)}
        if self.body is None and self.status in _GATEWAY:
            return _html(self.status, headers)
        default = _BODIES.get(self.status, {"detail": _phrase(self.status)})
        return Reply(self.status, encode(default if self.body is None else self.body), headers)


@frozen
class Delay(Fault):
    """The request reaches the API `seconds` later; `math.inf`: it never does. Other faults can follow."""

    ends: ClassVar[bool] = False
    seconds: float = field(validator=[_number, _seconds])

    @property
    def waits(self) -> float:
        """As long as it says."""
        return self.seconds


@frozen
class Reset(Fault):
    """The connection is reset before the API gets the request or, with `acted`, after it acted."""

    acted: bool = field(default=False, validator=_flag)

    @property
    def reaches(self) -> bool:
        """Only if it acts."""
        return self.acted

    def outcome(self, reply: Reply) -> Raw:
        """Nothing, and that abruptly."""
        del reply
        return Raw(None, reset=True)


@frozen
class Cut(Fault):
    """The API acts; after `share` of the body's bytes the connection is closed."""

    share: float = field(default=0.5, validator=[_number, validators.ge(0), validators.lt(1)])

    def outcome(self, reply: Reply) -> Raw:
        """The head, and the beginning of the body."""
        kept = int(len(reply.body) * self.share)
        return Raw(reply.status, (_head(reply, len(reply.body)), reply.body[:kept]))


@frozen
class WrongLength(Fault):
    """The API acts; the head of the answer promises `by` bytes more than there are (less, if negative)."""

    by: int = field(default=10, validator=validators.instance_of(int))

    def outcome(self, reply: Reply) -> Raw:
        """A head that lies, and the body."""
        return Raw(reply.status, (_head(reply, max(0, len(reply.body) + self.by)), reply.body))


@frozen
class Html(Fault):
    """A page for people where JSON is due; the API does not get the request, or acts on it with `acted`."""

    status: int = field(
        default=200, validator=[validators.instance_of(int), validators.ge(200), validators.lt(600)]
    )
    acted: bool = field(default=False, kw_only=True, validator=_flag)

    @property
    def reaches(self) -> bool:
        """Only if it acts."""
        return self.acted

    def outcome(self, reply: Reply) -> Reply:
        """The page."""
        del reply
        return _html(self.status, {})


@frozen
class Empty(Fault):
    """The API acts; the answer has its status, and no body at all."""

    def outcome(self, reply: Reply) -> Reply:
        """The status."""
        return Reply(reply.status, b"", reply.headers)


@frozen
class EmptyData(Fault):
    """A replica that knows nothing: the usual answer without its rows, or with `null` for them."""

    null: bool = field(default=False, validator=_flag)

    def outcome(self, reply: Reply) -> Reply:
        """The answer, emptied."""
        try:
            body = json.loads(reply.body)
        except ValueError:
            return reply
        for key in ("data", "items"):
            if key in body:
                body[key] = None if self.null else []
        for key in ("total_count", "totalCount"):
            if key in body:
                body[key] = 0
        return Reply(reply.status, encode(body), reply.headers)


@frozen
class Stale(Fault):
    """A replica that lags: list, get, status and history show the world as it was so many seconds ago."""

    ends: ClassVar[bool] = False
    seconds: float = field(validator=[_number, _seconds])

    @property
    def lags(self) -> float:
        """As long as it says."""
        return self.seconds


@frozen
class Redirect(Fault):
    """The client is sent to `location`; the API does not get the request."""

    location: str = field(validator=[validators.instance_of(str), validators.matches_re(r"[!-~]+")])
    status: int = field(
        default=307, validator=[validators.instance_of(int), validators.ge(300), validators.lt(400)]
    )

    @property
    def reaches(self) -> bool:
        """Never."""
        return False

    def outcome(self, reply: Reply) -> Reply:
        """The redirect."""
        del reply
        return Reply(self.status, encode({"detail": _phrase(self.status)}), {"Location": self.location})


@frozen
class Drip(Fault):
    """The API acts; the body comes in `pieces` pieces, spread over `seconds`."""

    seconds: float = field(validator=[_number, _seconds])
    pieces: int = field(default=10, validator=[validators.instance_of(int), validators.ge(1)])

    def outcome(self, reply: Reply) -> Raw:
        """The head at once, then the body piece by piece."""
        body, size = reply.body, max(1, math.ceil(len(reply.body) / self.pieces))
        parts = tuple(body[at : at + size] for at in range(0, len(body), size))
        return Raw(reply.status, (_head(reply, len(body)), *parts), pause=self.seconds / max(1, len(parts)))


@frozen
class BadChunk(Fault):
    """The API acts; the answer is in chunks, the second of which has a size that is no number."""

    def outcome(self, reply: Reply) -> Raw:
        """One good chunk, one bad."""
        half = max(1, len(reply.body) // 2)
        first = b"%x\r\n%s\r\n" % (half, reply.body[:half])
        return Raw(
            reply.status, (_head(reply, None), first, b"zz\r\n" + reply.body[half:] + b"\r\n0\r\n\r\n")
        )


KINDS: dict[str, type[Fault]] = {
    "status": Status,
    "delay": Delay,
    "reset": Reset,
    "cut": Cut,
    "wrong_length": WrongLength,
    "html": Html,
    "empty": Empty,
    "empty_data": EmptyData,
    "stale": Stale,
    "redirect": Redirect,
    "drip": Drip,
    "bad_chunk": BadChunk,
}
"""The faults by the names that they have over HTTP."""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _html(status: int, headers: dict[str, str]) -> Reply:
    body = HTML % (status, _phrase(status).encode())
    return Reply(status, body, {"Content-Type": "text/html", **headers})


def _head(reply: Reply, length: int | None) -> bytes:
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    headers = {"Content-Type": "application/json", **reply.headers, **framing, "Connection": "close"}
    lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"
