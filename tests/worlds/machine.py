"""A machine: a simulated host with a folder, a clock and a client, on which programs run."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import simloom
from simloom._context import current_host

import primepods
from primepods import PodSpec, PrimePodsError
from tests.support.client import make_client

from .clocks import MachineClock, now
from .disk import Disk

if TYPE_CHECKING:
    from .world import World

FIRST_PID = 5_000_000
"""Beyond the ids of real processes, so that `/proc` has none of them."""


class Machine:
    """A machine. What its programs say, and what they rely on, the world records.

    Args:
        world: The world.
        name: Its name.
        clock_error: Seconds by which its wall clock is wrong.
        options: Arguments of the client.
    """

    def __init__(self, world: World, name: str, clock_error: float, options: dict[str, Any]) -> None:
        self.name: str = name
        self.host: Any = world.sim.host(name)
        self.disk: Disk = Disk(world.folder / name, simloom.draw)
        self.pid: int = 0
        self._world = world
        self._clock = MachineClock(clock_error, f"{name} {world.sim_seed}")
        self._options = options
        self._dead_connections: list[Any] = []
        self.client: primepods.AsyncClient
        self.boot()

    def boot(self) -> None:
        """Start a process, with a client of its own."""
        self._world.processes += 1
        self.pid = FIRST_PID + self._world.processes
        self._context = contextvars.copy_context()
        self._context.run(current_host.set, self.host)
        self.renew()

    def renew(self) -> None:
        """Make another client in the same process."""
        self.client = self._context.run(self._make_client)

    def _make_client(self) -> primepods.AsyncClient:
        world = self._world
        world.traces.append([])
        options = {"on_event": world.traces[-1].append, **self._options}
        return make_client(world.url, clock=self._clock, api_key=world.emulator.api_key, **options)

    def start(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[None]:
        """Start a program; its result or error is said, and the world waits for its end."""
        task: asyncio.Task[None] = self._context.run(
            lambda: asyncio.get_running_loop().create_task(
                self._program(name, call), name=f"{self.name}: {name}", context=self._context.copy()
            )
        )
        self._world.calls.append((self, task))
        return task

    async def _program(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            await asyncio.sleep(0)  # so that the scheduler sees the machine before the program's first step
            await call()
        except (PrimePodsError, asyncio.CancelledError) as exc:
            self._world.say(f"{self.name}: {name}: {exc!r} {exc} {getattr(exc, '__notes__', '')}")

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
            wanted = list(specs) or [self._world.spec]
            async with client.pods.lease(wanted, **options) as pod:
                self._world.take(pod.id, self.name)
                try:
                    await asyncio.sleep(hold)
                except asyncio.CancelledError:
                    self._world.give_back(pod.id)
                    raise
                may_end = is_closed or options.get("max_hours") or options.get("max_spend")
                if is_kept := keep and not may_end:
                    pod.keep()
                    self._world.doubtful.add(pod.id)
                else:
                    self._world.give_back(pod.id, must_run=not may_end)
            if is_kept:
                self._world.take(pod.id, self.name, is_for_good=True, is_shared=True)

        return self.start("lease", program)

    def create(self, spec: PodSpec, **options: Any) -> asyncio.Task[None]:
        """Start a program that rents a pod for good."""

        async def program() -> None:
            pod = await self.client.pods.create(spec, **options)
            self._world.take(pod.id, self.name, is_for_good=True)

        return self.start("create", program)

    def ensure(self, spec: PodSpec) -> asyncio.Task[None]:
        """Start a program that rents a pod unless one of its name runs."""

        async def program() -> None:
            pod = await self.client.pods.ensure(spec)
            self._world.take(pod.id, self.name, is_for_good=True, is_shared=True)

        return self.start("ensure", program)

    def sweep(self, **options: Any) -> asyncio.Task[None]:
        """Start a program that sweeps."""

        async def program() -> None:
            sweep = await self.client.pods.sweep(**options)
            for pod_id, error in sweep.errors.items():
                self._world.say(f"{self.name}: sweep: {pod_id}: {error}")

        return self.start("sweep", program)

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

    def _stop(self, *, has_power: bool) -> None:
        connections = self._world.sim.net._live_transports.values()
        self._dead_connections += [each for each in connections if each.owner is self.host]
        self.host.crash()
        self._world.forget(self)
        self.disk.restart(has_power=has_power)

    def bury(self) -> None:
        """Tell the connections of ended processes, when the world has ended, that they are closed.

        Simloom then cancels the tasks of these processes, and these wait for it.
        """
        for connection in self._dead_connections:
            connection.get_protocol().connection_lost(None)

    def restart(self) -> None:
        """Start the machine again, with a new process."""
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
