"""The billed cost of a pod that has ended."""

from __future__ import annotations

from .._utils.arguments import check_interval, check_seconds
from .._utils.clock import Clock
from ..errors import WaitTimeoutError
from .pods_api import PodsAPI, ended_pods


async def final_cost(pods: PodsAPI, clock: Clock, pod_id: str, *, timeout: float, interval: float) -> float:
    """Return what was billed for a pod that has ended, once two responses agree.

    Raises:
        WaitTimeoutError: They do not within ``timeout``, or there is no record.
    """
    check_seconds("timeout", timeout)
    check_interval(interval)
    ends_at = clock.time() + timeout
    billed: float | None = None
    while True:
        price = next(
            (record.total_billed_price for record in await ended_pods(pods) if record.id == pod_id), None
        )
        if price is not None and price == billed:
            return price
        billed = billed if price is None else price
        if clock.time() + interval > ends_at:
            break
        await clock.sleep(interval)
    found = "the history has no record of its end" if billed is None else f"the last figure is {billed:g}"
    raise WaitTimeoutError(
        f"After {timeout:g} s the bill of pod {pod_id} has not settled: {found}. Look at `pods.history()` "
        "later.",
        statuses={},
        pending=(pod_id,),
    )
