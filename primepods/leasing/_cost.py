"""The billed cost of a pod that has ended."""

from __future__ import annotations

from .._utils.arguments import check_interval, check_seconds
from .._utils.clock import Clock
from ..errors import WaitTimeoutError
from .pods_api import PodsAPI, read_ended_pods


async def final_cost(pods: PodsAPI, clock: Clock, pod_id: str, *, timeout: float, interval: float) -> float:
    """Return what was billed for a pod that has ended, once two responses agree.

    Raises:
        WaitTimeoutError: No two responses agreed within ``timeout``, or there is no record.
    """
    check_seconds("timeout", timeout)
    check_interval(interval)
    ends_at = clock.time() + timeout
    billed = await _read_bill(pods, pod_id)
    while clock.time() + interval <= ends_at:
        await clock.sleep(interval)
        previous, current = billed, await _read_bill(pods, pod_id)
        if current is not None and current == previous:
            return current
        billed = previous if current is None else current
    found = "the history has no record of its end" if billed is None else f"the last figure is {billed:g}"
    raise WaitTimeoutError(
        f"After {timeout:g} s the bill of pod {pod_id} has not settled: {found}. Look at `pods.history()` "
        "later.",
        statuses={},
        pending=(pod_id,),
    )


async def _read_bill(pods: PodsAPI, pod_id: str) -> float | None:
    """Return what was billed for a pod; ``None`` if the history has no record of the pod's end."""
    records = await read_ended_pods(pods)
    return next((record.total_billed_price for record in records if record.id == pod_id), None)
