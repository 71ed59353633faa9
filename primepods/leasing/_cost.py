"""What a pod has cost in the end."""

from __future__ import annotations

import asyncio

from .._utils.clock import Clock
from ..errors import WaitTimeoutError
from ..models import HistoryRecord
from .operations import PodOperations

_MOST_RECORDS = 1_000
"""Records of the history, the latest first, among which a pod is looked for."""


async def final_cost(
    operations: PodOperations, clock: Clock, pod_id: str, *, timeout: float, interval: float
) -> float:
    """Return what was billed for a pod that has ended, once two looks at its record agree.

    Raises:
        WaitTimeoutError: They do not within ``timeout``, or there is no record.
    """
    ends_at = clock.time() + timeout
    billed: float | None = None
    while True:
        record = await _record(operations, pod_id)
        if record is not None and record.terminated_at is not None:
            if record.total_billed_price == billed:
                return record.total_billed_price
            billed = record.total_billed_price
        if clock.time() + interval > ends_at:
            break
        await clock.wait(asyncio.Event(), interval)
    found = "the history has no record of its end" if billed is None else f"the last figure is {billed:g}"
    raise WaitTimeoutError(
        f"After {timeout:g} s the bill of pod {pod_id} has not settled: {found}. Look at `pods.history()` "
        "later.",
        statuses={},
        pending=(pod_id,),
    )


async def _record(operations: PodOperations, pod_id: str) -> HistoryRecord | None:
    seen = 0
    async for record in operations.history():
        seen += 1
        if record.id == pod_id:
            return record
        if seen == _MOST_RECORDS:
            break
    return None
