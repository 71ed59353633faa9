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
_PATIENCE = 120.0
_SHOWN = 5

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
    {"kind": "status", "status": 429, "retry_after": 1},
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
        where = f"{self.url}/_emulator/{path}"
        async with self._session.request(method, where, json=body, headers=headers) as answer:
            assert answer.ok, await answer.text()
            return await answer.json()

    async def add(self, *, fails: bool = False, boot: float = BOOT) -> str:
        """Create a pod."""
        pod = {"name": "soak", "boot_seconds": boot, "failure": "broken on purpose" if fails else None}
        return str((await self.control("POST", "pods", pod))["id"])

    async def break_down(self, share: float) -> None:
        """Make a share of all responses fail, each kind of fault equally often."""
        each = share / len(FAULTS)
        for number, fault in enumerate(FAULTS):
            # The first rule that applies decides: later rules see only the remaining requests.
            await self.control("POST", "faults", {**fault, "probability": each / (1 - number * each)})


class Soak:
    """The workload and its results."""

    def __init__(self, api: Api, client: AsyncClient, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.violations: list[str] = []
        self.lasting: list[str] = []
        """Pods that are never deleted."""
        self.ends_at = 0.0
        self._api = api
        self._client = client
        self._rng = Random(seed)  # noqa: S311 - seeded, not secret

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
            except Exception as error:  # noqa: BLE001 - recorded as a violation
                self._violate(f"{name}: {error!r}")

    def _check(self, fine: bool, what: str) -> None:  # noqa: FBT001 - reads like an assertion
        if not fine:
            self._violate(what)

    def _violate(self, what: str) -> None:
        self.violations.append(what[:500])

    def _some(self, number: int) -> list[str]:
        return self._rng.sample(self.lasting, min(number, len(self.lasting)))

    async def _list(self) -> None:
        """Check that the list has each lasting pod once, while others come and go."""
        seen: Counter[str] = Counter()
        async for pod in self._client.pods.list(page_size=self._rng.choice([100, 250, 1_000])):
            seen[pod.id] += 1
        self._check(max(seen.values()) == 1, "list: a pod was listed twice")
        missing = [one for one in self.lasting if one not in seen]
        self._check(not missing, f"list: {len(missing)} pods were not listed")

    async def _statuses(self) -> None:
        ids = [*self._some(1_000), f"{UNKNOWN}-1", f"{UNKNOWN}-2"]
        found = await self._client.pods.statuses(ids)
        failed = set(found.errors)
        self.errors.update(type(error).__name__ for error in found.errors.values())
        self._check(
            list(found) == [one for one in ids[:-2] if one not in failed], "statuses: rows are missing"
        )
        self._check(set(found.missing) == set(ids[-2:]) - failed, "statuses: what is missing is wrong")

    async def _get(self) -> None:
        (one,) = self._some(1)
        self._check((await self._client.pods.get(one)).id == one, "get: another pod")
        try:
            await self._client.pods.get(UNKNOWN)
        except primepods.NotFoundError:
            return
        self._violate("get: a pod that is not there was found")

    async def _wait(self) -> None:
        fails = self._rng.random() < 0.2  # noqa: PLR2004 - one in five
        one = await self._api.add(fails=fails)
        try:
            row = await self._client.pods.wait_ready(one, interval=2.0, timeout=_PATIENCE)
            self._check(row.is_ready and not fails, f"wait: {row!r} was taken for ready")
        except primepods.PodFailedError as error:
            self._check(fails and error.pod_id == one, f"wait: {error}")
        finally:
            await self._clear([one])

    async def _delete(self) -> None:
        one = await self._api.add(boot=0.0)
        state = await self._client.pods.delete(one)
        self._check(state in {PodState.DELETING, PodState.TERMINATED}, f"delete: {state!r}")
        await self._client.pods.wait_gone(one, interval=2.0, timeout=_PATIENCE)
        await self._is_gone(one)

    async def _delete_many(self) -> None:
        ids = [await self._api.add(boot=0.0) for _ in range(20)]
        answer = await self._client.pods.delete_many(ids)
        self._check(set(answer) | set(answer.errors) == set(ids), "delete_many: pods are missing")
        self.errors.update(type(error).__name__ for error in answer.errors.values())
        await self._clear(list(answer.errors))
        await self._client.pods.wait(ids, until=primepods.gone, interval=2.0, timeout=_PATIENCE)
        await self._is_gone(ids[0])

    async def _clear(self, ids: list[str]) -> None:
        """Delete pods until they are confirmed gone."""
        while ids:
            ids = list((await self._client.pods.delete_many(ids, missing_ok=True)).errors)

    async def _is_gone(self, pod_id: str) -> None:
        """Check that a pod is gone, after the lag of stale responses."""
        await asyncio.sleep(LAG + 0.5)
        try:
            pod: Pod | None = await self._client.pods.get(pod_id)
        except primepods.NotFoundError:
            pod = None
        self._check(pod is None, f"gone: {pod_id} is still there")

    async def _watch(self) -> None:
        """Watch a few changes of some pods, then stop early, which must leak nothing."""
        ids = self._some(300)
        left = set(ids)
        async for change in self._client.pods.watch(ids, interval=2.0, timeout=_PATIENCE):
            self._check(change.after is not None, f"watch: {change.pod_id} is reported as gone")
            left.discard(change.pod_id)
            if not left:
                break
        await asyncio.sleep(1.0)

    async def _history(self) -> None:
        """Read a few thousand history records, each once, then stop."""
        seen: Counter[str] = Counter()
        async for record in self._client.pods.history(page_size=500):
            seen[record.id] += 1
            if len(seen) == 2_000:  # noqa: PLR2004 - enough
                break
        self._check(max(seen.values(), default=1) == 1, "history: a record was listed twice")

    async def _blocking(self) -> None:
        """Use a blocking client in a thread, including open and close."""
        ids = self._some(150)

        def work() -> None:
            with Client(self._api.key, base_url=self._api.url, retry=_RETRY, timeout=5.0) as client:
                page = next(client.pods.list(page_size=50).pages())
                self._check(len(page) >= 50, "blocking: a page is short")  # noqa: PLR2004 - asked for
                self._check(set(client.pods.statuses(ids)) == set(ids), "blocking: rows are missing")

        await asyncio.to_thread(work)


_RETRY = RetryPolicy(attempts=6, base_delay=0.2, max_delay=4.0)


@contextmanager
def emulated(pods: int, seed: int) -> Iterator[tuple[str, str]]:
    """Run the emulator in its own process; yield its URL and key."""
    words = ("--pods", str(pods), "--seed", str(seed), "--boot-seconds", str(BOOT))
    with subprocess.Popen(  # noqa: S603 - our own command
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
        soak.lasting = [pod.id async for pod in client.pods.list(page_size=1_000)]
        yield soak, api


def hoard_nothing() -> None:
    """Set glibc to one heap for all threads, and to return large blocks at once: else freed memory,
    cached per thread, hides the memory in use.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((-8, 1), (-3, 128 * 1024), (-1, 128 * 1024)):
            mallopt(option, value)


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
    """Warm up, run the workload, and print the results."""
    warm_up = options.seconds / 5
    async with soaked(url, key, options.seed) as (soak, api):
        await asyncio.sleep(LAG)  # a stale response must not date from before the pods existed
        await api.break_down(options.fault_share)
        await soak.run(warm_up)
        soak.done.clear()
        soak.errors.clear()
        await api.control("DELETE", "requests")
        gc.collect()
        blocks = sys.getallocatedblocks()
        sampler = Sampler()
        sampling = asyncio.create_task(sampler.run())
        await soak.run(options.seconds - warm_up)
        sampling.cancel()
        gc.collect()
        blocks = sys.getallocatedblocks() - blocks
        before, *_, after = tenths = sampler.tenths()
        requests = (await api.control("GET", "requests"))["requests"]
    await asyncio.sleep(0.5)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    return {
        "seconds": options.seconds,
        "fault_share": options.fault_share,
        "pods": options.pods,
        "done": dict(soak.done),
        "requests": len(requests),
        "requests_struck": sum(bool(request["faults"]) for request in requests),
        "errors": dict(soak.errors),
        "violations": len(soak.violations),
        "examples": soak.violations[:_SHOWN],
        "memory_at_start_mb": before,
        "memory_at_end_mb": after,
        "memory_growth_percent": round(100 * (after / before - 1), 2),
        "allocated_blocks_growth": blocks,
        "memory_by_tenths_mb": tenths,
        "tasks_at_end": len(left),
    }


def parsed() -> argparse.Namespace:
    """Return the parsed options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Work against faults.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--fault-share", type=float, default=0.2, help="of all answers (default: 0.2)")
    parser.add_argument("--pods", type=int, default=10_000, help="in the list (default: 10,000)")
    parser.add_argument("--seed", type=int, default=7, help="of all that is random (default: 7)")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parsed()
    hoard_nothing()
    with emulated(chosen.pods, chosen.seed) as (address, api_key):
        begun = sockets(), threading.active_count()
        outcome = asyncio.run(main(chosen, address, api_key))
        outcome["sockets_at_end"] = sockets() - begun[0]
        outcome["threads_at_end"] = threading.active_count() - begun[1]
    print(json.dumps(outcome, indent=2))
    raise SystemExit(bool(outcome["violations"]))
