"""Faults of the API, of gateways and of connections; a ``FaultPlan`` selects the requests they affect.

Durations are on the emulator's clock: with a ``ManualClock``, a delay lasts until the test advances the
clock. To define a fault, inherit from ``Fault``, and return a ``Response`` or ``Raw`` bytes from ``outcome``.
"""

from __future__ import annotations

from .._api.http import Response
from ._base import Fault, Raw
from ._behaviour import DeadGpu, Delay, LostDeletion, OtherPod, Rename, Stale
from ._connections import BadChunk, Cut, Drip, Reset, WrongLength
from ._edits import Edit, Empty, EmptyData
from ._statuses import Html, Redirect, Status

__all__ = [
    "KINDS",
    "BadChunk",
    "Cut",
    "DeadGpu",
    "Delay",
    "Drip",
    "Edit",
    "Empty",
    "EmptyData",
    "Fault",
    "Html",
    "LostDeletion",
    "OtherPod",
    "Raw",
    "Redirect",
    "Rename",
    "Reset",
    "Response",
    "Stale",
    "Status",
    "WrongLength",
]

KINDS: dict[str, type[Fault]] = {
    "status": Status,
    "html": Html,
    "reset": Reset,
    "redirect": Redirect,
    "delay": Delay,
    "stale": Stale,
    "rename": Rename,
    "dead_gpu": DeadGpu,
    "lost_deletion": LostDeletion,
    "other_pod": OtherPod,
    "edit": Edit,
    "empty_data": EmptyData,
    "empty": Empty,
    "cut": Cut,
    "wrong_length": WrongLength,
    "drip": Drip,
    "bad_chunk": BadChunk,
}
"""Fault classes by their names in control routes."""
