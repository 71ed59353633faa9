"""Base class of faults, and validators for their fields."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, ClassVar

import attrs
from attrs import validators

from .._api.http import Call, Response


def _check_seconds(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    del instance
    if math.isnan(value) or value < 0:
        raise ValueError(f"{attribute.name} must be zero or more seconds, not {value!r}")


DURATION = [validators.instance_of((int, float)), _check_seconds]
TEXT = validators.instance_of(str)
FLAG = validators.instance_of(bool)
COUNT = validators.and_(validators.instance_of(int), validators.ge(0))


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
class ReplacedResponse(Fault):
    """Base of faults that replace the API's response; with ``acted``, the API still acts on the request."""

    acted: bool = attrs.field(default=False, kw_only=True, validator=FLAG)

    @property
    def reaches(self) -> bool:
        return self.acted


def status_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
