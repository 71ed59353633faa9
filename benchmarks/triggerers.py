"""Waiting in many processes at once: 1, 4 and 16 triggerers (or workers) of an orchestrator, on one emulator.

    python -m benchmarks.triggerers [--quick]

Each process has 500 tasks, and each task waits for a pod of its own with a client of its own, so that the
tasks of a process share its poller. The processes begin one after the other, spread over one interval, or all
at once. All pods boot for six intervals more; then each becomes ready at a moment of its own within the next
one, and the time from that moment until its waiter runs is measured. Requests are those that reach the
emulator in the last five intervals before that.

The second table has sixteen processes and an API that refuses with 429 what exceeds ten requests a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primepods import AsyncClient
from primepods.emulator import Emulator, Status

from .server import KEY, environment
from .sync import machine

TICKS = 6
_LIMIT = 10
"""Requests a second that the API of the second table lets through, all processes together."""
_FILES = next((path for path in ("/proc/self/fd", "/dev/fd") if Path(path).is_dir()), "")
_MAKING = 0.001
"""Seconds for the emulator to make a pod, at most."""


@dataclass(frozen=True)
class Plan:
    """What is measured in one run.

    Attributes:
        processes: How many.
        waiters: How many in each.
        interval: Seconds between two looks at a pod.
        limit: Requests a second beyond which the API refuses; 0 for never.
        at_once: Whether all begin at the same moment.
    """

    processes: int
    waiters: int
    interval: float
    limit: int = 0
    at_once: bool = False


async def wait(url: str, interval: float, begin: float, ready_at: dict[str, float]) -> dict[str, Any]:
    """Wait for pods, each in a task of its own; times are by the clock that all processes share."""
    delays: list[float] = []
    most_files = 0

    async def one(pod: str) -> None:
        async with AsyncClient(KEY, base_url=url) as client:
            await client.pods.wait_ready(pod, interval=interval)
        delays.append(time.monotonic() - ready_at[pod])

    async def count_files() -> None:
        nonlocal most_files
        while _FILES:
            most_files = max(most_files, len(os.listdir(_FILES)))  # noqa: PTH208 - names will do
            await asyncio.sleep(0.05)

    await asyncio.sleep(begin - time.monotonic())
    files = asyncio.create_task(count_files())
    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        for pod in ready_at:
            group.create_task(one(pod))
    files.cancel()
    return {"delays": delays, "cpu": time.process_time() - began, "files": most_files}


def serve_one() -> None:
    """Be one of the processes: told what to wait for when all have been started."""
    print("up", flush=True)
    print(json.dumps(asyncio.run(wait(*json.loads(sys.stdin.readline())))), flush=True)


def measure(plan: Plan) -> dict[str, Any]:
    """Run one plan."""
    command = [sys.executable, "-m", "benchmarks.triggerers", "--one"]
    with Emulator(api_key=KEY) as emulator, ExitStack() as stack:
        if plan.limit:
            emulator.faults.add(Status(429, retry_after=1), on="status", beyond=plan.limit, window=1.0)
        processes = [
            stack.enter_context(
                subprocess.Popen(  # noqa: S603 - our own command
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
                )
            )
            for _ in range(plan.processes)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        began = time.monotonic() + 1.0 + plan.processes * plan.waiters * _MAKING
        for number, process in enumerate(processes):
            assert process.stdin is not None
            begin = began + (0.0 if plan.at_once else plan.interval * number / plan.processes)
            orders = [emulator.url, plan.interval, begin, _pods(emulator, plan, number, began)]
            process.stdin.write(json.dumps(orders) + "\n")
            process.stdin.flush()
        assert time.monotonic() < began
        before, lasting = began + 2 * plan.interval, plan.interval * (TICKS - 1)
        time.sleep(max(0.0, before - time.monotonic()))
        requests = len(emulator.requests)
        time.sleep(max(0.0, before + lasting - time.monotonic()))
        seen = emulator.requests[requests:]
        found = [json.loads(process.stdout.read()) for process in processes if process.stdout is not None]
    delays = sorted(delay for one in found for delay in one["delays"])
    return {
        "requests": len(seen) / (TICKS - 1),
        "refused": sum(request.status == 429 for request in seen) / (TICKS - 1),  # noqa: PLR2004 - as it is
        "median": statistics.median(delays),
        "late": delays[int(len(delays) * 0.99)],
        "longest": delays[-1],
        "files": max(one["files"] for one in found),
        "cpu": max(one["cpu"] for one in found) / ((TICKS + 2) * plan.interval),
    }


def _pods(emulator: Emulator, plan: Plan, process: int, began: float) -> dict[str, float]:
    """Make the pods of a process; return when each will be ready."""
    ready_at: dict[str, float] = {}
    for number in range(plan.waiters):
        # Multiples of the golden section fill an interval evenly, in no order.
        spread = (process * plan.waiters + number) * 0.618034 % 1
        due = began + (1 + TICKS + spread) * plan.interval
        ready_at[emulator.add_pod(boot_seconds=due - time.monotonic())] = due
    return ready_at


HEAD = (
    "| processes | waits | begin | interval | requests a tick | refused a tick | delay, median | 99 % "
    "| longest | open files each | processor, each |\n|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def line(plan: Plan, got: dict[str, Any]) -> str:
    """One line of a table."""
    cells = (
        f"{plan.processes}",
        f"{plan.processes * plan.waiters:,}",
        "at once" if plan.at_once else "spread",
        f"{plan.interval:g} s",
        f"{got['requests']:.1f}",
        f"{got['refused']:.1f}",
        f"{got['median']:.1f} s",
        f"{got['late']:.1f} s",
        f"{got['longest']:.1f} s",
        f"{got['files']}",
        f"{got['cpu']:.1%}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print; or, as one of the child processes, wait."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.triggerers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few waits: to see that it works")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        serve_one()
        return
    waiters, interval = (20, 0.5) if options.quick else (500, 5.0)
    print(f"{machine()}{' (quick: quote no figures)' if options.quick else ''}\n")
    counts, factors = ((1, 2), ()) if options.quick else ((1, 4, 16), (1, 2, 4))
    free = [Plan(processes, waiters, interval) for processes in counts]
    limited = [Plan(counts[-1], waiters, 4 * interval, _LIMIT, at_once=True)]
    limited += [Plan(counts[-1], waiters, interval * factor, _LIMIT) for factor in factors]
    for title, plans in (("Without a limit", free), (f"{_LIMIT} requests a second", limited)):
        print(f"{title}:\n\n{HEAD}", flush=True)
        for plan in plans:
            print(line(plan, measure(plan)), flush=True)
        print()


if __name__ == "__main__":
    main()
