"""Bad responses: what strikes almost a third of all requests of a world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from primepods.emulator import (
    BadChunk,
    Cut,
    Delay,
    Drip,
    Edit,
    Empty,
    EmptyData,
    Fault,
    Html,
    Redirect,
    Reset,
    Stale,
    Status,
    WrongLength,
)
from primepods.emulator._api.http import Request
from primepods.emulator.faults import Raw, Response

if TYPE_CHECKING:
    from .world import World


@attrs.frozen
class Bytes(Fault):
    """The API acts; what comes back is no HTTP, or nothing."""

    sent: bytes = b""

    def outcome(self, response: Response) -> Raw:
        """Return these bytes."""
        del response
        return Raw(None, (self.sent,) if self.sent else ())


@attrs.frozen
class HangUp(Fault):
    """A good response on a connection to be kept, which is closed while it is idle."""

    def outcome(self, response: Response) -> Raw:
        """Return all of it."""
        head = f"HTTP/1.1 {response.status} X\r\nContent-Length: {len(response.body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
        return Raw(response.status, (head.encode() + b"\r\n" + response.body,))


_PASSING: Final[tuple[Fault, ...]] = (
    Reset(),
    Reset(acted=True),
    Bytes(),
    Bytes(b"\x15\x03\x01\x00\x02\x02\x50"),
    HangUp(),
    Cut(),
    Cut(0.0),
    WrongLength(7),
    WrongLength(-2),
    BadChunk(),
    *(Status(code) for code in (500, 502, 503, 429, 408, 425)),
    *(Status(code, acted=True) for code in (500, 504)),
    Status(503, retry_after=2),
    Status(429, retry_after=3.5),
    Status(404, text="404 page not found"),
    Status(404, text="", acted=True),
    Html(401),
    Html(403),
    Html(404, acted=True),
    Empty(),
    Stale(7.0),
    Drip(4.0),
    Drip(60.0),
    Delay(3.0),
    Delay(45.0),
)
"""What goes better when it is asked again."""
_LASTING: Final[tuple[Fault, ...]] = (
    Html(),
    Html(acted=True),
    Redirect("/api/v1/pods/other", 301),
    Redirect("https://127.0.0.1:8080/api/v1/pods/"),
    Status(429, retry_after=900),
)
"""What says that this is not the API, or to come back much later."""
_LIES: Final[tuple[Fault, ...]] = (EmptyData(), EmptyData(null=True))
_LIES_OF_LISTS: Final[tuple[Fault, ...]] = (
    *_LIES,
    Edit(rows=1),
    Edit(rows=3),
    Edit(put={"total_count": 2}),
    Edit(put={"total_count": 200}),
)
"""What contradicts the response before, or itself."""


class BadResponses:
    """Strikes requests in place of the emulator's own plan.

    An operation lies once, and not again before it has told the truth: nobody could tell it from the truth.

    Args:
        world: The world.
        patient: Whether what strikes goes better when it is asked again.
    """

    def __init__(self, world: World, *, patient: bool) -> None:
        self._world = world
        self._faults = _PASSING if patient else _PASSING + _LASTING
        self._liars: set[str | None] = set()
        self.are_over: bool = bool(world.choose("calm", 0, 0, 0, 1))
        self.may_fail: bool = not (patient or self.are_over)
        world.emulator.faults.pick = self._pick  # type: ignore[method-assign]  # drawn by the world's seed

    def end(self) -> None:
        """Have all responses good from now on."""
        self.are_over = True

    def _pick(self, request: Request, operation: str | None, now: float) -> list[Fault]:
        del request, now
        if self.are_over or self._world.choose("response", *[True] * 7, *[False] * 3):
            self._liars.discard(operation)
            return []
        lies = _LIES_OF_LISTS if operation == "list" else _LIES
        fault = self._world.choose("fault", *self._faults, *(() if operation in self._liars else lies))
        if fault in lies:
            self._liars.add(operation)
        return [fault]
