"""What pods cost: a pure function of their records and the clock."""

import math
from collections.abc import Iterable

from .boot import ACTIVE
from .pods import PodRecord

_NEVER = math.inf
_EXACT = 1e-3
"""Seconds to which the moment is found at which funds run dry."""


def billed(record: PodRecord, now: float) -> float:
    """What the pod has cost by `now`: each begun minute since it was ACTIVE; provisioning is free."""
    active = next((step.at for step in record.timeline if step.stage.status == ACTIVE), _NEVER)
    end = now if record.gone is None else min(now, record.gone)
    used = end - record.created - active
    return round(math.ceil(used / 60) * record.price_hr / 60, 6) if used > 0 else 0.0


def spent(records: Iterable[PodRecord], now: float) -> float:
    """What all these pods together have cost by `now`."""
    return sum(billed(record, now) for record in records)


def runs_dry(records: list[PodRecord], funds: float, solvent: float, broke: float) -> float:
    """The moment between `solvent` and `broke` at which these pods had cost more than `funds`."""
    while broke - solvent > _EXACT:
        middle = (solvent + broke) / 2
        if spent(records, middle) > funds:
            broke = middle
        else:
            solvent = middle
    # Money goes in steps, at the end of paid minutes: that is the moment meant.
    return round(broke, 2)
