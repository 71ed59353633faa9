"""Two machines with one account and the same names: no pod of another is deleted, and none is forgotten.

Their clocks are up to an hour apart, replicas lag by up to five minutes, responses are lost, processes are
killed and sweeps begin at any moment, all by seeds, on one clock that needs no waiting.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

import primepods
from primepods import PrimePodsError
from primepods._utils.clock import Clock
from primepods._utils.unique_names import expiry_of
from primepods.emulator import Cut, Delay, Emulator, Fault, Html, Reset, Stale, Status
from primepods.leasing.lease import AsyncLease
from tests.renting.stage import SharedClock, lease_files, spec_of
from tests.support.client import make_client
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

FAULTS: tuple[Fault, ...] = (
    Reset(),
    Reset(acted=True),
    Cut(),
    Status(500, acted=True),
    Status(503),
    Status(409, acted=True, body={"detail": "Conflict"}),
    Status(499, acted=True),
    Html(acted=True),
    Delay(40.0),
)
LAGS = (5.0, 60.0, 300.0)
NAMES = ("job", "train")
HANGS = 30.0
"""Real seconds after which a run has hung."""
BATCH = 50


class MachineClock(Clock):
    """The common clock, with a wall clock of a machine's own."""

    def __init__(self, clock: ManualClock, skew: float, rng: Random) -> None:
        self._clock = clock
        self._skew = skew
        self._rng = rng
        self.time = clock.time  # type: ignore[method-assign]  # the common one
        self.boottime = clock.boottime  # type: ignore[method-assign]  # the common one
        self.wait = clock.wait  # type: ignore[method-assign]  # the common one
        self.timeout_at = clock.timeout_at  # type: ignore[method-assign]  # the common one

    def wall(self) -> float:
        """Seconds since the epoch, as this machine has it."""
        return self._clock.wall() + self._skew

    def random(self) -> float:
        """This machine's own numbers."""
        return self._rng.random()


@attrs.define
class Machine:
    """A machine with its client and folder, and what its programs rely on."""

    clock: ManualClock
    emulator: Emulator
    client: primepods.AsyncClient
    folder: Path
    rng: Random
    spec: primepods.PodSpec
    wanted: set[str] = attrs.field(factory=set)
    """Ids of pods that nobody may delete."""
    told: list[str] = attrs.field(factory=list)
    """What its programs have said."""

    def at(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call something that looks for the folder of leases at once."""
        os.environ["PRIMEPODS_STATE_DIR"] = str(self.folder)
        return function(*args, **kwargs)

    async def live(self) -> None:
        """Do some things, at once and one after another."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.rng.randint(1, 3)):
                group.create_task(self._some_things())

    async def _some_things(self) -> None:
        for _ in range(self.rng.randint(1, 2)):
            await self.clock.sleep(self.rng.uniform(0, 400))
            act = self.rng.choice([self.lease, self.lease, self.lease_killed, self.create, self.sweep])
            try:
                await act()
            except (PrimePodsError, asyncio.CancelledError) as exc:
                self.told.append(f"{exc!r} {getattr(exc, '__notes__', '')}")

    def new_lease(self) -> AsyncLease:
        """A lease of a name that others use, too."""
        spec = attrs.evolve(self.spec, name=self.rng.choice(NAMES))
        options: dict[str, Any] = {"max_hours": self.rng.choice([None, 0.05, 0.5]), "release_timeout": 300.0}
        lease = self.at(
            self.client.pods.lease, spec, ready_timeout=self.rng.choice([100.0, 900.0]), **options
        )
        assert isinstance(lease, AsyncLease)
        return lease

    async def lease(self) -> None:
        """Use a pod for a while; it is there until its own lease deletes it."""
        lease = self.new_lease()
        async with lease as pod:
            self.wanted.add(pod.id)
            try:
                await self.clock.sleep(self.rng.uniform(0, 500))
                # Its own lease deletes it when the budget is used up, before the block hears of it.
                has_ended = lease.supervisor.is_ending
                assert has_ended or self.is_running(pod.id), f"{pod} was deleted by somebody else"
                if has_ended:
                    self.wanted.discard(pod.id)
            except asyncio.CancelledError:
                self.wanted.discard(pod.id)
                raise
            if self.rng.random() < 0.1 and not expiry_of(pod.name):
                # With an expiry, it is deleted then all the same.
                pod.keep()
            else:
                self.wanted.discard(pod.id)

    async def lease_killed(self) -> None:
        """Have the process end at any moment, without a word."""
        lease = self.new_lease()
        entering = asyncio.ensure_future(lease.__aenter__())
        await self.clock.sleep(self.rng.choice([0.0, self.rng.uniform(0, 3), self.rng.uniform(0, 200)]))
        supervisor = lease.supervisor
        supervisor._pid = -1
        for rental in supervisor._rentals:
            if rental.file is not None:
                await asyncio.to_thread(rental.file.update, process_start=1)
                rental.file.close()
                rental.file._pid = -1
        supervisor._changed.set()
        entering.cancel()
        with suppress(PrimePodsError, asyncio.CancelledError):
            await entering

    async def create(self) -> None:
        """Rent a pod under a name of the user's, for good."""
        pod = await self.at(self.client.pods.create, attrs.evolve(self.spec, name=self.rng.choice(NAMES)))
        self.wanted.add(pod.id)

    async def sweep(self) -> None:
        """Sweep in one way or another."""
        ways: list[dict[str, Any]] = [{}, {"expired": True}, {"prefix": "job-", "older_than": 86_400.0}]
        how = self.rng.choice(ways)
        sweep = await self.at(self.client.pods.sweep, **how)
        self.told += [f"{pod_id}: {error}" for pod_id, error in sweep.errors.items()]

    def is_running(self, pod_id: str) -> bool:
        """Whether a pod is billed."""
        pods = self.emulator.pods
        return pod_id in pods and pods[pod_id].status not in {"DELETING", "TERMINATED"}

    def known(self) -> str:
        """All by which a pod can be found: files, and what was said."""
        records = [f"{record.pod_id} {record.name}" for _, record in lease_files(self.folder)]
        return " ".join([*records, *self.told])


@asynccontextmanager
async def machines(tmp_path: Path, rng: Random, seed: int) -> AsyncIterator[list[Machine]]:
    """Two machines and the API."""
    clock = ManualClock(auto=True, chance=Random(f"common {seed}"))
    fleet: dict[str, Any] = {
        "boot_seconds": 60.0,
        "delete_seconds": rng.choice([0.0, 20.0]),
        "appear_seconds": rng.choice([0.0, 0.0, 5.0, 90.0]),
        "failure_rate": rng.choice([0.0, 0.3]),
    }
    async with Emulator(seed=seed, clock=SharedClock(clock), **fleet) as emulator:
        found: list[Machine] = []
        for number in range(2):
            own = Random(f"machine {number} {seed}")
            client = make_client(
                emulator.url,
                clock=MachineClock(clock, own.uniform(-3600, 3600), own),
                api_key=emulator.api_key,
            )
            spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
            found.append(Machine(clock, emulator, client, tmp_path / f"{seed}-{number}", own, spec))
        try:
            yield found
        finally:
            for machine in found:
                await machine.client.aclose()


async def one(tmp_path: Path, seed: int, log: list[str]) -> None:
    """One seed."""
    rng = Random(f"two machines {seed}")
    log.clear()
    async with machines(tmp_path, rng, seed) as both:
        clock, emulator = both[0].clock, both[0].emulator
        for fault in FAULTS:
            emulator.faults.add(fault, probability=rng.choice([0.0, 0.2]) / len(FAULTS))
        for lag in LAGS:
            emulator.faults.add(Stale(lag), probability=rng.choice([0.0, 0.1]))
        async with asyncio.TaskGroup() as group:
            for machine in both:
                group.create_task(machine.live())
        emulator.faults.clear()
        # Whatever appears late has appeared then.
        await clock.sleep(100)
        wanted = {pod_id for machine in both for pod_id in machine.wanted}
        for pod_id in wanted:
            assert both[0].is_running(pod_id), f"{pod_id} was deleted, and is not its own lease's to delete"
        known = " ".join([*(machine.known() for machine in both), *log])
        left = {pod_id: pod for pod_id, pod in emulator.pods.items() if both[0].is_running(pod_id)}
        for pod_id, pod in left.items():
            assert pod_id in wanted or pod_id in known or str(pod.name) in known, f"{pod_id} is forgotten"
        await clock.sleep(7_200)
        for machine in both:
            sweep = await machine.at(machine.client.pods.sweep)
            assert not sweep.errors
        leased = {pod_id for pod_id in left if "-" in str(left[pod_id].name)}
        assert {pod_id for pod_id in leased if both[0].is_running(pod_id)} <= wanted
        assert all(both[0].is_running(pod_id) for pod_id in wanted)


class Said(logging.Handler):
    """What a program shows on stderr, when it logs at INFO."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(record.getMessage())


async def run_seeds(tmp_path: Path, seeds: range) -> None:
    """Run them one after the other."""
    lines: list[str] = []
    handler, logger = Said(lines), logging.getLogger("primepods")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        for seed in seeds:
            try:
                async with asyncio.timeout(HANGS):
                    await one(tmp_path, seed, lines)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def test_two_machines_leave_each_other_alone(folder: Path, tmp_path: Path) -> None:
    """A few of them."""
    await run_seeds(tmp_path, range(12))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("batch", range(int(os.environ.get("PRIMEPODS_TEST_BATCHES", "40"))))
async def test_two_thousand_times_they_do(folder: Path, tmp_path: Path, batch: int) -> None:
    """For minutes; ``PRIMEPODS_TEST_BATCHES=400`` makes it twenty thousand."""
    await run_seeds(tmp_path, range(1_000 + BATCH * batch, 1_000 + BATCH * (batch + 1)))
