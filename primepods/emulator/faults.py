"""What can go wrong between a client and the API, each as a value. ``FaultPlan`` says when it does.

Times are on the emulator's clock: with a ``ManualClock``, a delay lasts until the test has advanced it. To
make a fault of your own, inherit from ``Fault``, and return a ``Reply`` or ``Raw`` bytes from ``outcome``.
"""

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar

import attrs
from attrs import validators

from ._api.http import Reply, encode

__all__ = [
    "KINDS",
    "BadChunk",
    "Cut",
    "Delay",
    "Drip",
    "Edit",
    "Empty",
    "EmptyData",
    "Fault",
    "Html",
    "Raw",
    "Redirect",
    "Reply",
    "Reset",
    "Stale",
    "Status",
    "WrongLength",
]

_BODIES: dict[int, object] = {
    401: {"detail": "Invalid token"},
    402: {"detail": "Insufficient funds"},
    403: {"detail": "Not authenticated"},
    404: {"detail": "Pod not found"},
    422: {"errors": [{"param": "pod_ids", "details": "Input should be a valid string"}]},
    429: {"message": "Too many requests"},
}
_GATEWAY = range(502, 505)
_ROWS = {"data", "items"}
_TOTALS = {"total_count", "totalCount"}


def _strings(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _seconds(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    del instance
    if math.isnan(value) or value < 0:
        raise ValueError(f"{attribute.name} must be zero or more seconds, not {value!r}")


_DURATION = [validators.instance_of((int, float)), _seconds]
_TEXT = validators.instance_of(str)
_FLAG = validators.instance_of(bool)
_COUNT = validators.and_(validators.instance_of(int), validators.ge(0))
_STATUS = [validators.instance_of(int), validators.ge(200), validators.lt(600)]


@attrs.frozen
class Raw:
    """Bytes for the wire as they are, after which the connection ends."""

    status: int | None
    """What the log says was answered."""
    pieces: tuple[bytes, ...] = ()
    pause: float = 0.0
    """Seconds between the pieces."""
    reset: bool = False
    """Whether it ends with a reset, and not with a proper close."""


@attrs.frozen
class Fault:
    """The base of all faults: one that changes nothing."""

    ends: ClassVar[bool] = True
    """Whether it decides the answer, so that no later rule is asked."""

    @property
    def reaches(self) -> bool:
        """Whether the API gets the request, and acts on it."""
        return True

    def outcome(self, reply: Reply) -> Reply | Raw:
        """What the client gets, given the reply of the API (an empty one if it did not get the request)."""
        return reply


@attrs.frozen
class _Unanswered(Fault):
    """What the client gets is not the API's answer; with ``acted``, the API did what was asked even so."""

    acted: bool = attrs.field(default=False, kw_only=True, validator=_FLAG)

    @property
    def reaches(self) -> bool:
        """Only if it acts."""
        return self.acted


@attrs.frozen
class Status(_Unanswered):
    """An error of the API, or of something before it.

    Args:
        status: The code.
        retry_after: The header of that name, seconds or an HTTP date.
        body: JSON; by default what the API sends with the code (for 502 to 504 the HTML that gateways send).
        text: Plain text in place of JSON; empty for an answer without a body.
        acted: The API does what was asked, and only the answer is an error.
    """

    status: int = attrs.field(validator=_STATUS)
    retry_after: float | str | None = attrs.field(
        default=None, kw_only=True, validator=validators.optional(validators.instance_of((int, float, str)))
    )
    body: object = attrs.field(default=None, kw_only=True)
    text: str | None = attrs.field(default=None, kw_only=True, validator=validators.optional(_TEXT))

    def outcome(self, reply: Reply) -> Reply:
        """The error."""
        del reply
        wait = self.retry_after
        headers = {} if wait is None else {"Retry-After": wait if isinstance(wait, str) else f"{wait:g}"}
        if self.text is not None:
            return Reply(self.status, self.text.encode(), {"Content-Type": "text/plain", **headers})
        if self.body is None and self.status in _GATEWAY:
            return _html(self.status, headers)
        default = _BODIES.get(self.status, {"detail": _phrase(self.status)})
        return Reply(self.status, encode(default if self.body is None else self.body), headers)


@attrs.frozen
class Html(_Unanswered):
    """A page for people, with any status, where JSON is due: of a gateway, a login, a maintenance."""

    status: int = attrs.field(default=200, validator=_STATUS)

    def outcome(self, reply: Reply) -> Reply:
        """The page."""
        del reply
        return _html(self.status, {})


@attrs.frozen
class Reset(_Unanswered):
    """The connection is reset before the API gets the request or, with ``acted``, after it acted."""

    def outcome(self, reply: Reply) -> Raw:
        """Nothing, and that abruptly."""
        del reply
        return Raw(None, reset=True)


@attrs.frozen
class Redirect(_Unanswered):
    """The client is sent to ``location``."""

    location: str = attrs.field(validator=[_TEXT, validators.matches_re(r"[!-~]+")])
    status: int = attrs.field(
        default=307, validator=[validators.instance_of(int), validators.ge(300), validators.lt(400)]
    )

    def outcome(self, reply: Reply) -> Reply:
        """The redirect."""
        del reply
        return Reply(self.status, encode({"detail": _phrase(self.status)}), {"Location": self.location})


@attrs.frozen
class Delay(Fault):
    """The API acts ``seconds`` after the request came in; ``math.inf``: never. Other faults can follow."""

    ends: ClassVar[bool] = False
    seconds: float = attrs.field(validator=_DURATION)


@attrs.frozen
class Stale(Fault):
    """A replica that lags: what is asked about pods and history is answered from ``seconds`` ago.

    Rows, counts and 404s are those of then; a DELETE of a pod that was not there yet is a 404 and deletes
    nothing. Other faults can follow.
    """

    ends: ClassVar[bool] = False
    seconds: float = attrs.field(validator=_DURATION)


@attrs.frozen
class Edit(Fault):
    """The API acts; the JSON of its answer is changed on the way.

    Places are spelled with dots: ``total_count``, ``data.0`` (the first row), ``data.0.status``. A row that
    the answer does not have is left alone, and so is an answer that is no JSON.

    Args:
        change: A function of the JSON that returns what to send in its place; not over HTTP.
        put: Values by the places at which they are set.
        drop: Places that are removed.
        rows: Only so many of the rows are kept.
    """

    change: Callable[[Any], object] | None = attrs.field(
        default=None, validator=validators.optional(validators.is_callable())
    )
    put: dict[str, object] = attrs.field(
        factory=dict[str, object], kw_only=True, validator=validators.instance_of(dict)
    )
    drop: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_strings, validator=validators.deep_iterable(_TEXT)
    )
    rows: int | None = attrs.field(default=None, kw_only=True, validator=validators.optional(_COUNT))

    def outcome(self, reply: Reply) -> Reply:
        """The answer, changed."""
        try:
            body: Any = json.loads(reply.body)
        except ValueError:
            return reply
        if self.rows is not None:
            for name in _ROWS & body.keys():
                body[name] = (body[name] or [])[: self.rows]
        for place in self.drop:
            _edit(body, place, drop=True)
        for place, value in self.put.items():
            _edit(body, place, value)
        return attrs.evolve(reply, body=encode(body if self.change is None else self.change(body)))


@attrs.frozen
class EmptyData(Fault):
    """A replica that knows nothing: the usual answer without its rows, or with ``null`` for them."""

    null: bool = attrs.field(default=False, validator=_FLAG)

    def outcome(self, reply: Reply) -> Reply:
        """The answer, emptied."""
        rows: Any = None if self.null else []
        nothing: dict[str, Any] = dict.fromkeys(_ROWS, rows) | dict.fromkeys(_TOTALS, 0)
        empty = Edit(lambda body: body | {name: nothing[name] for name in nothing.keys() & body.keys()})
        return empty.outcome(reply)


@attrs.frozen
class Empty(Fault):
    """The API acts; the answer has its status, and no body at all."""

    def outcome(self, reply: Reply) -> Reply:
        """The status."""
        return attrs.evolve(reply, body=b"")


@attrs.frozen
class Cut(Fault):
    """The API acts; after ``share`` of the body's bytes the connection is closed."""

    share: float = attrs.field(
        default=0.5,
        validator=[validators.instance_of((int, float)), validators.ge(0), validators.lt(1)],
    )

    def outcome(self, reply: Reply) -> Raw:
        """The head, and the beginning of the body."""
        kept = int(len(reply.body) * self.share)
        return Raw(reply.status, (_head(reply, len(reply.body)), reply.body[:kept]))


@attrs.frozen
class WrongLength(Fault):
    """The API acts; the head of the answer promises ``by`` bytes more than there are (less, if negative)."""

    by: int = attrs.field(default=10, validator=validators.instance_of(int))

    def outcome(self, reply: Reply) -> Raw:
        """A head that lies, and the body."""
        return Raw(reply.status, (_head(reply, max(0, len(reply.body) + self.by)), reply.body))


@attrs.frozen
class Drip(Fault):
    """The API acts; the body comes in ``pieces`` pieces, spread over ``seconds``."""

    seconds: float = attrs.field(validator=_DURATION)
    pieces: int = attrs.field(default=10, validator=[validators.instance_of(int), validators.ge(1)])

    def outcome(self, reply: Reply) -> Raw:
        """The head at once, then the body piece by piece."""
        body, size = reply.body, max(1, math.ceil(len(reply.body) / self.pieces))
        parts = tuple(body[at : at + size] for at in range(0, len(body), size))
        return Raw(reply.status, (_head(reply, len(body)), *parts), pause=self.seconds / max(1, len(parts)))


@attrs.frozen
class BadChunk(Fault):
    """The API acts; the answer is in chunks, the second of which has a size that is no number."""

    def outcome(self, reply: Reply) -> Raw:
        """One good chunk, one bad."""
        half = max(1, len(reply.body) // 2)
        first = b"%x\r\n%s\r\n" % (half, reply.body[:half])
        second = b"zz\r\n" + reply.body[half:] + b"\r\n0\r\n\r\n"
        return Raw(reply.status, (_head(reply, None), first, second))


KINDS: dict[str, type[Fault]] = {
    "status": Status,
    "html": Html,
    "reset": Reset,
    "redirect": Redirect,
    "delay": Delay,
    "stale": Stale,
    "edit": Edit,
    "empty_data": EmptyData,
    "empty": Empty,
    "cut": Cut,
    "wrong_length": WrongLength,
    "drip": Drip,
    "bad_chunk": BadChunk,
}
"""The faults by the names that they have over HTTP."""


def _edit(body: Any, place: str, value: object = None, *, drop: bool = False) -> None:
    """Set or remove what is at a place, if there is such a place."""
    *way, last = place.split(".")
    with suppress(LookupError, TypeError, ValueError):
        for name in way:
            body = body[_key(body, name)]
        if drop:
            del body[_key(body, last)]
        else:
            body[_key(body, last)] = value


def _key(parent: object, name: str) -> int | str:
    return int(name) if isinstance(parent, list) else name


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def _html(status: int, headers: dict[str, str]) -> Reply:
    body = f"<html><body>{status} {_phrase(status)}</body></html>"
    return Reply(status, body.encode(), {"Content-Type": "text/html", **headers})


def _head(reply: Reply, length: int | None) -> bytes:
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    headers = {"Content-Type": "application/json", **reply.headers, **framing, "Connection": "close"}
    lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"
