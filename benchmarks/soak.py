"""Soak test of all operations at once: `python -m benchmarks.soak --seconds 600 --fault-share 0.2`.

An emulated API with thousands of pods runs in its own process, and a share of its responses are faults. This
process constantly lists, gets, waits, watches, deletes and reads history, with both clients, and checks every
result against the true state. Prints requests, errors by kind, violations (there must be none), and memory,
tasks and sockets at the start and at the end.

Memory is the system's figure, sampled under load; the start is after a warm-up of a fifth of the time, in
which all caches fill.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

import primepods
from primepods import AsyncClient, Client, Pod, PodState, RetryPolicy

from .server import environment

BOOT = 10.0
"""Approximate boot time of a pod, in seconds."""
LAG = 3.0
"""Lag of a stale response, in seconds."""
UNKNOWN = "no-such-pod"
_TIMEOUT = 120.0
"""Timeout of each wait and watch, in seconds."""
_SHORT = 5.0
"""Seconds of a run that only shows that everything works."""
_MAX_EXAMPLES = 5
"""Maximum violations to print."""
_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1
"""Options of glibc's `mallopt`."""
_LARGE_BLOCK = 128 * 1024
"""Bytes of a block that is returned to the system when it is freed."""

FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "reset"},
    {"kind": "reset", "acted": True},
    {"kind": "cut"},
    {"kind": "wrong_length"},
    {"kind": "wrong_length", "by": -3},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 500, "acted": True},
    {"kind": "status", "status": 502},
    {"kind": "status", "status": 503, "retry_after": 1},
    {"kind": "status", "status": 504, "acted": True},
    # A few: from many that do not depend on what was sent, the client learns to send next to nothing.
    {"kind": "status", "status": 429, "retry_after": 1, "times": 5},
    {"kind": "html", "status": 200},
    {"kind": "html", "status": 502, "acted": True},
    {"kind": "empty"},
    # For other operations, two of these in a row could not be told from the truth.
    {"kind": "empty_data", "on": "history"},
    {"kind": "stale", "seconds": LAG},
    {"kind": "redirect", "location": "http://elsewhere.example.test/api/v1/pods/"},
    {"kind": "drip", "seconds": 1.0},
    {"kind": "delay", "seconds": 1.5},
    {"kind": "delay", "seconds": 8.0},
    {"kind": "bad_chunk"},
)


class Api:
    """Control client of the emulator in the other process."""

    def __init__(self, url: str, key: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.key = key
        self._session = session

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """Call a control route; these have no faults."""
        headers = {"Authorization": f"Bearer {self.key}"}
        url = f"{self.url}/_emulator/{path}"
        async with self._session.request(method, url, json=body, headers=headers) as response:
            assert response.ok, await response.text()
            return await response.json()

    async def add(self, *, fails: bool = False, boot: float = BOOT) -> str:
        """Create a pod."""
        pod = {"name": "soak", "boot_seconds": boot, "failure": "broken on purpose" if fails else None}
        return str((await self.control("POST", "pods", pod))["id"])

    async def inject_faults(self, share: float) -> None:
        """Make a share of all responses fail, each kind of fault equally often."""
        share_of_each = share / len(FAULTS)
        for number, fault in enumerate(FAULTS):
            # Later rules see only the requests that the earlier ones have left.
            probability = share_of_each / (1 - number * share_of_each)
            await self.control("POST", "faults", {**fault, "probability": probability})


class Soak:
    """The workload and its results."""

    def __init__(self, api: Api, client: AsyncClient, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.violations: list[str] = []
        self.permanent: list[str] = []
        """Pods that are never deleted."""
        self.ends_at = 0.0
        self._api = api
        self._client = client
        self._rng = Random(seed)

    async def run(self, seconds: float) -> None:
        """Run all tasks at once for this long, then let them finish."""
        self.ends_at = time.monotonic() + seconds
        jobs: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (2, self._list),
            (4, self._statuses),
            (4, self._get),
            (40, self._wait),
            (20, self._delete),
            (4, self._delete_many),
            (1, self._watch),
            (1, self._history),
            (1, self._blocking),
        ]
        async with asyncio.TaskGroup() as group:
            for number, job in jobs:
                for _ in range(number):
                    group.create_task(self._repeat(job))

    async def _repeat(self, job: Callable[[], Awaitable[None]]) -> None:
        name = job.__name__.strip("_")
        while time.monotonic() < self.ends_at:
            try:
                await job()
                self.done[name] += 1
            except primepods.PrimePodsError as error:
                self.errors[type(error).__name__] += 1
            except Exception as error:
                self._violate(f"{name}: {error!r}")

    def _check(self, condition: object, what: str) -> None:
        if not condition:
            self._violate(what)

    def _violate(self, what: str) -> None:
        self.violations.append(what[:500])

    def _some(self, number: int) -> list[str]:
        """Return the ids of random permanent pods."""
        return self._rng.sample(self.permanent, min(number, len(self.permanent)))

    async def _list(self) -> None:
        """Check that the list has each permanent pod once, while others come and go."""
        seen: Counter[str] = Counter()
        async for pod in self._client.pods.list(page_size=self._rng.choice([100, 250, 1_000])):
            seen[pod.id] += 1
        self._check(max(seen.values()) == 1, "list: a pod was listed twice")
        missing = [pod_id for pod_id in self.permanent if pod_id not in seen]
        self._check(not missing, f"list: {len(missing)} pods were not listed")

    async def _statuses(self) -> None:
        known, unknown = self._some(1_000), [f"{UNKNOWN}-1", f"{UNKNOWN}-2"]
        found = await self._client.pods.statuses([*known, *unknown])
        failed = set(found.errors)
        self.errors.update(type(error).__name__ for error in found.errors.values())
        expected = [pod_id for pod_id in known if pod_id not in failed]
        self._check(list(found) == expected, "statuses: rows are missing")
        self._check(set(found.missing) == set(unknown) - failed, "statuses: what is missing is wrong")

    async def _get(self) -> None:
        (pod_id,) = self._some(1)
        self._check((await self._client.pods.get(pod_id)).id == pod_id, "get: another pod")
        try:
            await self._client.pods.get(UNKNOWN)
        except primepods.NotFoundError:
            return
        self._violate("get: a pod that is not there was found")

    async def _wait(self) -> None:
        fails = self._rng.random() < 0.2
        pod_id = await self._api.add(fails=fails)
        try:
            status = await self._client.pods.wait_ready(pod_id, interval=2.0, timeout=_TIMEOUT)
            self._check(status.is_ready and not fails, f"wait: {status!r} was taken for ready")
        except primepods.PodFailedError as error:
            self._check(fails and error.pod_id == pod_id, f"wait: {error}")
        finally:
            await self._delete_all([pod_id])

    async def _delete(self) -> None:
        pod_id = await self._api.add(boot=0.0)
        state = await self._client.pods.delete(pod_id)
        self._check(state in {PodState.DELETING, PodState.TERMINATED}, f"delete: {state!r}")
        await self._client.pods.wait_gone(pod_id, interval=2.0, timeout=_TIMEOUT)
        await self._check_gone(pod_id)

    async def _delete_many(self) -> None:
        ids = [await self._api.add(boot=0.0) for _ in range(20)]
        deletions = await self._client.pods.delete_many(ids)
        self._check(set(deletions) | set(deletions.errors) == set(ids), "delete_many: pods are missing")
        self.errors.update(type(error).__name__ for error in deletions.errors.values())
        await self._delete_all(list(deletions.errors))
        await self._client.pods.wait(ids, until=primepods.gone, interval=2.0, timeout=_TIMEOUT)
        await self._check_gone(ids[0])

    async def _delete_all(self, ids: list[str]) -> None:
        """Delete pods until they are confirmed gone."""
        while ids:
            ids = list((await self._client.pods.delete_many(ids, missing_ok=True)).errors)

    async def _check_gone(self, pod_id: str) -> None:
        """Check that a pod is gone, after the lag of stale responses."""
        await asyncio.sleep(LAG + 0.5)
        try:
            pod: Pod | None = await self._client.pods.get(pod_id)
        except primepods.NotFoundError:
            pod = None
        self._check(pod is None, f"gone: {pod_id} is still there")

    async def _watch(self) -> None:
        """Watch some pods until each was reported, then stop early, which must leak nothing."""
        ids = self._some(300)
        unreported = set(ids)
        async for change in self._client.pods.watch(ids, interval=2.0, timeout=_TIMEOUT):
            self._check(change.after is not None, f"watch: {change.pod_id} is reported as gone")
            unreported.discard(change.pod_id)
            if not unreported:
                break
        await asyncio.sleep(1.0)

    async def _history(self) -> None:
        """Read a few thousand history records, each once, then stop."""
        seen: Counter[str] = Counter()
        async for record in self._client.pods.history(page_size=500):
            seen[record.id] += 1
            if len(seen) == 2_000:
                break
        self._check(max(seen.values(), default=1) == 1, "history: a record was listed twice")

    async def _blocking(self) -> None:
        """Use a blocking client in a thread, including open and close."""
        ids = self._some(150)

        def work() -> None:
            with Client(self._api.key, base_url=self._api.url, retry=_RETRY, timeout=5.0) as client:
                page = next(client.pods.list(page_size=50).pages())
                self._check(len(page) >= 50, "blocking: a page is short")
                self._check(set(client.pods.statuses(ids)) == set(ids), "blocking: rows are missing")

        await asyncio.to_thread(work)


_RETRY = RetryPolicy(attempts=6, base_delay=0.2, max_delay=4.0)


@contextmanager
def emulated(pods: int, seed: int) -> Iterator[tuple[str, str]]:
    """Run the emulator in its own process; yield its URL and key."""
    words = ("--pods", str(pods), "--seed", str(seed), "--boot-seconds", str(BOOT))
    with subprocess.Popen(
        [sys.executable, "-m", "primepods", "emulator", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        try:
            url, key = (process.stdout.readline().strip().partition("=")[2] for _ in range(2))
            yield url, key
        finally:
            process.terminate()


@asynccontextmanager
async def soaked(url: str, key: str, seed: int) -> AsyncIterator[tuple[Soak, Api]]:
    """Open the resources of the workload, and close them."""
    async with (
        aiohttp.ClientSession() as session,
        AsyncClient(key, base_url=url, retry=_RETRY, timeout=5.0, deadline=60.0) as client,
    ):
        api = Api(url, key, session)
        soak = Soak(api, client, seed)
        soak.permanent = [pod.id async for pod in client.pods.list(page_size=1_000)]
        yield soak, api


def configure_malloc() -> None:
    """Set glibc to one heap for all threads, and to return large blocks at once.

    Otherwise freed memory, which glibc keeps for each thread, would count as memory in use.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)
        mallopt(_TRIM_THRESHOLD, _LARGE_BLOCK)


def memory() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Sampler:
    """Sampler of the memory, once a second, because it varies with the tasks in flight."""

    def __init__(self) -> None:
        self.samples: list[int] = []

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.samples.append(memory())
            await asyncio.sleep(1.0)

    def tenths(self) -> list[float]:
        """Return the median of each tenth of the time, in megabytes."""
        count = len(self.samples)
        cuts = [count * n // 10 for n in range(11)]
        return [
            round(statistics.median(self.samples[start : max(end, start + 1)]) / 1e6, 1)
            for start, end in pairwise(cuts)
        ]


def sockets() -> int:
    """Return the number of open sockets of this process."""
    links = list(Path("/proc/self/fd").iterdir())
    return sum(link.is_symlink() and str(link.readlink()).startswith("socket:") for link in links)


async def main(options: argparse.Namespace, url: str, key: str) -> dict[str, Any]:
    """Warm up, run the workload, and return the results."""
    # What has begun is finished, which takes twenty seconds: too long before a run whose memory says nothing.
    warm_up = options.seconds / 5 if options.seconds > _SHORT else 0.0
    async with soaked(url, key, options.seed) as (soak, api):
        await asyncio.sleep(LAG)  # a stale response must not date from before the pods existed
        await api.inject_faults(options.fault_share)
        await soak.run(warm_up)
        soak.done.clear()
        soak.errors.clear()
        await api.control("DELETE", "requests")
        gc.collect()
        blocks_at_start = sys.getallocatedblocks()
        sampler = Sampler()
        sampling = asyncio.create_task(sampler.run())
        await soak.run(options.seconds - warm_up)
        sampling.cancel()
        gc.collect()
        blocks_growth = sys.getallocatedblocks() - blocks_at_start
        tenths = sampler.tenths()
        before, after = tenths[0], tenths[-1]
        requests = (await api.control("GET", "requests"))["requests"]
    await asyncio.sleep(0.5)
    other_tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return {
        "seconds": options.seconds,
        "fault_share": options.fault_share,
        "pods": options.pods,
        "done": dict(soak.done),
        "requests": len(requests),
        "requests_with_faults": sum(bool(request["faults"]) for request in requests),
        "errors": dict(soak.errors),
        "violations": len(soak.violations),
        "examples": soak.violations[:_MAX_EXAMPLES],
        "memory_at_start_mb": before,
        "memory_at_end_mb": after,
        "memory_growth_percent": round(100 * (after / before - 1), 2),
        "allocated_blocks_growth": blocks_growth,
        "memory_by_tenths_mb": tenths,
        "tasks_at_end": len(other_tasks),
    }


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Work against faults.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--fault-share", type=float, default=0.2, help="of all responses (default: 0.2)")
    parser.add_argument("--pods", type=int, default=10_000, help="in the list (default: 10,000)")
    parser.add_argument("--seed", type=int, default=7, help="of all that is random (default: 7)")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse_options()
    configure_malloc()
    with emulated(chosen.pods, chosen.seed) as (address, api_key):
        sockets_at_start, threads_at_start = sockets(), threading.active_count()
        outcome = asyncio.run(main(chosen, address, api_key))
        outcome["sockets_at_end"] = sockets() - sockets_at_start
        outcome["threads_at_end"] = threading.active_count() - threads_at_start
    print(json.dumps(outcome, indent=2))
    raise SystemExit(bool(outcome["violations"]))
