"""Disks that exist independently of pods."""

from __future__ import annotations

import attrs

from .billing import cost
from .boot import ACTIVE, DELETING, PROVISIONING, TERMINATED
from .history import HistoryRow


@attrs.define(kw_only=True, eq=False)
class DiskRecord:
    """Stored data of a disk. Times are seconds on the emulator's clock, and may be in the future.

    The names of the attributes are keys of snapshots.
    """

    id: str
    name: str
    size: int
    cloud_id: str
    provider: str
    data_center: str
    country: str
    price_hr: float
    team_id: str | None
    created: float
    updated: float
    ready: float
    """Time from which the disk is ACTIVE and billed."""
    delete_asked: float | None = None
    gone: float | None = None
    """Time at which the disk leaves list and get."""

    def status(self, now: float) -> str:
        if self.gone is not None and now >= self.gone:
            return TERMINATED
        if self.delete_asked is not None and now >= self.delete_asked:
            return DELETING
        return ACTIVE if now >= self.ready else PROVISIONING

    def billed(self, now: float) -> float:
        """Return the cost until ``now``, per started minute since ACTIVE."""
        end = now if self.gone is None else min(now, self.gone)
        return 0.0 if end < self.ready else cost(end - self.ready, self.price_hr)

    def history_row(self, until: float) -> HistoryRow:
        """Return the history row of a disk that ends at ``until``."""
        return HistoryRow(
            id=self.id,
            name=self.name,
            provider=self.provider,
            type="Disk",
            created=self.created,
            terminated=until,
            gpu_name="CPU_NODE",
            gpu_count=0,
            socket=None,
            price_hr=self.price_hr,
            team_id=self.team_id,
            billed=self.billed(until),
        )
