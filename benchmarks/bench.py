"""Shared setup of all benchmark groups: server, event loop, and sizes."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import selectors
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from .server import Server


class Selector(selectors.DefaultSelector):
    """Selector that records since when its loop has been idle."""

    idle_since = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Record the time, then select."""
        if timeout is None or timeout > 0:
            self.idle_since = time.monotonic()
        return super().select(timeout)


@dataclass
class Bench:
    """Setup of a benchmark run.

    Attributes:
        server: The server process.
        runner: The event loop of the asynchronous clients.
        selector: The loop's selector.
        population: Number of pods on the server.
        pods: Number of pods in one job.
        repetitions: Min samples of each figure; quick jobs get more.
        sizes: Numbers of pods at which growth is measured.
    """

    server: Server
    runner: asyncio.Runner
    selector: Selector
    population: int = 100_000
    pods: int = 10_000
    repetitions: int = 9
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000)

    def slices(self, size: int) -> Iterator[int]:
        """Yield the first pod numbers of consecutive slices, in a cycle, so that no cache knows the pods."""
        return itertools.cycle(range(0, self.population - size + 1, size))

    def timed(self, work: Callable[[], Awaitable[int]], expected: int) -> dict[str, float]:
        """Run ``work`` in the loop; return its wall and processor time. It must return ``expected``."""

        async def run() -> dict[str, float]:
            wall, cpu = time.perf_counter(), time.thread_time()
            count = await work()
            figures = {"wall": time.perf_counter() - wall, "cpu": time.thread_time() - cpu}
            assert count == expected, (count, expected)
            return figures

        return self.runner.run(run())


def is_installed(module: str) -> bool:
    """Return whether a peer's module is installed."""
    return importlib.util.find_spec(module) is not None


def delay_label(delay: float) -> str:
    """Return the label of a server delay."""
    return f"server {delay * 1e3:.0f} ms"
