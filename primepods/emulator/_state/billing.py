"""Cost of pods: a pure function of their records and the clock."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .boot import ACTIVE
from .pods import PodRecord

_PRECISION = 1e-3
"""Seconds to which the moment is found at which funds are used up."""


def billed(record: PodRecord, now: float) -> float:
    """Return what the pod has cost by ``now``.

    Each begun minute since it was ACTIVE, and at least one; provisioning is free. Prepaid hours are charged
    with the order, used or not.
    """
    active = next((step.at for step in record.timeline if step.stage.status == ACTIVE), math.inf)
    end = now if record.gone is None else min(now, record.gone)
    used = end - record.created - active
    return max(cost(used, record.price_hr) if used >= 0 else 0.0, record.prepaid_hours * record.price_hr)


def cost(used: float, price_hr: float) -> float:
    """Return what it costs to use a pod for so many seconds: each begun minute, and at least one."""
    return round(max(1, math.ceil(used / 60)) * price_hr / 60, 6)


def spent(records: Iterable[PodRecord], now: float) -> float:
    """Return what all these pods together have cost by ``now``."""
    return sum(billed(record, now) for record in records)


def used_up_at(records: list[PodRecord], funds: float, before: float, after: float) -> float:
    """Return the moment between ``before`` and ``after`` at which these pods had cost more than ``funds``."""
    while after - before > _PRECISION:
        middle = (before + after) / 2
        if spent(records, middle) > funds:
            after = middle
        else:
            before = middle
    # Pods are billed in steps, at the start of each minute: that is the moment meant.
    return round(after, 2)
