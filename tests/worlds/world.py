"""A world: machines, an API and a network between them, and a record of what people were told."""

import asyncio
import fcntl
import io
import logging
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

import attrs
import simloom

from primepods import PodSpec
from primepods.emulator import Cut, Delay, Emulator, Fault, Html, Reset, Stale, Status
from primepods.events import Event
from primepods.runs import Balance, RunRecord, find_run

from .clocks import ApiClock, now
from .invariants import BrokenInvariantError, Use, billed, check_pods, check_swept, check_traces
from .machine import FIRST_PID, Machine
from .programs import Job, Ssh

T = TypeVar("T")

CALL_LIMIT: Final = 4 * 3600.0
"""Virtual seconds after which a call has hung: longer than all deadlines of a lease together."""
_APPEARS_WITHIN: Final = 100.0
_SWEEP_AFTER: Final = 7_200.0
_PORT: Final = 8_080
_MOMENTS: Final = 64
_FINENESS: Final = 12
_FAULTS: Final[tuple[Fault, ...]] = (
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


@attrs.frozen
class Twice(Fault):
    """A gateway that sends a request twice, and returns the second response. This is imagined."""

    is_last: ClassVar[bool] = False

    def second(self, call: Any) -> Any:
        """Return the request again."""
        return call


class World:
    """What a story is told with.

    Args:
        sim: The simulation.
        seed: Its seed, for what the schedule does not decide.
        folder: Folder for the machines' folders.
    """

    spec: PodSpec
    """A machine that can be ordered."""

    def __init__(self, sim: Any, seed: int, folder: Path) -> None:
        self.sim: Any = sim
        self.sim_seed: int = seed
        self.folder: Path = folder
        self.machines: list[Machine] = []
        self.traces: list[list[Event]] = []
        self.calls: list[tuple[Machine, asyncio.Task[None]]] = []
        self.uses: dict[str, Use] = {}
        self.doubtful: set[str] = set()
        """Ids of pods that were about to be kept when their machine stopped: a sweep may delete them."""
        self.told: list[str] = []
        self.locks: dict[int, Machine] = {}
        """Who has locked a file, by descriptor."""
        self.ssh: dict[int, Ssh] = {}
        """The processes of `ssh`, by pid."""
        self.jobs: dict[str, dict[str, Job]] = {}
        """The jobs of each pod, by name."""
        self.pods_host: Any = sim.host("pods")
        self._processes = 0
        self.has_crashed: bool = False
        self.has_no_ssh: bool = False
        """Whether no pod can be reached."""
        self.emulator: Emulator
        self._api: Any = sim.host("api")
        self._stop_api = asyncio.Event()

    # What the seed decides.

    def choose(self, label: str, *options: T) -> T:
        """Return one of the options; the first is what a shrunk world has."""
        return options[int(simloom.draw(label, len(options)))]

    def happens(self, label: str) -> bool:
        """Return whether something happens, in every second world; in a shrunk one it does not."""
        return bool(simloom.draw(label, 2))

    def moment(self, label: str, limit: float) -> float:
        """Return a time from 0 to ``limit`` seconds; half of them are in its first fiftieth."""
        step: int = simloom.draw(label, _MOMENTS)
        return float(limit * (2 ** (step / (_MOMENTS - 1) * _FINENESS) - 1) / (2**_FINENESS - 1))

    # The API.

    @property
    def url(self) -> str:
        """The API's base URL."""
        return f"http://127.0.0.1:{_PORT}"

    def record(self, max_hours: float = 1.0, **fields: Any) -> RunRecord:
        """Return the record of a detached run that begins now."""
        return RunRecord(
            client={},
            find={"gpu_type": self.spec.gpu_type, "limit": 1},
            changes={"name": "train"},
            lease={"login": True, "interval": 5.0, "max_hours": max_hours, "max_spend": None},
            is_detached=True,
            began_at=time.time(),
            **fields,
        )

    async def begin(self, *, clock_error: float = 0.0, **fleet: Any) -> None:
        """Start the API, with some pods of others.

        Args:
            clock_error: Seconds by which the API's clock is wrong.
            fleet: Arguments of the emulator.
        """
        drawn = {
            "boot_seconds": 60.0,
            "delete_seconds": self.choose("api.delete", 0.0, 20.0),
            "appear_seconds": self.choose("api.appear", 0.0, 0.0, 5.0, 90.0),
            "failure_rate": self.choose("api.failures", 0.0, 0.0, 0.3),
        }
        self.emulator = Emulator(
            seed=self.choose("api.seed", *range(1_000)),
            clock=ApiClock(clock_error),
            api_key="world_key_0123456789abcdef",
            port=_PORT,
            **{**drawn, **fleet},
        )
        for name in ("train", "train-other", "job", "train-aaaaaaaaaa"):
            self.emulator.add_pod(name)
        for pod_id in self.emulator.pods:
            self.take(pod_id, "another user", is_for_good=True)
        await self.start_api()
        self.spec = self._find_spec()

    def _find_spec(self) -> PodSpec:
        """Return the first offer that anybody could find."""
        offer = next(each for each in self.emulator._account.market.offers if not each.spot)
        return PodSpec(
            name="train",
            cloud_id=offer.cloud_id,
            gpu_type=offer.gpu.name,
            socket=offer.gpu.socket,
            gpu_count=offer.count,
            provider=offer.provider.name,
            max_price=99.0,
        )

    async def start_api(self) -> None:
        """Start the API's server."""
        self._stop_api = asyncio.Event()
        started = asyncio.Event()

        async def serve() -> None:
            async with self.emulator:
                started.set()
                await self._stop_api.wait()

        self._server = self._api.spawn(serve)
        await started.wait()

    async def stop_api(self) -> None:
        """Stop the API's server; the account stays."""
        self._stop_api.set()
        await self._server

    def fail_sometimes(self) -> None:
        """Have the API and the way to it fail now and then, at rates that the seed decides."""
        for fault in _FAULTS:
            rate = self.choose("fault.rate", 0.0, 0.0, 0.02, 0.1)
            if rate:
                self.emulator.faults.add(fault, probability=rate)

    def lag_sometimes(self, *seconds: float) -> None:
        """Have some reads come from a replica that is behind; writes go to the main server."""
        reads = ("list", "get", "status", "history")
        for lag in seconds:
            rate = self.choose("lag.rate", 0.0, 0.1, 0.5)
            self.emulator.faults.add(Stale(lag), on=reads, probability=rate)

    def spec_named(self, name: str | None) -> PodSpec:
        """Return the spec with another name, or for a name of the client's choice."""
        return attrs.evolve(self.spec, name=name)

    # Machines.

    def new_pid(self) -> int:
        """Return the pid of a new process."""
        self._processes += 1
        return FIRST_PID + self._processes

    def machine(
        self, name: str, *, clock_error: float = 0.0, parent: Machine | None = None, **options: Any
    ) -> Machine:
        """Add a machine; ``options`` are the client's."""
        machine = Machine(self, name, clock_error, options, parent)
        self.machines.append(machine)
        return machine

    def send_signal(self, pid: int, number: int) -> None:
        """Send a signal to a process of a machine."""
        ssh = self.ssh.get(pid)
        machine = next((each for each in self.machines if each.pid == pid and each.is_running), None)
        if ssh is not None:
            ssh.end(-number)
        elif machine is None or machine.has_ended:
            raise ProcessLookupError(pid)
        elif number in {signal.SIGTERM, signal.SIGUSR1}:
            machine.interrupt()

    def release_locks(self, machine: Machine) -> None:
        """Release the locks of a process that has ended; its descriptors stay open."""
        for descriptor in [each for each, owner in self.locks.items() if owner is machine]:
            del self.locks[descriptor]
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def partition(self, machine: Machine) -> None:
        """Cut a machine off from the API; connections hang."""
        self.sim.net.partition([machine.host], [self._api])

    def reset_connections(self, machine: Machine) -> None:
        """Reset all connections between a machine and the API."""
        self.sim.net.reset_connections(machine.host, self._api)

    def heal(self) -> None:
        """End all partitions."""
        self.has_no_ssh = False
        self.sim.net.heal()

    async def sleep(self, seconds: float) -> None:
        """Sleep in virtual time."""
        await asyncio.sleep(seconds)

    # What people rely on, and what they were told.

    def take(self, pod_id: str, user: str, *, is_for_good: bool = False, is_shared: bool = False) -> None:
        """Record that somebody uses a pod, which nobody may delete from now on."""
        if pod_id in self.uses and not is_shared:
            raise BrokenInvariantError("never another's pod", f"{user} uses {pod_id} of {self.uses[pod_id]}")
        self.uses[pod_id] = Use(user, is_for_good=is_for_good)
        self.doubtful.discard(pod_id)
        self.check_running(pod_id)

    def give_back(self, pod_id: str, *, must_run: bool = False) -> None:
        """Record that a pod is not needed any more."""
        if must_run:
            self.check_running(pod_id)
        self.uses.pop(pod_id, None)

    def require(self, what: str, holds: bool) -> None:
        """Check something of a story's own."""
        if not holds:
            raise BrokenInvariantError(what, "it is not so")

    def check_jobs(self) -> list[Job]:
        """Check that commands begin once on each pod, and in each try; return the jobs in their order."""
        jobs = sorted(
            (job for jobs in self.jobs.values() for job in jobs.values()), key=lambda job: job.label
        )
        self.require("a command begins once a pod", len(jobs) == sum(map(bool, self.jobs.values())))
        self.require("a command begins once a try", len({job.label for job in jobs}) == len(jobs))
        return jobs

    def check_budget(self, balance: Balance, *, is_last: bool) -> None:
        """Check what agents have reserved and spent.

        Args:
            balance: The state of their budget.
            is_last: Whether all pods are deleted.
        """
        used = [
            each.amount if each.spent is None else min(each.amount, each.spent)
            for each in balance.reservations
        ]
        self.require("no more than the budget is reserved", sum(used) <= balance.limit + 1e-6)
        names = [name for name in billed(self).values() if name.startswith("agent-")]
        self.require("each pod has a reservation", len(names) <= len(balance.open))
        if is_last:
            rows = cast("list[dict[str, Any]]", self.emulator.snapshot()["history"])
            cost = sum(row["billed"] for row in rows if row["name"].startswith("agent-"))
            # What nothing has ever shown stays in the lease's file, and reserved.
            settled = [each for each in balance.reservations if not find_run(each.run).may_have_pod]
            self.require("all is settled after the deletion", not set(balance.open) & set(settled))
            self.require("no pod has cost more than is said", balance.spent + balance.reserved >= cost - 1e-6)

    def check_running(self, pod_id: str) -> None:
        """Check that a pod that is used runs."""
        if not self.is_running(pod_id):
            raise BrokenInvariantError("nothing deleted unasked", f"{pod_id} of {self.uses.get(pod_id)}")

    def is_running(self, pod_id: str) -> bool:
        """Return whether a pod is billed."""
        pod = self.emulator.pods.get(pod_id)
        if pod is None:
            return pod_id in billed(self)  # it has not appeared yet
        return pod.status not in {"DELETING", "TERMINATED"}

    def forget(self, machine: Machine) -> None:
        """Forget the calls of a machine that has stopped, and what these used."""
        self.has_crashed = True
        self.calls = [(other, task) for other, task in self.calls if other is not machine]
        self.uses = {
            pod_id: use for pod_id, use in self.uses.items() if use.is_for_good or use.user != machine.name
        }

    def say(self, text: str) -> None:
        """Record what somebody was told."""
        self.told.append(f"{now():12.4f} {text}")

    # The end.

    async def finish(self) -> None:
        """End all faults, wait for all calls, sweep everywhere, and check the invariants."""
        self.heal()
        self.emulator.faults.clear()
        if self._stop_api.is_set():
            await self.start_api()
        await self._wait_for_calls()
        await self.sleep(_APPEARS_WITHIN)
        check_pods(self)
        await self.sleep(_SWEEP_AFTER)
        for machine in [*(each for each in self.machines if not each.is_process), self.machine("sweeper")]:
            if not machine.is_running:
                machine.restart()
            elif repr(machine.client).endswith(" closed>"):
                machine.renew()
            machine.sweep()
            machine.sweep(expired=True)
        await self._wait_for_calls()
        for machine in self.machines:
            if machine.is_running:
                machine.close()
        await self._wait_for_calls()
        spent = self.emulator.spent
        await self.sleep(3600)
        check_swept(self, spent)
        check_traces(self)
        await self.stop_api()

    async def _wait_for_calls(self) -> None:
        calls, self.calls = self.calls, []
        tasks = [task for _, task in calls]
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=CALL_LIMIT)
        if pending:
            names = ", ".join(sorted(task.get_name() for task in pending))
            raise BrokenInvariantError("every call ends", f"{names} run since {CALL_LIMIT} s or longer")
        for task in tasks:
            if not task.cancelled():  # before its first step
                task.result()


class Stderr(io.StringIO):
    """What programs write to stderr, which people read."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self._told = told

    def write(self, text: str) -> int:
        """Keep it."""
        with suppress(RuntimeError):  # there is no loop when the world has ended
            self._told.append(f"{now():12.4f} stderr: {text.rstrip()}")
        return len(text)


class Listener(logging.Handler):
    """What programs show on stderr when they log at INFO."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.INFO)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        with suppress(Exception):
            self._told.append(f"{now():12.4f} log: {record.getMessage()}")
