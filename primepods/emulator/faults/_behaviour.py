"""Faults in the API's behaviour: lags, renames, lost deletions, mixed-up pods."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import attrs
from attrs import validators

from .._api.http import Call, encode
from ._base import COUNT, DURATION, FLAG, TEXT, Fault


@attrs.frozen
class Delay(Fault):
    """The API gets the request ``seconds`` after its arrival, or never with ``math.inf``.

    Later rules still apply.
    """

    is_last: ClassVar[bool] = False
    seconds: float = attrs.field(validator=DURATION)


@attrs.frozen
class Stale(Fault):
    """A stale replica: reads of pods, history and disks return the state of ``seconds`` ago.

    A DELETE of a pod that did not exist then gets a 404, and deletes nothing. Later rules still apply.
    """

    is_last: ClassVar[bool] = False
    seconds: float = attrs.field(validator=DURATION)

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
    lower: bool = attrs.field(default=False, kw_only=True, validator=FLAG)
    strip: bool = attrs.field(default=False, kw_only=True, validator=FLAG)
    length: int | None = attrs.field(default=None, kw_only=True, validator=validators.optional(COUNT))

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
    count: int = attrs.field(default=1, validator=COUNT)

    def received(self, request: Call) -> Call:
        return attrs.evolve(request, dead_gpus=self.count)


@attrs.frozen
class LostDeletion(Fault):
    """The API accepts a deletion, and the provider loses it. Later rules still apply.

    Args:
        seconds: Time for which a pod is DELETING; after that it is as before. A disk does not change.
    """

    is_last: ClassVar[bool] = False
    seconds: float = attrs.field(default=5.0, validator=DURATION)

    def received(self, request: Call) -> Call:
        return attrs.evolve(request, deletion_lost_after=self.seconds)


@attrs.frozen
class OtherPod(Fault):
    """The API acts; the response is that of a ``GET`` of another pod, as from a faulty cache.

    Args:
        other_id: The other pod's id.
    """

    other_id: str = attrs.field(validator=TEXT)

    def second(self, request: Call) -> Call:
        return attrs.evolve(request, method="GET", path=f"/api/v1/pods/{self.other_id}", query=[], body=b"")
