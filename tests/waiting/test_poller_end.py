"""How the shared poller ends: with its last waiter, its client or its loop, and nothing is left."""

import asyncio
import gc
import math
import time
import weakref
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import primepods
from primepods.emulator import Delay, Emulator
from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Hang
from tests.waiting.fleet import Fleet, Stage, next_of, result


async def test_the_poller_outlives_the_client_that_started_it(stage: Stage, fleet: Fleet) -> None:
    """When that one closes, its waiters end; for the others nothing is lost or doubled."""
    ids = fleet.add(3)
    first, second = stage.client(), stage.client()
    changes: list[tuple[str, str | None]] = []

    def brief(change: primepods.PodChange) -> tuple[str, str | None]:
        return change.pod_id, None if change.after is None else change.after.installation_status

    async def watch() -> list[tuple[str, str | None]]:
        return [brief(change) async for change in second.pods.watch(ids)]

    def note(change: primepods.PodChange) -> None:
        changes.append(brief(change))

    ended: list[asyncio.Task[Any]] = [
        stage.start(first.pods.wait_ready(ids[0])),
        stage.start(first.pods.wait(ids)),
    ]
    unfinished = aiter(first.pods.watch([ids[2]]))
    begun = stage.start(next_of(unfinished))
    await stage.advance(1)
    assert result(begun).pod_id == ids[2]
    kept = stage.start(second.pods.wait(ids, on_change=note))
    watched = stage.start(watch())
    await stage.advance(5)
    assert len(stage.fleet.asked) == 3
    await first.aclose()
    await settle()
    for task in ended:
        with pytest.raises(primepods.ClientClosedError, match="cannot wait for pods"):
            result(task)
    with pytest.raises(primepods.ClientClosedError, match="cannot wait for pods"):
        await anext(unfinished)
    with pytest.raises(primepods.ClientClosedError):
        await first.pods.wait_ready(ids[0])
    await stage.advance(5)
    fleet.set("installing", *ids)
    await stage.advance(5)
    fleet.set("ready", *ids)
    await stage.advance(5)
    assert list(result(kept)) == ids
    fleet.set(None, *ids)
    await stage.advance(11)
    one = [(pod_id, state) for state in ("PENDING", "ACTIVE", "FINISHED") for pod_id in ids]
    assert changes == one
    assert result(watched) == [*one, *((pod_id, None) for pod_id in ids)]
    assert fleet.times[:6] == [0.25, 1.25, 5.25, 10.25, 15.25, 20.25]


async def test_closing_a_client_ends_the_waits_of_its_views(stage: Stage, fleet: Fleet) -> None:
    """Waits of a view belong to its client."""
    fleet.add(1)
    client = stage.client()
    view = client.with_options(timeout=5)
    wait = stage.start(view.pods.wait_ready("pod00000"))
    await stage.advance(1)
    await view.aclose()
    await stage.advance(1)
    assert not wait.done()
    await client.aclose()
    await settle()
    with pytest.raises(primepods.ClientClosedError):
        result(wait)


@pytest.mark.slow
@pytest.mark.parametrize("closes", [False, True])
def test_waits_in_one_loop_after_the_other_leave_nothing(*, closes: bool) -> None:
    """Whether the client is closed, forgotten, or used in the next loop: no open file and no complaint."""
    with Emulator(pods=1, boot_seconds=0) as emu:
        [pod_id] = emu.pods
        client = make_client(emu.url, api_key=emu.api_key)

        async def main(client: primepods.AsyncClient) -> None:
            for _ in range(3):
                await client.pods.wait_ready(pod_id, interval=0.05)
            if closes:
                await client.aclose()

        asyncio.run(main(make_client(emu.url, api_key=emu.api_key)))
        before = open_files()
        for _ in range(3):
            asyncio.run(main(make_client(emu.url, api_key=emu.api_key) if closes else client))
        give_up = time.monotonic() + 5
        while open_files() > before and time.monotonic() < give_up:
            time.sleep(0.01)
        assert open_files() <= before
        asyncio.run(client.aclose())


async def test_who_is_cancelled_while_leaving_leaves_nothing(stage: Stage, fleet: Fleet) -> None:
    """The last one to leave is cancelled again while the poller tidies up, with a request under way."""
    fleet.add(1)
    fleet.next_status(Hang())
    wait = stage.start(stage.client().pods.wait_ready("pod00000"))
    await stage.advance(1)
    assert stage.server.in_flight == 1
    for turns in (0, 1, 2, 3):
        wait.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        result(wait)
    await stage.check_nothing_left()


async def test_nothing_is_left_when_a_wait_returns(stage: Stage, fleet: Fleet) -> None:
    """Not a turn of the loop later: what follows the wait may end the loop, or count its tasks."""
    fleet.add(1, "ready")

    async def wait() -> list[str]:
        await stage.client().pods.wait_ready("pod00000")
        return [repr(task) for task in asyncio.all_tasks() if "primepods" in repr(task)]

    task = stage.start(wait())
    await stage.advance(1)
    assert [text for text in result(task) if "Stage" not in text and "test_" not in text] == []


class Stubborn:
    """Makes sessions in which a request that is cancelled goes on until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self._kind = aiohttp.ClientSession

    def __call__(self, **options: Any) -> aiohttp.ClientSession:
        """Make one."""
        return self._kind(middlewares=[self._send], **options)

    async def _send(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            return await handler(request)
        finally:
            while not self.let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await self.let_go.wait()


async def test_an_interrupted_shutdown_closes_connections(
    stage: Stage, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the loop ends in the middle of it."""
    ids = fleet.add(150)
    stubborn = Stubborn()
    monkeypatch.setattr(aiohttp, "ClientSession", stubborn)
    wait = stage.start(stage.client().pods.wait(ids))
    fleet.next_status(Hang())
    await stage.advance(1)
    wait.cancel()
    await settle()
    assert stage.server.open > 0
    stage.cancel_the_poller()
    await settle()
    assert stage.server.open == 0
    assert wait.cancelled()
    stubborn.let_go.set()


async def test_a_poller_that_is_cancelled_before_its_first_step_ends_its_waits(
    stage: Stage, fleet: Fleet
) -> None:
    """With an error that says so; none hangs."""
    fleet.add(1, "ready")
    wait = stage.start(stage.client().pods.wait_ready("pod00000"))
    await asyncio.sleep(0)
    stage.cancel_the_poller()
    await settle()
    assert stage.server.open == 0
    with pytest.raises(primepods.PrimePodsError, match="cancelled from outside"):
        result(wait)


async def test_a_newcomer_meets_no_poller_that_is_ending(stage: Stage, fleet: Fleet) -> None:
    """Somebody comes at each turn while the last one leaves: it gets an answer, and holds up no one."""
    fleet.add(1, "ready")
    seen: list[primepods.PodChange] = []
    for turns in range(12):
        first = stage.start(stage.client().pods.wait_ready("pod00000"))
        await stage.advance(0.1)
        first.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        second = stage.start(stage.client().pods.wait_gone("pod00000", on_change=seen.append))
        await stage.advance(1)
        assert first.cancelled()
        assert len(seen) == turns + 1
        second.cancel()
        await settle()
    await stage.check_nothing_left()


OPEN_FILES = Path("/proc/self/fd")


def open_files() -> int:
    """How many files and sockets this process has open."""
    gc.collect()
    return len(list(OPEN_FILES.iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="counts open files where Linux lists them")
@pytest.mark.parametrize("moment", ["idle", "in flight", "looking"])
def test_nothing_is_left_when_the_loop_ends(moment: str) -> None:
    """`asyncio.run` ends while tasks wait and watch: no poller, no socket, no complaint."""
    with Emulator(pods=30, boot_seconds=300 if moment != "looking" else 0, cluster_rate=0) as emu:
        lacking = emu.add_pod(boot_seconds=0, status_fields={"ip": None, "sshConnection": None})
        ids = [*emu.pods]
        outcomes: list[str] = []

        async def wait(work: Awaitable[object]) -> None:
            try:
                await work
            except BaseException as exc:
                outcomes.append(type(exc).__name__)
                raise

        async def main() -> None:
            clock = ManualClock(auto=True)
            clients = [make_client(emu.url, clock=clock, api_key=emu.api_key) for _ in range(2)]
            seen = asyncio.Event()
            watch = aiter(clients[0].pods.watch(ids))
            tasks = [
                asyncio.create_task(wait(clients[0].pods.wait(ids, on_change=lambda _: seen.set()))),
                asyncio.create_task(wait(clients[1].pods.wait_gone(lacking))),
                asyncio.create_task(wait(anext(watch))),
            ]
            await seen.wait()
            if moment == "in flight":
                before = len(emu.requests)
                with emu.faults.add(Delay(math.inf)):
                    while len(emu.requests) == before:
                        # Long enough for the automatic clock to see a loop at rest in between.
                        await asyncio.sleep(0.02)
            kept.extend([tasks, watch, clients])

        kept: list[Any] = []
        asyncio.run(main())
        kept.clear()
        before = open_files()
        for _ in range(3):
            asyncio.run(main())
            kept.clear()
        # The emulator, in its thread, may take a moment to see that a connection was closed.
        give_up = time.monotonic() + 40
        while open_files() > before and time.monotonic() < give_up:
            time.sleep(0.01)
        assert open_files() <= before
        # One each time for certain: the others may have been answered.
        assert outcomes.count("CancelledError") >= 4
        assert set(outcomes) <= {"CancelledError"}


def test_a_loop_that_was_thrown_away_is_forgotten() -> None:
    """Its poller never ran to its end; the next who waits, in whatever loop, clears it away."""
    with Emulator(pods=1, boot_seconds=0) as emu:
        loop = asyncio.new_event_loop()
        lost, client = (
            make_client(emu.url, clock=ManualClock(auto=True), api_key=emu.api_key) for _ in range(2)
        )
        tasks: list[Any] = [loop.create_task(lost.pods.wait_ready("never"))]
        loop.run_until_complete(asyncio.sleep(0))
        tasks += asyncio.all_tasks(loop)
        loop.close()
        asyncio.run(client.pods.wait(emu.pods))
        for task in tasks:
            # None may complain when it is collected.
            task._log_destroy_pending = False
        forgotten = weakref.ref(loop)
        del loop, lost, tasks, task
        gc.collect()
        assert forgotten() is None
