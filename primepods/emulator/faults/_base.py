"""Base class of faults, and validators for their fields."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, ClassVar

import attrs
from attrs import validators

from .._api.http import Call, Reply


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
    """Bytes for the wire as they are, after which the connection ends."""

    status: int | None
    """Status for the request log."""
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
        """Tell whether the API gets the request, and acts on it."""
        return True

    def received(self, call: Call) -> Call:
        """Return the request as the API gets it."""
        return call

    def instead(self, call: Call) -> Call | None:
        """Return another request whose response goes out once the API has acted on the first."""
        del call
        return None

    def outcome(self, reply: Reply) -> Reply | Raw:
        """Return what the client gets, given the API's reply (an empty one if it did not get the request)."""
        return reply


@attrs.frozen
class UnansweredFault(Fault):
    """Base of faults that replace the API's response; with ``acted``, the API acts all the same."""

    acted: bool = attrs.field(default=False, kw_only=True, validator=FLAG)

    @property
    def reaches(self) -> bool:
        """Tell whether the API acts."""
        return self.acted


def status_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
