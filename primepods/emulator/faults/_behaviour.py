"""An API that behaves differently: it lags, renames, forgets, or mixes up its pods."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import attrs
from attrs import validators

from .._api.http import Call, encode
from ._base import COUNT, DURATION, FLAG, TEXT, Fault


@attrs.frozen
class Delay(Fault):
    """The API acts ``seconds`` after the request came in; ``math.inf``: never. Other faults can follow."""

    ends: ClassVar[bool] = False
    seconds: float = attrs.field(validator=DURATION)


@attrs.frozen
class Stale(Fault):
    """A replica that lags: what is asked about pods and history is answered from ``seconds`` ago.

    Rows, counts and 404s are those of then; a DELETE of a pod that was not there yet is a 404 and deletes
    nothing. Other faults can follow.
    """

    ends: ClassVar[bool] = False
    seconds: float = attrs.field(validator=DURATION)

    def received(self, call: Call) -> Call:
        """Have it answered from the past; the lags of several faults add up."""
        return attrs.evolve(call, lag=call.lag + self.seconds)


@attrs.frozen
class Rename(Fault):
    """The API gives the pod that is ordered another name than the order says. Other faults can follow.

    Args:
        lower: In lower case.
        strip: Without blanks at both ends.
        length: Only so many characters of it.
    """

    ends: ClassVar[bool] = False
    lower: bool = attrs.field(default=False, kw_only=True, validator=FLAG)
    strip: bool = attrs.field(default=False, kw_only=True, validator=FLAG)
    length: int | None = attrs.field(default=None, kw_only=True, validator=validators.optional(COUNT))

    def received(self, call: Call) -> Call:
        """Change the name in the body of an order; what has none stays as it is."""
        try:
            body: Any = json.loads(call.body)
            name: str = body["pod"]["name"]
            name = name.lower() if self.lower else name
            name = name.strip() if self.strip else name
            body["pod"]["name"] = name[: self.length]
        except (ValueError, LookupError, TypeError, AttributeError):
            return call
        return attrs.evolve(call, body=encode(body))


@attrs.frozen
class LostDeletion(Fault):
    """The API accepts a deletion, and the provider loses it. Other faults can follow.

    Args:
        seconds: So long the pod is DELETING; after that it is as it was before.
    """

    ends: ClassVar[bool] = False
    seconds: float = attrs.field(default=5.0, validator=DURATION)

    def received(self, call: Call) -> Call:
        """Have the deletion forgotten after a while."""
        return attrs.evolve(call, deletion_lost_after=self.seconds)


@attrs.frozen
class OtherPod(Fault):
    """The API acts; the response is what ``GET`` of another pod brings, as of a cache that mixes them up.

    Args:
        other_id: The other pod's id.
    """

    other_id: str = attrs.field(validator=TEXT)

    def instead(self, call: Call) -> Call:
        """Ask for the other pod."""
        return attrs.evolve(call, method="GET", path=f"/api/v1/pods/{self.other_id}", query=[], body=b"")
