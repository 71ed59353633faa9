"""Many waiting processes and an API with one rate limit for all of them.

    python -m benchmarks.rate_limit [--quick]

6,400 pods are divided among 1, 4, 16 and 64 processes, which start at the same time. The API responds with
429 (`Retry-After: 1`) beyond ten requests a second; one poll of all pods needs 64 requests in five seconds.
After 20 seconds all pods are ready. Measured from then on: the time until 99 % of the pods are seen ready,
the time until the last one is, and the requests sent until then.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from primepods import AsyncClient, PodChange
from primepods.emulator import Emulator, Status

from .processes import children, serve
from .server import KEY
from .sync import machine

HEAD = (
    "| processes | 99 % after | last after | requests | of these refused | allowed |\n"
    "|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Plan:
    """Parameters of one run.

    Attributes:
        processes: Number of processes.
        pods: Total number of pods.
        limit: Requests a second that the API allows.
        interval: Seconds between two polls of a pod.
        boot: Seconds from the start until all pods are ready.
    """

    processes: int
    pods: int = 6_400
    limit: int = 10
    interval: float = 5.0
    boot: float = 20.0


async def wait(url: str, interval: float, start: float, ready_at: float, ids: list[str]) -> list[float]:
    """Wait for pods; return the seconds from ``ready_at`` until each was seen ready.

    Times are on the clock shared by all processes.
    """
    delays: list[float] = []

    def record(change: PodChange) -> None:
        if change.after is not None and change.after.is_ready:
            delays.append(time.monotonic() - ready_at)

    await asyncio.sleep(start - time.monotonic())
    async with AsyncClient(KEY, base_url=url) as client:
        await client.pods.wait(ids, interval=interval, on_change=record)
    return delays


def measure(plan: Plan) -> dict[str, Any]:
    """Run one plan."""
    with Emulator(api_key=KEY) as emulator, children("benchmarks.rate_limit", plan.processes) as processes:
        # After the time for creating the pods, so that all processes start together.
        start = time.monotonic() + 2.0 + plan.pods * 0.001
        ready_at = start + plan.boot
        ids = [emulator.add_pod(boot_seconds=ready_at - time.monotonic()) for _ in range(plan.pods)]
        emulator.faults.add(Status(429, retry_after=1), on="status", rate_limit=plan.limit, window=1.0)
        for number, process in enumerate(processes):
            process.order(emulator.url, plan.interval, start, ready_at, ids[number :: plan.processes])
        assert time.monotonic() < start
        time.sleep(max(0.0, ready_at - time.monotonic()))
        requests_before = len(emulator.requests)
        results = [process.result() for process in processes]
        requests = emulator.requests[requests_before:]
    delays = sorted(delay for result in results for delay in result)
    return {
        "percentile_99": delays[int(len(delays) * 0.99) - 1],
        "last": delays[-1],
        "requests": len(requests),
        "refused": sum(request.status == HTTPStatus.TOO_MANY_REQUESTS for request in requests),
        "allowed": plan.limit * (delays[-1] + 1.0),
    }


def table_row(plan: Plan, got: dict[str, Any]) -> str:
    """Return one row of the table."""
    cells = (
        f"{plan.processes}",
        f"{got['percentile_99']:.1f} s",
        f"{got['last']:.1f} s",
        f"{got['requests']}",
        f"{got['refused']}",
        f"{got['allowed']:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print the results; or, as a child process, wait."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.rate_limit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few pods: to see that it works")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        serve(wait)
        return
    if options.quick:
        plans = [Plan(processes, pods=20, limit=4, interval=0.5, boot=1.0) for processes in (1, 2)]
    else:
        plans = [Plan(processes) for processes in (1, 4, 16, 64)]
    print(f"{machine()}{' (quick: quote no figures)' if options.quick else ''}\n\n{HEAD}", flush=True)
    for plan in plans:
        print(table_row(plan, measure(plan)), flush=True)


if __name__ == "__main__":
    main()
