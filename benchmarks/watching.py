"""Shared poller on unchanged pods: time of a tick, memory per pod."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any, cast

from primepods import PodChange

from .bench import Bench
from .clients import BATCH_SIZE, Floor, Ours
from .fetching import growth_row
from .fleet import pod_ids
from .measure import Row, Target
from .server import environment

_WARM_UP = 2
_MAX_TICKS_PER_SAMPLE = 30
_STARTS = {"ours": 0.0, "floor": 0.5}
"""Start of each client's work, as a share of the interval."""
_FIGURE_COUNT = 2 * len(_STARTS)


def ticks(bench: Bench) -> Iterator[Row]:
    """Measure a tick of the shared poller without changes, against the same requests of the floor."""
    interval = max(1.0, bench.pods / 8_000)
    got = bench.runner.run(_ticks(bench, interval))
    for figure, name in (("wall", "wall time"), ("cpu", "processor time")):
        yield Row(
            key=f"tick {figure}",
            what=f"a tick of the shared poller, {bench.pods:,} pods, nothing changed, {name}",
            ours=got[f"ours:{figure}"],
            other=got[f"floor:{figure}"],
            against="floor",
            target=Target(1.0),
        )


async def _ticks(bench: Bench, interval: float) -> dict[str, list[float]]:
    """Measure ticks of a watch, alternating with the same requests of the floor.

    The poller's ticks are whole intervals apart, so the second half of each interval is free for the floor.
    For both, the wall time is from the first request that reaches the server until the loop is idle.
    """
    ids, loop = pod_ids(0, bench.pods), asyncio.get_running_loop()
    ours, floor = Ours(bench.server.urls[0.0]), Floor(bench.server.urls[0.0])
    samples: dict[str, list[float]] = {}
    started_at = loop.time()
    changes = cast("Any", ours.client.pods.watch(ids, interval=interval).__aiter__())
    async with aclosing(changes):
        seen = {(await anext(changes)).pod_id for _ in ids}
        assert seen == set(ids)
        next_change: asyncio.Task[PodChange] = asyncio.ensure_future(anext(changes))
        first = int((loop.time() - started_at) / interval) + 1
        try:
            for tick in itertools.count(first):
                figures: dict[str, float] = {}
                for name, share in _STARTS.items():
                    start = started_at + (tick + share) * interval
                    got = await _measure_half(bench, floor if name == "floor" else None, ids, start, interval)
                    figures |= {f"{name}:{figure}": took for figure, took in got.items()}
                if tick >= first + _WARM_UP and len(figures) == _FIGURE_COUNT:
                    for name, took in figures.items():
                        samples.setdefault(name, []).append(took)
                if any(len(taken) == bench.repetitions for taken in samples.values()):
                    break
                if tick > first + _MAX_TICKS_PER_SAMPLE * bench.repetitions:
                    msg = f"a tick takes more than {interval / 2} s: this machine is too slow, or too busy"
                    raise RuntimeError(msg)
            assert not next_change.done()
        finally:
            next_change.cancel()
            await asyncio.wait([next_change])
    await ours.aclose()
    await floor.aclose()
    return samples


async def _measure_half(
    bench: Bench, floor: Floor | None, ids: list[str], start: float, interval: float
) -> dict[str, float]:
    """Measure half an interval: the floor's requests, or without ``floor`` the poller's tick.

    Returns no figures if the requests did not fit into it.
    """
    await _sleep_until(start - 0.02 * interval)
    await asyncio.to_thread(bench.server.timings)
    cpu = time.thread_time()
    if floor is not None:
        await floor.statuses(ids)
    await _sleep_until(start + 0.45 * interval)
    ended, cpu = bench.selector.idle_since, time.thread_time() - cpu
    timings = await asyncio.to_thread(bench.server.timings)
    if len(timings) != math.ceil(len(ids) / BATCH_SIZE):
        return {}
    return {"cpu": cpu, "wall": ended - min(arrived_at for arrived_at, _ in timings)}


async def _sleep_until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))


def memory(bench: Bench) -> Iterator[Row]:
    """Measure the memory per watched pod, and the growth of memory with the number of pods."""
    grown: dict[str, dict[int, float]] = {"watch": {}, "statuses": {}, "list": {}}
    watched: dict[str, float] = {}
    for size in sorted({*bench.sizes, bench.pods}):
        for what, figures in grown.items():
            got = _measure_memory(bench, what, size)
            figures[size] = got["bytes"]
            if what == "watch" and size == bench.pods:
                watched = {name: figure / size for name, figure in got.items()}
    yield Row(
        key="memory watched",
        what=f"memory per watched pod beyond the responses' bytes, {bench.pods:,} pods",
        ours=[watched["bytes"] - watched["responses"]],
        unit="B",
        target=Target(2048.0),
    )
    yield Row(
        key="memory watched resident",
        what=f"the same with the responses' {watched['responses']:.0f} B, as the process grows",
        ours=[watched["resident"]],
        unit="B",
    )
    for what, figures in grown.items():
        yield growth_row(f"memory of `{what}`", {size: figures[size] for size in bench.sizes})


def _measure_memory(bench: Bench, what: str, size: int) -> dict[str, float]:
    bench.server.set_list(0, size)
    command = [sys.executable, "-m", "benchmarks.memory", what, bench.server.urls[0.0], str(size)]
    done = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
