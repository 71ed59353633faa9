"""Cost of waiting for many pods: the shared poller against the two usual alternatives.

    python -m benchmarks.waiting [--quick]

Each waiter is a separate task, as in an orchestrator, and waits for one pod. All pods boot for 20 intervals;
then each becomes ready at its own time within the next interval. The time from there until its waiter runs is
measured. Three ways to wait:

- `wait_ready`: each task creates a client and calls ``pods.wait_ready``.
- a loop over ``get``: the tasks share a client; each gets its pod, sleeps for an interval, and repeats.
- a session a task: each task has its own client, and polls the status of its pod in such a loop.

Every run has its own process, with the server in another one. Requests are those that reached the server
within the 20 intervals and until the last waiter ran; processor time, memory and files are those of the
waiting process only. Prints a table; where a way cannot keep up or exceeds a process's limit of open files,
the table says so and omits the count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from primepods import AsyncClient

from .fleet import pod_id, pod_ids, rows
from .server import KEY, Connection, environment
from .sync import machine

TICKS = 20
_MAX_FILES = 40
"""Maximum open files of a process that waits with the shared poller."""
_MAX_REQUESTS_PER_TICK = {100: 2, 1_000: 11, 10_000: 101}
"""Maximum requests of the shared poller in a tick, by number of pods."""
_COUNT_INTERVAL = 0.05
"""Seconds between two counts of open files."""
_FILES = next((path for path in ("/proc/self/fd", "/dev/fd") if Path(path).is_dir()), "")
"""Folder with an entry for each open file of this process; empty if the system has none."""


class Fleet:
    """Pods that boot and then become ready one after another; the same interface as `server.ServerState`.

    Args:
        count: Number of pods.
        interval: Seconds within which they become ready.
    """

    def __init__(self, count: int, interval: float) -> None:
        self.timings: list[tuple[float, float]] = []
        self._interval = interval
        self._started_at = float("inf")
        self._ready_at = dict.fromkeys((pod_id(number).encode() for number in range(count)), float("inf"))
        self._statuses = {pod_id(number).encode(): _states(rows(number)[1]) for number in range(count)}
        self._pods = {pod_id(number).encode(): _states(rows(number)[0]) for number in range(count)}

    def respond(self, target: bytes) -> bytes:
        """Return the response body of a request."""
        path, _, query = target.partition(b"?")
        now = time.monotonic()
        if path.endswith(b"/status"):
            found = [self._statuses[key][now >= self._ready_at[key]] for key in _ids(query)]
            return b'{"data":[%b],"status":null}' % b",".join(found)
        if path.startswith(b"/bench/"):
            return self._control(path.rpartition(b"/")[2], now)
        key = path.rpartition(b"/")[2]
        return self._pods[key][now >= self._ready_at[key]]

    def _control(self, word: bytes, now: float) -> bytes:
        """Return the figures after ``end``; else start, with so many ticks until the first pod is ready."""
        if word == b"end":
            requests = sum(arrived_at >= self._started_at for arrived_at, _ in self.timings)
            return json.dumps({"requests": requests, "ready_at": list(self._ready_at.values())}).encode()
        self._started_at = now
        first_ready_at = now + float(word) * self._interval
        for number, key in enumerate(self._ready_at):
            # Multiples of the golden section fill an interval evenly, in mixed order.
            self._ready_at[key] = first_ready_at + number * 0.618034 % 1 * self._interval
        return b"null"


def _ids(query: bytes) -> list[bytes]:
    return [pair.partition(b"=")[2] for pair in query.split(b"&")]


def _states(row: dict[str, Any]) -> tuple[bytes, bytes]:
    """Encode a row of a booting pod and one of the same pod when ready."""
    boots = {**row, "status": "ACTIVE", "installationStatus": "ACTIVE", "installationProgress": 40}
    ready = {**boots, "installationStatus": "FINISHED", "installationProgress": 100}
    ready |= {"ip": row["ip"] or "135.1.2.3"}
    return json.dumps(boots).encode(), json.dumps(ready).encode()


async def serve(count: int, interval: float) -> None:
    """Listen, print the port, and stop at the end of the standard input."""
    loop, fleet = asyncio.get_running_loop(), Fleet(count, interval)
    connect: Callable[[], Connection] = partial(Connection, fleet, 0.0, compresses=False)  # type: ignore[arg-type]  # it has what a Connection uses
    server = await loop.create_server(connect, "127.0.0.1", 0, backlog=4_096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


async def shared_poller(url: str, pod: str, interval: float) -> None:
    """Wait with primepods."""
    async with AsyncClient(KEY, base_url=url) as client:
        await client.pods.wait_ready(pod, interval=interval)


async def loop_over_get(client: AsyncClient, pod: str, interval: float) -> None:
    """Wait with a loop over ``get`` on a shared client."""
    while not (await client.pods.get(pod)).is_ready:
        await asyncio.sleep(interval)


async def session_a_task(url: str, pod: str, interval: float) -> None:
    """Wait with a separate client, which shares nothing with other tasks."""
    async with AsyncClient(KEY, base_url=url) as client:
        while not (await client.pods.status(pod)).is_ready:
            await asyncio.sleep(interval)


async def wait(way: str, count: int, interval: float, ticks: int, url: str) -> dict[str, Any]:
    """Wait for all pods one way, and return the figures."""
    ids = pod_ids(0, count)
    woken_at: dict[str, float] = {}
    max_files = 0

    async def count_files() -> None:
        nonlocal max_files
        while _FILES:
            max_files = max(max_files, len(os.listdir(_FILES)))
            await asyncio.sleep(_COUNT_INTERVAL)

    async with AsyncClient(KEY, base_url=url) as client:
        round_trips = [await _round_trip(client, ids[:100]) for _ in range(20)]
        ways: dict[str, Callable[[str], Awaitable[None]]] = {
            "wait_ready": lambda pod: shared_poller(url, pod, interval),
            "get": lambda pod: loop_over_get(client, pod, interval),
            "session": lambda pod: session_a_task(url, pod, interval),
        }

        async def wait_for(pod: str) -> None:
            await ways[way](pod)
            woken_at[pod] = time.monotonic()

        await asyncio.to_thread(_fetch, f"{url}/bench/{ticks}")
        files = asyncio.create_task(count_files())
        cpu_at_start = time.process_time()
        async with asyncio.TaskGroup() as group:
            for pod in ids:
                group.create_task(wait_for(pod))
        cpu = time.process_time() - cpu_at_start
        files.cancel()
    end = await asyncio.to_thread(_fetch, f"{url}/bench/end")
    delays = [woken_at[pod] - ready_at for pod, ready_at in zip(ids, end["ready_at"], strict=True)]
    assert min(delays) >= 0.0
    return {
        "requests": end["requests"],
        "cpu": cpu,
        "memory": _peak_memory(),
        "files": max_files,
        "delay": statistics.median(delays),
        "longest": max(delays),
        "round_trip": statistics.median(round_trips),
    }


async def _round_trip(client: AsyncClient, ids: list[str]) -> float:
    started_at = time.monotonic()
    await client.pods.statuses(ids)
    return time.monotonic() - started_at


def _fetch(url: str) -> Any:
    with urlopen(url) as response:
        return json.load(response)


def _peak_memory() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


@contextmanager
def serving(count: int, interval: float) -> Iterator[str]:
    """Run a server with ``count`` pods in its own process; yield its URL."""
    command = [sys.executable, "-m", "benchmarks.waiting", "--serve", json.dumps([count, interval])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()


def measure(way: str, count: int, interval: float, ticks: int) -> dict[str, Any]:
    """Measure a wait in its own process."""
    with serving(count, interval) as url:
        arguments = json.dumps([way, count, interval, ticks, url])
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.waiting", "--wait", arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@dataclass(frozen=True)
class Way:
    """One way to wait, its maximum number of waiters, and the reason for that limit."""

    key: str
    name: str
    max_waiters: int
    reason: str = ""


WAYS = (
    Way("wait_ready", "`wait_ready`, a client a task", 10_000),
    Way(
        "get",
        "a loop over `get` a pod, one client",
        1_000,
        "{} requests a second are more than it can send",
    ),
    Way(
        "session", "a loop over `status`, a session a task", 1_000, "it would need {} sockets in one process"
    ),
)

HEAD = (
    "| waiters | how | requests | a tick | CPU s | peak memory MB | open files | delay, median "
    "| in intervals | in round trips | longest |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def table_row(way: Way, count: int, got: dict[str, Any], interval: float, ticks: int) -> str:
    """Return one row of the table."""
    cells = (
        f"{count:,}",
        way.name,
        f"{got['requests']:,}",
        f"{got['requests'] / (ticks + 1):,.1f}",
        f"{got['cpu']:.2f}",
        f"{got['memory']:,.0f}",
        f"{got['files'] or '?'}",
        f"{got['delay'] * 1e3:,.0f} ms",
        f"{got['delay'] / interval:.2f}",
        f"{got['delay'] / got['round_trip']:,.0f}",
        f"{got['longest'] * 1e3:,.0f} ms",
    )
    return f"| {' | '.join(cells)} |"


def verdict(count: int, got: dict[str, Any], interval: float, ticks: int) -> str:
    """Return the shared poller's promises and whether they are kept."""
    max_requests = _MAX_REQUESTS_PER_TICK.get(count, math.ceil(count / 100) + 1)
    max_delay = interval + 2 * got["round_trip"]
    promises = {
        f"at most {max_requests} requests a tick": got["requests"] <= max_requests * (ticks + 2),
        f"under {_MAX_FILES} open files": got["files"] < _MAX_FILES,
        "woken within an interval and two round trips (median)": got["delay"] <= max_delay,
    }
    verdicts = [f"{what}: {'kept' if is_kept else 'NOT KEPT'}" for what, is_kept in promises.items()]
    return f"{count:,} waiters: {'; '.join(verdicts)}."


def main() -> None:
    """Measure and print the results; or, as a child process, serve or wait."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.waiting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few waiters, three ticks: to see that it works")
    parser.add_argument("--serve", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--wait", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(*options.serve))
    elif options.wait:
        print(json.dumps(asyncio.run(wait(*options.wait))))
    else:
        compare(quick=options.quick)


def compare(*, quick: bool) -> None:
    """Measure all ways, one after another."""
    interval, ticks = (0.3, 3) if quick else (1.0, TICKS)
    verdicts: list[str] = []
    print(f"{machine()}\n\n{ticks} ticks of {interval:g} s{' (quick: quote no figures)' if quick else ''}\n")
    print(HEAD, flush=True)
    for count in (100,) if quick else (100, 1_000, 10_000):
        for way in WAYS:
            if count > way.max_waiters:
                print(f"| {count:,} | {way.name} | not run: {way.reason.format(f'{count:,}')} |", flush=True)
                continue
            got = measure(way.key, count, interval, ticks)
            print(table_row(way, count, got, interval, ticks), flush=True)
            if way.key == "wait_ready":
                verdicts.append(verdict(count, got, interval, ticks))
    print("", *verdicts, sep="\n")


if __name__ == "__main__":
    main()
