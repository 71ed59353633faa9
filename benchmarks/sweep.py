"""Twelve trials: with a lease each, with four leases and a queue by hand, and with a pool of four.

    python -m benchmarks.sweep [--trials 12] [--boot-seconds 3] [--trial-seconds 1]

On the emulator, in real time. A lease each is what a recipe did before there were pools: four at a time. By
hand, four leases are rented at the start, and workers take trials from a queue; a lost pod would end all of
them. Each trial runs a command on its pod.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from primepods import AsyncClient, AsyncLeasedPod, PodSpec
from primepods.emulator import Emulator

_PODS = 4
_INTERVAL = 0.2
HEAD = "| How | Seconds | Ratio | Pods | Requests | Pod-seconds |\n|---|---:|---:|---:|---:|---:|"


@attrs.frozen
class Sweep:
    """What is the same for all ways.

    Attributes:
        client: The client.
        specs: The specs to rent.
        trials: Number of trials.
        seconds: Duration of a trial.
    """

    client: AsyncClient
    specs: list[PodSpec]
    trials: int
    seconds: float

    async def work(self, pod: AsyncLeasedPod, number: int) -> None:
        """Do one trial on a pod."""
        await pod.run(f"sleep {self.seconds}; echo {number}")

    async def with_a_lease_each(self) -> None:
        """Rent a pod for each trial, four at a time."""
        free = asyncio.Semaphore(_PODS)

        async def trial(number: int) -> None:
            async with free, self.client.pods.lease(self.specs, login=True, interval=_INTERVAL) as pod:
                await self.work(pod, number)

        async with asyncio.TaskGroup() as group:
            for number in range(self.trials):
                group.create_task(trial(number))

    async def by_hand(self) -> None:
        """Rent four pods, each with a worker that takes trials from a queue."""
        left = list(range(self.trials))

        async def worker() -> None:
            async with self.client.pods.lease(self.specs, login=True, interval=_INTERVAL) as pod:
                while left:
                    await self.work(pod, left.pop())

        async with asyncio.TaskGroup() as group:
            for _ in range(_PODS):
                group.create_task(worker())

    async def with_a_pool(self) -> None:
        """Use a pool."""
        async with self.client.pods.pool(self.specs, size=_PODS, login=True, interval=_INTERVAL) as pool:
            async for result in pool.map(self.work, range(self.trials)):
                result.get()


WAYS: dict[str, Callable[[Sweep], Coroutine[Any, Any, None]]] = {
    "a lease each, four at a time": Sweep.with_a_lease_each,
    "four leases and a queue, by hand": Sweep.by_hand,
    "a pool of four": Sweep.with_a_pool,
}


async def measure(
    way: Callable[[Sweep], Coroutine[Any, Any, None]], trials: int, boot_seconds: float, seconds: float
) -> tuple[float, int, int, float]:
    """Return the seconds of one way, the number of its pods and requests, and the seconds of its pods."""
    alive = 0.0
    with Emulator(boot_seconds=boot_seconds, delete_seconds=1) as emulator:
        async with AsyncClient(api_key=emulator.api_key, base_url=emulator.url) as client:
            specs = PodSpec.from_offers(await client.availability.find(gpu_type="H100", limit=3))
            before = len(emulator.requests)
            started_at = time.perf_counter()
            running = asyncio.create_task(way(Sweep(client, specs, trials, seconds)))
            last = started_at
            while not running.done():
                await asyncio.wait({running}, timeout=_INTERVAL / 4)
                now = time.perf_counter()
                alive += len(emulator.pods) * (now - last)
                last = now
            await running
            took = time.perf_counter() - started_at
        orders = emulator.requests.where(method="POST", path="/api/v1/pods/")
        return took, len(orders), len(emulator.requests) - before, alive


def main() -> None:
    """Measure all ways, and print them as a table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--boot-seconds", type=float, default=3.0)
    parser.add_argument("--trial-seconds", type=float, default=1.0)
    options = parser.parse_args()
    ssh = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(PRIMEPODS_STATE_DIR=folder, PRIMEPODS_SSH_COMMAND=ssh, TMPDIR=folder)
        found = {
            name: asyncio.run(measure(way, options.trials, options.boot_seconds, options.trial_seconds))
            for name, way in WAYS.items()
        }
    pool = found["a pool of four"][0]
    print(HEAD)
    for name, (took, pods, requests, alive) in found.items():
        print(f"| {name} | {took:.1f} | {took / pool:.2f} | {pods} | {requests} | {alive:.0f} |")


if __name__ == "__main__":
    main()
