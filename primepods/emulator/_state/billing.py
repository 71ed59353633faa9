"""Cost of a pod, of a time at a price, and when funds are used up, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable

from .boot import ACTIVE
from .pods import PodRecord

_PRECISION = 4e-7
"""Precision, in seconds, of the time at which funds are used up; responses show microseconds."""


def billed(record: PodRecord, now: float) -> float:
    """Return the pod's cost until ``now``.

    A pod is billed per started minute since ACTIVE, for at least one minute. Prepaid hours are charged with
    the order, used or not.
    """
    end = now if record.gone is None else min(now, record.gone)
    used_seconds = end - record.created - _active_age(record)
    prepaid = record.prepaid_hours * record.price_hr
    return prepaid if used_seconds < 0 else max(prepaid, cost(used_seconds, record.price_hr))


def _active_age(record: PodRecord) -> float:
    """Return the age at which the pod is first ACTIVE; infinity if it never is."""
    age = next((step.at for step in record.timeline if step.stage.status == ACTIVE), math.inf)
    is_deleted_before_active = record.delete_asked is not None and record.delete_asked - record.created < age
    if not is_deleted_before_active:
        return age
    if record.delete_lost is None:
        return math.inf
    # After a lost deletion, the pod continues as if there had been none.
    return max(age, record.delete_lost - record.created)


def cost(used_seconds: float, price_hr: float) -> float:
    """Return the cost of the started minutes in ``used_seconds``, at least one."""
    return round(max(1, math.ceil(used_seconds / 60)) * price_hr / 60, 6)


def used_up_at(spent_until: Callable[[float], float], funds: float, before: float, after: float) -> float:
    """Return the approximate time after ``before`` from which the cost exceeds ``funds``."""
    while after - before > _PRECISION:
        middle = (before + after) / 2
        if not before < middle < after:  # at late times, no float is between them
            break
        if spent_until(middle) > funds:
            after = middle
        else:
            before = middle
    return after
