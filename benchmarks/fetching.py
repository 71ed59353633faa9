"""Requests over the wire: statuses and lists of many pods, and single calls, against floor and peers."""

from __future__ import annotations

import gc
import itertools
import statistics
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from . import sync
from .bench import Bench, delay_label, is_installed
from .clients import BATCH_SIZE, MAX_IN_FLIGHT, Floor, Httpx, Naive, Ours
from .fleet import pod_ids
from .measure import Contest, Job, Row, Target, exponent, interleave, seconds
from .server import DELAYS

OFFICIAL = "prime, the official client"
_WARM_UP_PODS = BATCH_SIZE * MAX_IN_FLIGHT
_SINGLE_CALLS = 20
"""Calls in a loop over single pods if each takes 50 ms."""


class Workload:
    """One operation at one server delay, as a job of `interleave` for each client.

    Args:
        bench: The setup.
        delay: The server's delay in seconds.
        operation: The operation: ``"statuses"`` or ``"list"``.
    """

    def __init__(self, bench: Bench, delay: float, operation: str) -> None:
        self._bench = bench
        self._url = bench.server.urls[delay]
        self._delay = delay
        self._operation = operation
        self._slices = bench.slices(bench.pods)
        self._clients: list[Floor | Httpx] = []

    def floor(self) -> Job:
        """Return the floor's job."""
        return self._keep_open(Floor(self._url))

    def httpx(self) -> Job:
        """Return the job of asynchronous httpx."""
        return self._keep_open(Httpx(self._url))

    def ours(self, *, again: bool = False) -> Job:
        """Return our job, with a client that has open connections but no cached responses for these pods."""
        bench = self._bench

        def job() -> dict[str, float]:
            client = Ours(self._url)
            try:
                bench.timed(lambda: client.statuses(pod_ids(0, _WARM_UP_PODS)), _WARM_UP_PODS)
                work = self._work(client)
                figures = bench.timed(work, bench.pods)
                if again:
                    figures |= {f"{name} again": took for name, took in bench.timed(work, bench.pods).items()}
                return figures
            finally:
                bench.runner.run(client.aclose())

        return job

    def blocking(self, kind: Any) -> Job:
        """Return a blocking client's job, batch by batch."""
        client = kind(self._url)

        def job() -> float:
            start = self._next_slice()
            ids = pod_ids(start, self._bench.pods)
            return seconds(client.list if self._operation == "list" else lambda: client.statuses(ids))

        return job

    def naive(self) -> Job:
        """Return the job of a loop over fewer single pods; the time is extrapolated."""
        count = _SINGLE_CALLS if self._delay else min(10 * _SINGLE_CALLS, self._bench.pods)
        client = Naive(self._url)

        def job() -> float:
            ids = pod_ids(next(self._slices), count)
            return self._bench.timed(lambda: client.statuses(ids), count)["wall"] * self._bench.pods / count

        return job

    def close(self) -> None:
        """Close the open clients."""
        for client in self._clients:
            self._bench.runner.run(client.aclose())

    def _keep_open(self, client: Floor | Httpx) -> Job:
        """Return the job of a client that keeps its connections from run to run."""
        self._clients.append(client)
        self._bench.timed(lambda: client.statuses(pod_ids(0, _WARM_UP_PODS)), _WARM_UP_PODS)
        return lambda: self._bench.timed(self._work(client), self._bench.pods)

    def _work(self, client: Floor | Httpx | Ours) -> Callable[[], Awaitable[int]]:
        ids = pod_ids(self._next_slice(), self._bench.pods)
        return client.list if self._operation == "list" else lambda: client.statuses(ids)

    def _next_slice(self) -> int:
        """Return the first number of the next pods; for the list, set the server to list these."""
        start = next(self._slices)
        if self._operation == "list":
            self._bench.server.set_list(start, self._bench.pods)
        return start


def statuses(bench: Bench) -> Iterator[Row]:
    """Measure statuses of many pods against the floor, first and repeated requests."""
    for delay, first, unchanged in zip(DELAYS, (1.6, 1.1), (0.9, None), strict=True):
        workload = Workload(bench, delay, "statuses")
        jobs = {"floor": workload.floor(), "ours": workload.ours(again=True)}
        got = interleave(jobs, repetitions=bench.repetitions if delay else 2 * bench.repetitions)
        workload.close()
        for figure, when, bound in (
            ("wall", "first time", first),
            ("wall again", "nothing changed", unchanged),
            ("cpu", "first time, processor time", None),
            ("cpu again", "nothing changed, processor time", None),
        ):
            yield Row(
                key=f"statuses {figure} {delay_label(delay)}",
                what=f"`statuses` of {bench.pods:,} pods, {when}, {delay_label(delay)}",
                ours=got[f"ours:{figure}"],
                other=got[f"floor:{figure.split()[0]}"],
                against="floor",
                target=None if bound is None else Target(bound),
            )


def contests(bench: Bench) -> Iterator[Contest]:
    """Measure the same jobs for all clients."""
    for operation, delay in itertools.product(("statuses", "list"), DELAYS):
        workload = Workload(bench, delay, operation)
        jobs: dict[str, Job] = {"floor": workload.floor(), "primepods": workload.ours()}
        if is_installed("httpx"):
            jobs["httpx, asynchronous"] = workload.httpx()
        if is_installed("requests"):
            jobs["requests"] = workload.blocking(sync.Requests)
        if is_installed("prime_cli"):
            jobs[OFFICIAL] = workload.blocking(sync.Official)
        if operation == "statuses":
            jobs["aiohttp, pod by pod (extrapolated)"] = workload.naive()
        # A round takes seconds, mostly the server's: few rounds suffice.
        got = interleave(jobs, repetitions=min(bench.repetitions, 7) if delay else bench.repetitions)
        workload.close()
        clients = {name: got.get(f"{name}:wall") or got[name] for name in jobs}
        yield Contest(what=f"`{operation}` of {bench.pods:,} pods, {delay_label(delay)}", clients=clients)


def listing(results: Iterable[Contest]) -> Iterator[Row]:
    """Compare the list with the official client and the floor, from the contests' samples."""
    for delay, bound in zip(DELAYS, (3.0, 11.0), strict=True):
        lists = (result for result in results if "list" in result.what)
        contest = next(result for result in lists if result.what.endswith(delay_label(delay)))
        for name, target in ((OFFICIAL, Target(bound, is_minimum=True)), ("floor", None)):
            if name in contest.clients:
                yield Row(
                    key=f"list {name} {delay_label(delay)}",
                    what=contest.what,
                    ours=contest.clients["primepods"],
                    other=contest.clients[name],
                    against=name,
                    inverse=target is not None,
                    target=target,
                )


def growth(bench: Bench) -> Iterator[Row]:
    """Measure growth of the time with the number of pods, and the floor's; also without garbage collection.

    Collector passes take longer the more objects there are, in both clients.
    """
    for collecting in (True, False):
        medians: dict[str, dict[int, float]] = {}
        for size in bench.sizes:
            for figure, samples in _at_size(replace(bench, pods=size), collecting=collecting).items():
                medians.setdefault(figure, {})[size] = statistics.median(samples)
        for operation, client in itertools.product(("statuses", "list"), ("ours", "floor")):
            what = f"time of `{operation}`" + (" by the floor" if client == "floor" else "")
            what += "" if collecting else ", no garbage collector"
            has_target = collecting and client == "ours"
            yield growth_row(what, medians[f"{client} {operation}:wall"], has_target=has_target)


def _at_size(bench: Bench, *, collecting: bool) -> dict[str, list[float]]:
    workloads = {operation: Workload(bench, DELAYS[0], operation) for operation in ("statuses", "list")}
    jobs: dict[str, Job] = {}
    for operation, workload in workloads.items():
        jobs |= {f"ours {operation}": workload.ours(), f"floor {operation}": workload.floor()}
    if not collecting:
        gc.disable()
    try:
        return interleave(jobs, repetitions=bench.repetitions)
    finally:
        gc.enable()
        for workload in workloads.values():
            workload.close()


def growth_row(what: str, figures: dict[int, float], *, has_target: bool = True) -> Row:
    """Return the table row of a growth exponent; with ``has_target``, the target is linear growth."""
    sizes = list(figures)
    return Row(
        key=f"growth {what}",
        what=f"{what}, {sizes[0]:,} to {sizes[-1]:,} pods: exponent (1 is linear)",
        ours=[exponent(figures)],
        unit="",
        target=Target(1.1) if has_target else None,
    )


def single(bench: Bench) -> Iterator[Row]:
    """Measure a single call of the blocking client."""
    url, one = bench.server.urls[0.0], pod_ids(0, 1)[0]
    peers = {"official": "the official client", "requests": "requests", "httpx": "httpx"}
    jobs: dict[str, Job] = {}
    clients: list[sync.Peer] = []
    for name, module, kind in (
        ("ours", "primepods", sync.Ours),
        ("official", "prime_cli", sync.Official),
        ("requests", "requests", sync.Requests),
        ("httpx", "httpx", sync.Httpx),
    ):
        if is_installed(module):
            clients.append(kind(url))
            jobs[name] = _get(clients[-1], one, 20 * bench.repetitions)
    got = interleave(jobs, repetitions=2 * bench.repetitions)
    for client in clients:
        client.close()
    for name, against in peers.items():
        if name in got:
            yield Row(
                key=f"sync get {name}",
                what="blocking `get`",
                ours=got["ours"],
                other=got[name],
                against=against,
                target=Target(0.9) if name == "official" else None,
            )


def _get(client: sync.Peer, pod_id: str, times: int) -> Job:
    return lambda: seconds(lambda: client.get(pod_id), times)
