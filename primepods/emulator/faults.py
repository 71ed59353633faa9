"""Faults of the API, of gateways and of connections; a ``FaultPlan`` selects the requests they affect.

Durations are on the emulator's clock: with a ``ManualClock``, a delay lasts until the test advances the
clock. To define a fault, inherit from ``Fault``, and return a ``Response`` or ``Raw`` bytes from ``outcome``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar, cast

import attrs
from attrs import validators

from ._api.http import Call, encode
from ._api.http import Response as Response


def _check_seconds(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    del instance
    if math.isnan(value) or value < 0:
        raise ValueError(f"{attribute.name} must be zero or more seconds, not {value!r}")


_DURATION = [validators.instance_of((int, float)), _check_seconds]
_TEXT = validators.instance_of(str)
_FLAG = validators.instance_of(bool)
_COUNT = validators.and_(validators.instance_of(int), validators.ge(0))
_STATUS = [validators.instance_of(int), validators.ge(200), validators.lt(600)]
_BODIES: dict[int, object] = {
    401: {"detail": "Invalid token"},
    402: {"detail": "Insufficient funds"},
    403: {"detail": "Not authenticated"},
    404: {"detail": "Pod not found"},
    422: {"errors": [{"param": "pod_ids", "details": "Input should be a valid string"}]},
    429: {"message": "Too many requests"},
}
_GATEWAY_STATUSES = range(502, 505)
_ROW_KEYS = {"data", "items"}
_TOTAL_KEYS = {"total_count", "totalCount"}


@attrs.frozen
class Raw:
    """Raw bytes to send before the connection is closed."""

    status: int | None
    """Status for the request log."""
    pieces: tuple[bytes, ...] = ()
    pause: float = 0.0
    """Seconds between the pieces."""
    reset: bool = False
    """``True`` to reset the connection instead of closing it."""


@attrs.frozen
class Fault:
    """Base class of faults. Its methods change nothing; subclasses override some."""

    is_last: ClassVar[bool] = True
    """``True`` if no later rule is applied to the request."""

    @property
    def reaches(self) -> bool:
        """Return whether the API receives the request, and acts on it."""
        return True

    def received(self, request: Call) -> Call:
        """Return the request as the API receives it."""
        return request

    def second(self, request: Call) -> Call | None:
        """Return a second request, if any. The API acts on both; the client gets the second response."""
        del request
        return None

    def outcome(self, response: Response) -> Response | Raw:
        """Return the response to send; ``response`` is the API's, or empty if the API did not act."""
        return response


@attrs.frozen
class _ReplacedResponse(Fault):
    """Base of faults that replace the API's response; with ``acted``, the API still acts on the request."""

    acted: bool = attrs.field(default=False, kw_only=True, validator=_FLAG)

    @property
    def reaches(self) -> bool:
        return self.acted


@attrs.frozen
class Delay(Fault):
    """The API gets the request ``seconds`` after its arrival, or never with ``math.inf``.

    Later rules still apply.
    """

    is_last: ClassVar[bool] = False
    seconds: float = attrs.field(validator=_DURATION)


@attrs.frozen
class Stale(Fault):
    """A stale replica: reads of pods, history and disks return the state of ``seconds`` ago.

    A DELETE of a pod that did not exist then gets a 404, and deletes nothing. Later rules still apply.
    """

    is_last: ClassVar[bool] = False
    seconds: float = attrs.field(validator=_DURATION)

    def received(self, request: Call) -> Call:
        return attrs.evolve(request, lag=request.lag + self.seconds)


@attrs.frozen
class Rename(Fault):
    """The API changes the name of an ordered pod. Later rules still apply.

    Args:
        lower: ``True`` for lower case.
        strip: ``True`` to strip whitespace at both ends.
        length: Max length in characters.
    """

    is_last: ClassVar[bool] = False
    lower: bool = attrs.field(default=False, kw_only=True, validator=_FLAG)
    strip: bool = attrs.field(default=False, kw_only=True, validator=_FLAG)
    length: int | None = attrs.field(default=None, kw_only=True, validator=validators.optional(_COUNT))

    def received(self, request: Call) -> Call:
        try:
            body: Any = json.loads(request.body)
            name: str = body["pod"]["name"]
            if self.lower:
                name = name.lower()
            if self.strip:
                name = name.strip()
            body["pod"]["name"] = name[: self.length]
        except (ValueError, LookupError, TypeError, AttributeError):
            return request
        return attrs.evolve(request, body=encode(body))


@attrs.frozen
class DeadGpu(Fault):
    """The ordered pod boots with GPUs that do not respond to ``nvidia-smi``. Later rules still apply.

    Args:
        count: Number of such GPUs.
    """

    is_last: ClassVar[bool] = False
    count: int = attrs.field(default=1, validator=_COUNT)

    def received(self, request: Call) -> Call:
        return attrs.evolve(request, dead_gpus=self.count)


@attrs.frozen
class LostDeletion(Fault):
    """The API accepts a deletion, and the provider loses it. Later rules still apply.

    Args:
        seconds: Time for which a pod is DELETING; after that it is as before. A disk does not change.
    """

    is_last: ClassVar[bool] = False
    seconds: float = attrs.field(default=5.0, validator=_DURATION)

    def received(self, request: Call) -> Call:
        return attrs.evolve(request, deletion_lost_after=self.seconds)


@attrs.frozen
class OtherPod(Fault):
    """The API acts; the response is that of a ``GET`` of another pod, as from a faulty cache.

    Args:
        other_id: The other pod's id.
    """

    other_id: str = attrs.field(validator=_TEXT)

    def second(self, request: Call) -> Call:
        return attrs.evolve(request, method="GET", path=f"/api/v1/pods/{self.other_id}", query=[], body=b"")


@attrs.frozen
class Reset(_ReplacedResponse):
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

    seconds: float = attrs.field(validator=_DURATION)
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


def _status_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def _head(response: Response, length: int | None) -> bytes:
    """Return the head of a response, with ``length`` as its Content-Length; ``None`` for a chunked body."""
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    headers = {"Content-Type": "application/json", **response.headers, **framing, "Connection": "close"}
    lines = [
        f"HTTP/1.1 {response.status} {_status_phrase(response.status)}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def _as_tuple(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen
class Edit(Fault):
    """The API acts; the JSON of its response is changed.

    Places are paths with dots: ``total_count``, ``data.0`` (the first row), ``data.0.status``. Places that
    the response does not have are ignored, but ``put`` can add keys. A response without JSON is unchanged.
    The arguments apply in the order ``rows``, ``drop``, ``put``, ``change``.

    Args:
        change: Function from the JSON to its replacement; not available over HTTP.
        put: Values to set, by place.
        drop: Places to remove.
        rows: Max rows to keep.
    """

    change: Callable[[Any], object] | None = attrs.field(
        default=None, validator=validators.optional(validators.is_callable())
    )
    put: dict[str, object] = attrs.field(
        factory=dict[str, object], kw_only=True, validator=validators.instance_of(dict)
    )
    drop: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_as_tuple, validator=validators.deep_iterable(_TEXT)
    )
    rows: int | None = attrs.field(default=None, kw_only=True, validator=validators.optional(_COUNT))

    def outcome(self, response: Response) -> Response:
        try:
            body: Any = json.loads(response.body)
        except ValueError:
            return response
        if self.rows is not None:
            fields = _fields_of(body)
            for name in _row_keys_of(fields):
                fields[name] = fields[name][: self.rows]
        for place in self.drop:
            _edit(body, place, drop=True)
        for place, value in self.put.items():
            _edit(body, place, value)
        changed = body if self.change is None else self.change(body)
        return attrs.evolve(response, body=encode(changed))


@attrs.frozen
class EmptyData(Fault):
    """An empty replica: the response has no rows, and its totals are 0. With ``null=True``, rows are null."""

    null: bool = attrs.field(default=False, validator=_FLAG)

    def outcome(self, response: Response) -> Response:
        rows: Any = None if self.null else []

        def empty(body: Any) -> Any:
            fields = _fields_of(body)
            fields |= dict.fromkeys(_row_keys_of(fields), rows)
            fields |= dict.fromkeys(_TOTAL_KEYS & fields.keys(), 0)
            return body

        return Edit(empty).outcome(response)


@attrs.frozen
class Empty(Fault):
    """The API acts; its response keeps the status and the headers, but loses the body."""

    def outcome(self, response: Response) -> Response:
        return attrs.evolve(response, body=b"")


def _fields_of(body: Any) -> dict[str, Any]:
    """Return ``body`` itself if it is an object, else an empty dict."""
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _row_keys_of(fields: dict[str, Any]) -> list[str]:
    """Return the keys of lists of rows: ``data`` may also be an object, or text."""
    return [name for name in _ROW_KEYS & fields.keys() if isinstance(fields[name], list)]


def _edit(body: Any, place: str, value: object = None, *, drop: bool = False) -> None:
    """Set or remove the value at a place, if the place exists or is a new key."""
    *parents, last = place.split(".")
    target = body
    with suppress(LookupError, TypeError, ValueError):
        for name in parents:
            target = target[_index_or_key(target, name)]
        if drop:
            del target[_index_or_key(target, last)]
        else:
            target[_index_or_key(target, last)] = value


def _index_or_key(parent: object, name: str) -> int | str:
    return int(name) if isinstance(parent, list) else name


@attrs.frozen
class Status(_ReplacedResponse):
    """A response with ``status``, usually an error of the API or of a gateway in front of it.

    Args:
        status: The status code.
        retry_after: ``Retry-After`` header, in seconds or as an HTTP date.
        body: Value to send as JSON. By default, the body imitates the API's; for 502 to 504, it is HTML.
        text: Plain text to send instead of ``body``; empty for a response without a body.
        acted: ``True`` if the API still acts on the request.
    """

    status: int = attrs.field(validator=_STATUS)
    retry_after: float | str | None = attrs.field(
        default=None, kw_only=True, validator=validators.optional(validators.instance_of((int, float, str)))
    )
    body: object = attrs.field(default=None, kw_only=True)
    text: str | None = attrs.field(default=None, kw_only=True, validator=validators.optional(_TEXT))

    def outcome(self, response: Response) -> Response:
        del response
        headers: dict[str, str] = {}
        if isinstance(self.retry_after, str):
            headers["Retry-After"] = self.retry_after
        elif self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:.15g}"
        if self.text is not None:
            return Response(self.status, self.text.encode(), {"Content-Type": "text/plain", **headers})
        if self.body is None and self.status in _GATEWAY_STATUSES:
            return _html(self.status, headers)
        body = self.body
        if body is None:
            body = _BODIES.get(self.status, {"detail": _status_phrase(self.status)})
        return Response(self.status, encode(body), headers)


@attrs.frozen
class Html(_ReplacedResponse):
    """An HTML page instead of JSON, with any status, such as a gateway's error or a login page."""

    status: int = attrs.field(default=200, validator=_STATUS)

    def outcome(self, response: Response) -> Response:
        del response
        return _html(self.status, {})


@attrs.frozen
class Redirect(_ReplacedResponse):
    """A redirect to ``location``."""

    location: str = attrs.field(validator=[_TEXT, validators.matches_re(r"[!-~]+")])
    status: int = attrs.field(
        default=307, validator=[validators.instance_of(int), validators.ge(300), validators.lt(400)]
    )

    def outcome(self, response: Response) -> Response:
        del response
        return Response(
            self.status, encode({"detail": _status_phrase(self.status)}), {"Location": self.location}
        )


def _html(status: int, headers: dict[str, str]) -> Response:
    body = f"<html><body>{status} {_status_phrase(status)}</body></html>"
    return Response(status, body.encode(), {"Content-Type": "text/html", **headers})


KINDS: dict[str, type[Fault]] = {
    re.sub(r"\B(?=[A-Z])", "_", kind.__name__).lower(): kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Fault) and kind not in {Fault, _ReplacedResponse}
}
"""Fault classes by their names in control routes."""
