"""Results of sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from .._utils.plain import ToDict
from ..errors import PrimePodsError


@attrs.frozen(kw_only=True)
class OrphanedPod(ToDict):
    """A pod whose process has ended or given up, or that has expired or has no lease file.

    Attributes:
        name: Its name.
        pod_id: Its id; ``None`` if it is unknown.
        price_hr: Its price per hour, if known.
        created_at: When it was created or ordered; ``None`` if unknown.
    """

    name: str | None
    pod_id: str | None
    price_hr: float | None
    created_at: datetime | None


@attrs.frozen(kw_only=True)
class SkippedLease(ToDict):
    """A lease, or a pod without a lease file, that a sweep has left alone.

    Attributes:
        name: The pod's name; the name of the file if the file cannot be read.
        pod_id: The pod's id; ``None`` if unknown.
        price_hr: The pod's price per hour, if known.
        reason: Why it was left alone, for example because its process still runs, and often what to do.
    """

    name: str
    pod_id: str | None
    price_hr: float | None
    reason: str


@attrs.frozen(kw_only=True)
class Sweep(ToDict):
    """Result of a sweep.

    Attributes:
        found: The pods that the sweep found, including those of ``errors``.
        deleted: Ids of the pods that are confirmed terminated; empty with ``dry_run``.
        errors: Errors by the pod's id, or by its name if it has no id. These pods may be billed. If the list
            could not be read completely, that error has the key ``"pods.list"``.
        skipped: The leases and pods that match the sweep but were left alone, and the unreadable lease files,
            with the reasons.
    """

    found: tuple[OrphanedPod, ...]
    deleted: tuple[str, ...] = ()
    errors: Mapping[str, PrimePodsError] = attrs.field(factory=dict[str, PrimePodsError])
    skipped: tuple[SkippedLease, ...] = ()

    @property
    def price_hr(self) -> float:
        """Price per hour of all found pods, as far as known."""
        return sum(pod.price_hr or 0.0 for pod in self.found)
