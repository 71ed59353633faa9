"""Results of sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from .._utils.plain import ToDict
from ..errors import PrimePodsError


@attrs.frozen(kw_only=True)
class OrphanedPod(ToDict):
    """A pod that no process uses any more.

    Attributes:
        name: Its name.
        pod_id: Its id; ``None`` if its process died before it knew it, and the list does not show it yet.
        price_hr: What it costs an hour, if that is known.
        created_at: When it was created, or ordered; ``None`` if the API does not say.
    """

    name: str | None
    pod_id: str | None
    price_hr: float | None
    created_at: datetime | None


@attrs.frozen(kw_only=True)
class SkippedLease(ToDict):
    """A lease that a sweep has left alone, with the reason.

    Attributes:
        name: Its pod's name; the file's if that cannot be read.
        pod_id: Its pod's id; ``None`` if that is not known.
        price_hr: What the pod costs an hour, if that is known.
        reason: Why: its process lives, it is another host's, API's, key's or team's, it cannot be read, or
            nothing has ever shown whether its pod was made.
    """

    name: str
    pod_id: str | None
    price_hr: float | None
    reason: str


@attrs.frozen(kw_only=True)
class Sweep(ToDict):
    """Result of a sweep.

    Attributes:
        found: The pods that it found, those of ``errors`` among them.
        deleted: Ids of those that it deleted and confirmed terminated; empty with ``dry_run``.
        errors: What went wrong, by the pod's id, or by its name where it has none: they may be billed. Under
            ``pods.list``, why the list of pods is incomplete.
        skipped: The leases of that prefix and age that it has left alone, and why.
    """

    found: tuple[OrphanedPod, ...]
    deleted: tuple[str, ...] = ()
    errors: Mapping[str, PrimePodsError] = attrs.field(factory=dict[str, PrimePodsError])
    skipped: tuple[SkippedLease, ...] = ()

    @property
    def price_hr(self) -> float:
        """Price per hour of all that was found, as far as it is known."""
        return sum(pod.price_hr or 0.0 for pod in self.found)
