"""Requests over the wire: statuses and lists of many pods, and single calls, against floor and peers."""

from __future__ import annotations

import gc
import itertools
import statistics
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from . import sync
from .bench import Bench, after, present
from .clients import CHUNK, IN_FLIGHT, Floor, Httpx, Naive, Ours
from .fleet import pod_ids
from .measure import Contest, Job, Row, Target, exponent, interleave, seconds
from .server import DELAYS

OFFICIAL = "prime, the official client"
_WARM = CHUNK * IN_FLIGHT
_FEW = 20
"""Calls in a loop over single pods, where each takes 50 ms."""


class Subject:
    """Jobs for `interleave`: one operation at one server delay, by each client.

    Args:
        bench: The setup.
        delay: The server's delay in seconds.
        question: The operation: ``"statuses"`` or ``"list"``.
    """

    def __init__(self, bench: Bench, delay: float, question: str) -> None:
        self._bench = bench
        self._url = bench.server.urls[delay]
        self._delay = delay
        self._question = question
        self._slices = bench.slices(bench.pods)
        self._open: list[Floor | Httpx] = []

    def floor(self) -> Job:
        """Return the floor's job."""
        return self._lasting(Floor(self._url))

    def httpx(self) -> Job:
        """Return the job of asynchronous httpx."""
        return self._lasting(Httpx(self._url))

    def ours(self, *, again: bool = False) -> Job:
        """Return our job, with a client that has open connections but no cached responses for these pods."""
        bench = self._bench

        def job() -> dict[str, float]:
            client = Ours(self._url)
            try:
                bench.timed(lambda: client.statuses(pod_ids(0, _WARM)), _WARM)
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
            start = self._prepare()
            ids = pod_ids(start, self._bench.pods)
            return seconds(client.list if self._question == "list" else lambda: client.statuses(ids))

        return job

    def naive(self) -> Job:
        """Return the job of a loop over fewer single pods; the time is extrapolated."""
        count = _FEW if self._delay else min(10 * _FEW, self._bench.pods)
        client = Naive(self._url)

        def job() -> float:
            ids = pod_ids(next(self._slices), count)
            return self._bench.timed(lambda: client.statuses(ids), count)["wall"] * self._bench.pods / count

        return job

    def close(self) -> None:
        """Close the open clients."""
        for client in self._open:
            self._bench.runner.run(client.aclose())

    def _lasting(self, client: Floor | Httpx) -> Job:
        self._open.append(client)
        self._bench.timed(lambda: client.statuses(pod_ids(0, _WARM)), _WARM)
        return lambda: self._bench.timed(self._work(client), self._bench.pods)

    def _work(self, client: Floor | Httpx | Ours) -> Callable[[], Awaitable[int]]:
        ids = pod_ids(self._prepare(), self._bench.pods)
        return client.list if self._question == "list" else lambda: client.statuses(ids)

    def _prepare(self) -> int:
        start = next(self._slices)
        if self._question == "list":
            self._bench.server.show(start, self._bench.pods)
        return start


def statuses(bench: Bench) -> Iterator[Row]:
    """Measure statuses of many pods against the floor, first and repeated requests."""
    for delay, first, unchanged in zip(DELAYS, (1.6, 1.1), (0.9, None), strict=True):
        subject = Subject(bench, delay, "statuses")
        jobs = {"floor": subject.floor(), "ours": subject.ours(again=True)}
        got = interleave(jobs, repetitions=bench.repetitions if delay else 2 * bench.repetitions)
        subject.close()
        for figure, when, bound in (
            ("wall", "first time", first),
            ("wall again", "nothing changed", unchanged),
            ("cpu", "first time, processor time", None),
            ("cpu again", "nothing changed, processor time", None),
        ):
            yield Row(
                key=f"statuses {figure} {after(delay)}",
                what=f"`statuses` of {bench.pods:,} pods, {when}, {after(delay)}",
                ours=got[f"ours:{figure}"],
                other=got[f"floor:{figure.split()[0]}"],
                against="floor",
                target=None if bound is None else Target(bound),
            )


def contests(bench: Bench) -> Iterator[Contest]:
    """Measure the same jobs for all clients."""
    for question, delay in itertools.product(("statuses", "list"), DELAYS):
        subject = Subject(bench, delay, question)
        jobs: dict[str, Job] = {"floor": subject.floor(), "primepods": subject.ours()}
        if present("httpx"):
            jobs["httpx, asynchronous"] = subject.httpx()
        if present("requests"):
            jobs["requests"] = subject.blocking(sync.Requests)
        if present("prime_cli"):
            jobs[OFFICIAL] = subject.blocking(sync.Official)
        if question == "statuses":
            jobs["aiohttp, pod by pod (extrapolated)"] = subject.naive()
        # A round takes seconds, mostly the server's: few rounds suffice.
        got = interleave(jobs, repetitions=min(bench.repetitions, 7) if delay else bench.repetitions)
        subject.close()
        clients = {name: got.get(f"{name}:wall") or got[name] for name in jobs}
        yield Contest(what=f"`{question}` of {bench.pods:,} pods, {after(delay)}", clients=clients)


def listing(found: Iterable[Contest]) -> Iterator[Row]:
    """Compare the list with the official client and the floor, from the contests' samples."""
    for delay, bound in zip(DELAYS, (3.0, 11.0), strict=True):
        contest = next(each for each in found if "list" in each.what and each.what.endswith(after(delay)))
        for name, target in ((OFFICIAL, Target(bound, least=True)), ("floor", None)):
            if name in contest.clients:
                yield Row(
                    key=f"list {name} {after(delay)}",
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
        for question, who in itertools.product(("statuses", "list"), ("ours", "floor")):
            what = f"time of `{question}`" + (" by the floor" if who == "floor" else "")
            what += "" if collecting else ", no garbage collector"
            yield growth_row(what, medians[f"{who} {question}:wall"], wanted=collecting and who == "ours")


def _at_size(bench: Bench, *, collecting: bool) -> dict[str, list[float]]:
    subjects = {question: Subject(bench, DELAYS[0], question) for question in ("statuses", "list")}
    jobs: dict[str, Job] = {}
    for question, subject in subjects.items():
        jobs |= {f"ours {question}": subject.ours(), f"floor {question}": subject.floor()}
    if not collecting:
        gc.disable()
    try:
        return interleave(jobs, repetitions=bench.repetitions)
    finally:
        gc.enable()
        for subject in subjects.values():
            subject.close()


def growth_row(what: str, figures: dict[int, float], *, wanted: bool = True) -> Row:
    """Return the table row of a growth exponent; with ``wanted``, the target is linear growth."""
    sizes = list(figures)
    return Row(
        key=f"growth {what}",
        what=f"{what}, {sizes[0]:,} to {sizes[-1]:,} pods: exponent (1 is linear)",
        ours=[exponent(figures)],
        unit="",
        target=Target(1.1) if wanted else None,
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
        if present(module):
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
