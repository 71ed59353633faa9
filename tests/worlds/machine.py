"""A machine: a simulated host with a folder, a clock and a client, on which programs run."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import simloom
from simloom._context import current_host

import primepods
from primepods import PodSpec, PrimePodsError
from primepods.cli._shared.errors import CommandError
from primepods.cli.running._run_host import Terminal
from primepods.events import Event
from primepods.runs import EachRunner, Run, Runner, RunRecord, create_run, start_process
from tests.support.client import make_client

from .clocks import MachineClock, now
from .disk import Disk

if TYPE_CHECKING:
    from .programs import Ssh
    from .world import World

FIRST_PID = 5_000_000
"""Beyond the ids of real processes, so that `/proc` has none of them."""


_SAVING: Final = 1.0
"""Seconds in which a cancelled block saves its work with its pod."""


class Machine:
    """A machine. What its programs say, and what they rely on, the world records.

    Args:
        world: The world.
        name: Its name.
        clock_error: Seconds by which its wall clock is wrong.
        options: Arguments of the client.
        parent: The machine that it is another process of, which has its folder.
    """

    def __init__(
        self, world: World, name: str, clock_error: float, options: dict[str, Any], parent: Machine | None
    ) -> None:
        self.name: str = name
        self.host: Any = world.sim.host(name)
        self.hostname: str = name if parent is None else parent.hostname
        self.is_process: bool = parent is not None
        self.has_ended: bool = False
        self.disk: Disk = Disk(world.folder / name, simloom.draw) if parent is None else parent.disk
        self.pid: int = 0
        self.world: World = world
        self._clock = MachineClock(clock_error, f"{name} {world.sim_seed}")
        self._options = options
        self._dead_connections: list[Any] = []
        self._dead_ssh: list[Ssh] = []
        self._main: asyncio.Task[None] | None = None
        self._can_stop = self._is_stopping = False
        self.client: primepods.AsyncClient
        self.boot()

    def boot(self) -> None:
        """Start a process, with a client of its own."""
        self.pid = self.world.new_pid()
        self._context = contextvars.copy_context()
        self._context.run(current_host.set, self.host)
        self.renew()

    def renew(self) -> None:
        """Make another client in the same process."""
        self.client = self._context.run(self._make_client)

    def _make_client(self) -> primepods.AsyncClient:
        world = self.world
        self._trace: list[Event] = []
        world.traces.append(self._trace)
        options = {"on_event": self._trace.append, **self._options}
        return make_client(world.url, clock=self._clock, api_key=world.emulator.api_key, **options)

    def start(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[None]:
        """Start a program; its result or error is said, and the world waits for its end."""
        task: asyncio.Task[None] = self._context.run(
            lambda: asyncio.get_running_loop().create_task(
                self._program(name, call), name=f"{self.name}: {name}", context=self._context.copy()
            )
        )
        self.world.calls.append((self, task))
        return task

    async def _program(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            await asyncio.sleep(0)  # so that the scheduler sees the machine before the program's first step
            await call()
        except (CommandError, PrimePodsError, asyncio.CancelledError) as exc:
            self.world.say(f"{self.name}: {name}: {exc!r} {exc} {getattr(exc, '__notes__', '')}")

    async def run(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run a program to its end."""
        await self.start(name, call)

    # Programs.

    def lease(
        self,
        *specs: PodSpec,
        hold: float = 60.0,
        keep: bool = False,
        is_closed: bool = False,
        **options: Any,
    ) -> asyncio.Task[None]:
        """Start a program that leases a pod for ``hold`` seconds, during which nobody else may delete it.

        Args:
            specs: What to order; by default the world's spec.
            hold: Length of the block.
            keep: Whether to keep the pod.
            is_closed: Whether the client is closed meanwhile, which ends the lease.
            options: Arguments of ``pods.lease``.
        """
        client = self.client

        async def program() -> None:
            wanted = list(specs) or [self.world.spec]
            async with client.pods.lease(wanted, **options) as pod:
                self.world.take(pod.id, self.name)
                try:
                    await asyncio.sleep(hold)
                except asyncio.CancelledError:
                    try:
                        await asyncio.sleep(_SAVING)
                    finally:
                        self.world.give_back(pod.id, must_run=not is_closed and pod.seconds_left != 0.0)
                    raise
                may_end = is_closed or options.get("max_hours") or options.get("max_spend")
                if is_kept := keep and not may_end:
                    pod.keep()
                    self.world.doubtful.add(pod.id)
                else:
                    self.world.give_back(pod.id, must_run=not may_end)
            if is_kept:
                self.world.take(pod.id, self.name, is_for_good=True, is_shared=True)

        return self.start("lease", program)

    def pool(self, count: int, *, hold: float, **options: Any) -> asyncio.Task[None]:
        """Start a program that works on ``count`` items with a pool, ``hold`` seconds on each."""
        client = self.client

        async def work(_: primepods.AsyncLeasedPod, item: int) -> int:
            await asyncio.sleep(hold)
            return 1 // (item % 5)  # each fifth one fails

        async def program() -> None:
            async with client.pods.pool(self.world.spec, **options) as pool:
                items = [result.item async for result in pool.map(work, range(count))]
            if sorted(items) != list(range(count)):
                raise AssertionError(f"not one result for each of {count} items: {items}")

        return self.start("pool", program)

    def create(self, spec: PodSpec, **options: Any) -> asyncio.Task[None]:
        """Start a program that rents a pod for good."""

        async def program() -> None:
            pod = await self.client.pods.create(spec, **options)
            self.world.take(pod.id, self.name, is_for_good=True)

        return self.start("create", program)

    def ensure(self, spec: PodSpec) -> asyncio.Task[None]:
        """Start a program that rents a pod unless one of its name runs."""

        async def program() -> None:
            pod = await self.client.pods.ensure(spec)
            self.world.take(pod.id, self.name, is_for_good=True, is_shared=True)

        return self.start("ensure", program)

    def sweep(self, **options: Any) -> asyncio.Task[None]:
        """Start a program that sweeps."""

        async def program() -> None:
            sweep = await self.client.pods.sweep(**options)
            for pod_id, error in sweep.errors.items():
                self.world.say(f"{self.name}: sweep: {pod_id}: {error}")

        return self.start("sweep", program)

    def process(self) -> Machine:
        """Return another process of this machine."""
        name = f"{self.name}-{len(self.world.machines)}"
        return self.world.machine(name, clock_error=self._clock.error, parent=self, **self._options)

    async def begin_run(self, record: RunRecord, items: Sequence[str] = ()) -> Run:
        """Begin a run in the background, as `primepods run --detach` does, with items as `--each` does."""
        runs: list[Run] = []

        async def program() -> None:
            runs.append(create_run(record, items) if items else Run.create(record))
            start_process(runs[0], {})

        await self.run("run --detach", program)
        return runs[0]

    def attach(self, run: Run) -> asyncio.Task[None]:
        """Start a program that takes a run over if its process has died, as `primepods attach` does."""

        async def program() -> None:
            own = Run.open(run.path)
            if own.state == "interrupted" and own.claim(is_detached=True) and own.record.exit_code is None:
                start_process(own, {}).returncode = 0

        return self.start("attach", program)

    def stop(self, run: Run) -> asyncio.Task[None]:
        """Start a program that asks the process of a run to end it, as `primepods stop` does."""

        async def program() -> None:
            with suppress(ProcessLookupError):
                Run.open(run.path).stop()

        return self.start("stop", program)

    def hold(self, run: Run) -> asyncio.Task[None]:
        """Start the program of a run's process, which holds the run's lock, as `primepods _run` does."""
        if run.open_leases:
            # The lease that it takes over has begun in another trace.
            self.world.traces = [each for each in self.world.traces if each is not self._trace]

        async def program() -> None:
            runner = (EachRunner if run.record.pods else Runner)(Terminal("primepods run"), run, {})
            code = 1
            try:
                self._can_stop = True
                if self._is_stopping and self._main is not None:
                    self._main.cancel()
                code = await runner.execute(self.client)
            except (CommandError, PrimePodsError, asyncio.CancelledError) as exc:
                self.world.say(f"{self.name}: {exc!r} {exc} {getattr(exc, '__notes__', '')}")
            self._can_stop = False
            if not runner.must_take_over:
                run.end(code)
            await self.client.aclose()
            self.has_ended = True
            self.world.release_locks(self)

        self._main = self.start(f"run {run.name}", program)
        return self._main

    def interrupt(self) -> None:
        """Do what SIGTERM does to a run's process: the first one ends the run, once it is executed."""
        if self._can_stop and not self._is_stopping and self._main is not None:
            self._main.cancel()
        self._is_stopping = True

    def close(self) -> asyncio.Task[None]:
        """Start a program that closes the client."""
        return self.start("close", self.client.aclose)

    # Faults.

    def cut_power(self) -> None:
        """Stop everything at once; unsynced files are lost or torn."""
        self._stop(has_power=False)

    def kill(self) -> None:
        """End the process at once, as SIGKILL does; the files stay as they are."""
        self._stop(has_power=True)

    def kill_processes(self) -> None:
        """Kill the processes of its runs."""
        for machine in self.world.machines:
            if machine.is_process and machine.disk is self.disk and machine.is_running:
                machine.kill()

    def _stop(self, *, has_power: bool) -> None:
        connections = self.world.sim.net._live_transports.values()
        self._dead_connections += [each for each in connections if each.owner is self.host]
        self.host.crash()
        self.world.forget(self)
        self.world.release_locks(self)
        for ssh in [each for each in self.world.ssh.values() if each.machine is self]:
            ssh.end(255, is_told=False)
            self._dead_ssh.append(ssh)
        if not has_power:
            self.disk.restart()

    def bury(self) -> None:
        """Tell the connections of ended processes, when the world has ended, that they are closed.

        Simloom then cancels the tasks of these processes, and these wait for it.
        """
        for connection in self._dead_connections:
            connection.get_protocol().connection_lost(None)
        for ssh in self._dead_ssh:
            ssh.tell()

    def restart(self) -> None:
        """Start the machine again, with a new process."""
        self.world.sim._loop.forget_dead()
        self.host.restart()
        self.boot()

    @property
    def is_running(self) -> bool:
        """Whether the machine is on."""
        return not self.host.crashed

    @property
    def time(self) -> float:
        """Seconds since the beginning of the world."""
        return now()
