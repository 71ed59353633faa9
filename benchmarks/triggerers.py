"""Waits in many processes: 1, 4 and 16 triggerers (or workers) of an orchestrator, on one emulator.

    python -m benchmarks.triggerers [--quick]

Each process has 500 tasks; each task waits for its own pod with its own client, so that the tasks of a
process share its poller. The processes start one after another, spread over one interval, or all at once. All
pods boot for six more intervals; then each becomes ready at its own time within the next interval. The time
from there until its waiter runs is measured. Requests are those that reach the emulator in the last five
intervals before.

The second table has sixteen processes and an API that responds with 429 beyond ten requests a second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from primepods import AsyncClient
from primepods.emulator import Emulator, Status

from .processes import children, serve
from .server import KEY
from .sync import machine

TICKS = 6
_RATE_LIMIT = 10
"""Rate limit of the API in the second table: requests a second, for all processes together."""
_FILES = next((path for path in ("/proc/self/fd", "/dev/fd") if Path(path).is_dir()), "")
"""Folder with an entry for each open file of this process; empty if the system has none."""
_MAX_CREATION_TIME = 0.001
"""Maximum seconds that the emulator takes to create a pod."""


@dataclass(frozen=True)
class Plan:
    """Parameters of one run.

    Attributes:
        processes: Number of processes.
        waiters: Number of waiters in each process.
        interval: Seconds between two polls of a pod.
        limit: The API's rate limit in requests a second; 0 for none.
        at_once: ``True`` if all processes start at the same time.
    """

    processes: int
    waiters: int
    interval: float
    limit: int = 0
    at_once: bool = False


async def wait(url: str, interval: float, start: float, ready_at: dict[str, float]) -> dict[str, Any]:
    """Wait for pods, each in its own task; times are on the clock shared by all processes.

    Args:
        url: The emulator's.
        interval: Seconds between two polls of a pod.
        start: Time to start at.
        ready_at: Time at which each pod becomes ready.
    """
    delays: list[float] = []
    max_files = 0

    async def wait_for(pod: str) -> None:
        async with AsyncClient(KEY, base_url=url) as client:
            await client.pods.wait_ready(pod, interval=interval)
        delays.append(time.monotonic() - ready_at[pod])

    async def count_files() -> None:
        nonlocal max_files
        while _FILES:
            max_files = max(max_files, len(os.listdir(_FILES)))
            await asyncio.sleep(0.05)

    await asyncio.sleep(start - time.monotonic())
    files = asyncio.create_task(count_files())
    cpu_at_start = time.process_time()
    async with asyncio.TaskGroup() as group:
        for pod in ready_at:
            group.create_task(wait_for(pod))
    files.cancel()
    return {"delays": delays, "cpu": time.process_time() - cpu_at_start, "files": max_files}


def measure(plan: Plan) -> dict[str, Any]:
    """Run one plan and return its figures."""
    with Emulator(api_key=KEY) as emulator, children("benchmarks.triggerers", plan.processes) as processes:
        if plan.limit:
            emulator.faults.add(Status(429, retry_after=1), on="status", rate_limit=plan.limit, window=1.0)
        first_start = time.monotonic() + 3.0 + plan.processes * plan.waiters * _MAX_CREATION_TIME
        for number, process in enumerate(processes):
            start = first_start + (0.0 if plan.at_once else plan.interval * number / plan.processes)
            ready_at = _create_pods(emulator, plan, number, first_start)
            process.order(emulator.url, plan.interval, start, ready_at)
        assert time.monotonic() < first_start
        # Count requests once all processes have started, and before the first pod is ready.
        ticks = TICKS - 1
        count_from = first_start + 2 * plan.interval
        time.sleep(max(0.0, count_from - time.monotonic()))
        requests_before = len(emulator.requests)
        time.sleep(max(0.0, count_from + ticks * plan.interval - time.monotonic()))
        requests = emulator.requests[requests_before:]
        results = [process.result() for process in processes]
    delays = sorted(delay for result in results for delay in result["delays"])
    return {
        "requests": len(requests) / ticks,
        "refused": sum(request.status == HTTPStatus.TOO_MANY_REQUESTS for request in requests) / ticks,
        "median": statistics.median(delays),
        "percentile_99": delays[int(len(delays) * 0.99)],
        "longest": delays[-1],
        "files": max(result["files"] for result in results),
        "cpu": max(result["cpu"] for result in results) / ((TICKS + 2) * plan.interval),
    }


def _create_pods(emulator: Emulator, plan: Plan, process: int, first_start: float) -> dict[str, float]:
    """Create the pods of a process; return the time at which each becomes ready."""
    ready_at: dict[str, float] = {}
    for number in range(plan.waiters):
        # Multiples of the golden section fill an interval evenly, in mixed order.
        spread = (process * plan.waiters + number) * 0.618034 % 1
        due = first_start + (1 + TICKS + spread) * plan.interval
        ready_at[emulator.add_pod(boot_seconds=due - time.monotonic())] = due
    return ready_at


HEAD = (
    "| processes | waits | begin | interval | requests a tick | refused a tick | delay, median | 99 % "
    "| longest | open files each | processor, each |\n|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def table_row(plan: Plan, got: dict[str, Any]) -> str:
    """Return one row of a table."""
    cells = (
        f"{plan.processes}",
        f"{plan.processes * plan.waiters:,}",
        "at once" if plan.at_once else "spread",
        f"{plan.interval:g} s",
        f"{got['requests']:.1f}",
        f"{got['refused']:.1f}",
        f"{got['median']:.1f} s",
        f"{got['percentile_99']:.1f} s",
        f"{got['longest']:.1f} s",
        f"{got['files']}",
        f"{got['cpu']:.1%}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print the results; or, as a child process, wait."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.triggerers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few waits: to see that it works")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        serve(wait)
        return
    waiters, interval = (20, 0.25) if options.quick else (500, 5.0)
    print(f"{machine()}{' (quick: quote no figures)' if options.quick else ''}\n")
    counts, factors = ((1, 2), ()) if options.quick else ((1, 4, 16), (1, 2, 4))
    unlimited = [Plan(processes, waiters, interval) for processes in counts]
    limited = [Plan(counts[-1], waiters, 4 * interval, _RATE_LIMIT, at_once=True)]
    limited += [Plan(counts[-1], waiters, interval * factor, _RATE_LIMIT) for factor in factors]
    for title, plans in (("Without a limit", unlimited), (f"{_RATE_LIMIT} requests a second", limited)):
        print(f"{title}:\n\n{HEAD}", flush=True)
        for plan in plans:
            print(table_row(plan, measure(plan)), flush=True)
        print()


if __name__ == "__main__":
    main()
