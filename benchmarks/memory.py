"""Memory of pods, measured in its own process: `python -m benchmarks.memory WHAT URL PODS`.

Prints JSON: ``bytes`` counted by Python's allocator; ``responses``, the part that is response bytes kept by
the poller; and ``resident``, the growth of a process (a separate one, because counting costs memory and a
second run reuses memory of the first). Only ``watch`` has the last two.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

from .clients import Ours, batches
from .fleet import pod_ids

_SETTLE_INTERVALS = 3.0
"""Intervals until a watch has cached its responses."""


async def measure(what: str, url: str, pods: int, meter: Callable[[], float]) -> float:
    """Return the increase of ``meter`` while the result of ``what`` is held."""
    client, ids = Ours(url), pod_ids(0, pods)
    await client.statuses(ids[:100])
    gc.collect()
    before = meter()
    held: Any = None
    if what == "statuses":
        held = await client.client.pods.statuses(ids)
    elif what == "list":
        held = [pod async for pod in client.client.pods.list()]
    else:
        interval = max(0.4, pods / 8_000) * (4 if tracemalloc.is_tracing() else 1)
        changes = cast("Any", client.client.pods.watch(ids, interval=interval).__aiter__())
        for _ in range(pods):
            await anext(changes)
        held = changes, asyncio.ensure_future(anext(changes))
        await asyncio.sleep(_SETTLE_INTERVALS * interval)
    gc.collect()
    after = meter()
    if what == "watch":
        held[1].cancel()
        await asyncio.wait([held[1]])
        await held[0].aclose()
    del held
    await client.aclose()
    return after - before


def _resident() -> float:
    """Return the memory of this process; its peak where the system does not report the current value."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _response_size(url: str, ids: list[str]) -> int:
    """Return the total size of the status responses for all pods."""
    size = 0
    for batch in batches(ids):
        with urlopen(f"{url}/api/v1/pods/status?pod_ids=" + "&pod_ids=".join(batch)) as response:
            size += len(response.read())
    return size


def _measure_growth(what: str, url: str, pods: int) -> float:
    return asyncio.run(measure(what, url, pods, _resident))


def main(what: str, url: str, pods: int) -> None:
    """Measure and print the results."""
    resident, responses = 0.0, 0
    if what == "watch":
        with ProcessPoolExecutor(1, get_context("spawn")) as other:
            resident = other.submit(_measure_growth, what, url, pods).result()
        responses = _response_size(url, pod_ids(0, pods))
    tracemalloc.start()
    counted = asyncio.run(measure(what, url, pods, lambda: tracemalloc.get_traced_memory()[0]))
    tracemalloc.stop()
    print(json.dumps({"bytes": counted, "resident": resident, "responses": responses}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
