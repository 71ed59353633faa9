"""One poller for all who wait: who shares it, what becomes of it, and what each of them gets of their own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import math
import pickle
import ssl
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

import primepods
from primepods.emulator import Delay, Emulator
from tests.support.client import KEY, make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Hang, Reset, Server, reply
from tests.support.tls import server_context
from tests.waiting.fleet import Fleet, Stage, raised, result
from tests.waiting.fleet import stage as set_up

pytestmark = pytest.mark.anyio


async def next_of(changes: AsyncIterator[primepods.PodChange]) -> primepods.PodChange:
    """The next change, for a task of its own."""
    return await anext(changes)


async def test_clients_with_equal_settings_share_a_hub(stage: Stage, fleet: Fleet) -> None:
    """Thirty clients that wait for a pod each cost one request a tick, over one connection."""
    ids = fleet.add(30)
    waits = [stage.start(stage.client().pods.wait_ready(pod_id)) for pod_id in ids]
    await stage.advance(11)
    assert fleet.sizes == [30, 30, 30]
    assert stage.server.connections == 1
    fleet.set("ready", *ids)
    await stage.advance(5)
    assert [result(wait).pod_id for wait in waits] == ids


@pytest.mark.parametrize(
    "other",
    [
        {"api_key": "pit_another_key"},
        {"team_id": "another-team"},
        {"max_concurrency": 3},
        {"timeout": 7.0},
        {"user_agent": "another/1"},
        {"path": "/v2"},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_other_settings_have_another_hub(stage: Stage, fleet: Fleet, other: dict[str, Any]) -> None:
    """Who differs in key, team, limits or address is polled for apart, with their own key and team."""
    fleet.add(2)
    stage.start(stage.client().pods.wait_ready("pod00000"))
    stage.start(stage.client(**other).pods.wait_ready("pod00001"))
    await stage.advance(1)
    assert fleet.sizes == [1, 1]
    sent = {asked.ids[0]: asked.received.headers for asked in fleet.asked}
    assert sent["pod00000"]["authorization"] == f"Bearer {KEY}"
    assert sent["pod00001"]["authorization"] == f"Bearer {other.get('api_key', KEY)}"
    assert sent["pod00001"].get("x-prime-team-id") == other.get("team_id")


async def test_other_retries_have_no_other_hub(stage: Stage, fleet: Fleet) -> None:
    """The hub does not retry, so views and clients with other retries and deadlines share it."""
    fleet.add(3)
    client = stage.client()
    view = client.with_options(deadline=3, retry=primepods.RetryPolicy(attempts=9))
    other = stage.client(deadline=4, retry=primepods.RetryPolicy(attempts=1))
    for n, each in enumerate((client, view, other)):
        stage.start(each.pods.wait_ready(f"pod0000{n}"))
    await stage.advance(1)
    assert fleet.sizes == [3]


async def test_another_session_has_another_hub(stage: Stage, fleet: Fleet) -> None:
    """Clients on the same session share a hub that uses it and leaves it open; others have another."""
    fleet.add(4)
    connector = aiohttp.TCPConnector()
    async with aiohttp.ClientSession(connector=connector) as one, aiohttp.ClientSession() as two:
        tasks = [
            stage.start(stage.client(session=session).pods.wait_ready(f"pod0000{n}"))
            for n, session in enumerate((one, one, two, None))
        ]
        await stage.advance(1)
        assert sorted(fleet.sizes) == [1, 1, 2]
        fleet.set("ready", *fleet.states)
        await stage.advance(6)
        assert all(task.done() for task in tasks)
        assert not one.closed
        assert not connector.closed


async def test_a_pod_that_does_not_change_is_kept_once(stage: Stage, fleet: Fleet) -> None:
    """What is known of it and what is remembered of the answer are one object, however often it comes."""
    # Names of its own: other tests may have left objects behind.
    fleet.set("provisioning", *(f"kept{number:03d}" for number in range(20)))
    stage.start(stage.client().pods.wait(list(fleet.states)))
    await stage.advance(18)
    assert len(fleet.sizes) >= 3
    gc.collect()
    kept = [row.pod_id for row in gc.get_objects() if isinstance(row, primepods.PodStatus)]
    assert sorted(pod_id for pod_id in kept if pod_id in fleet.states) == sorted(fleet.states)


async def test_another_loop_has_another_hub(stage: Stage, fleet: Fleet) -> None:
    """Loops in two threads poll apart at the same time."""
    fleet.add(2)
    stage.start(stage.client().pods.wait_ready("pod00000"))

    async def elsewhere() -> str:
        seen = asyncio.Event()
        # Equal settings but for the clock, which belongs to a loop here.
        async with make_client(stage.server.url, clock=ManualClock(auto=True)) as other:
            wait = asyncio.create_task(other.pods.wait_ready("pod00001", on_change=lambda _: seen.set()))
            await seen.wait()
            fleet.set("ready", "pod00001")
            return (await wait).pod_id

    await stage.advance(1)
    assert await asyncio.to_thread(asyncio.run, elsewhere()) == "pod00001"
    await stage.advance(5)
    assert {asked.ids for asked in fleet.asked} == {("pod00000",), ("pod00001",)}


def test_a_client_waits_in_one_loop_after_the_other() -> None:
    """Also rule 7: nothing binds to a loop at construction, or is used in a second one."""
    with Emulator(pods=2, boot_seconds=0) as emu:
        client = make_client(emu.url, clock=ManualClock(auto=True), api_key=emu.api_key)
        ids = list(emu.pods)

        async def wait() -> list[str]:
            return list(await client.pods.wait(ids))

        assert asyncio.run(wait()) == ids
        assert asyncio.run(wait()) == ids
        asyncio.run(client.aclose())


async def test_the_hub_outlives_the_client_that_started_it(stage: Stage, fleet: Fleet) -> None:
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
        with pytest.raises(primepods.ClientClosedError, match="closed while it waited"):
            result(task)
    with pytest.raises(primepods.ClientClosedError, match="closed while it waited"):
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


async def test_a_hub_ends_with_its_last_waiter(stage: Stage, fleet: Fleet) -> None:
    """While nobody waits there is no hub, no task and no connection, though the clients are open."""
    ids = fleet.add(2, "ready")
    client = stage.client()
    for _ in range(3):
        waits = [stage.start(client.pods.wait_ready(pod_id)) for pod_id in ids]
        await stage.advance(1)
        assert all(wait.done() for wait in waits)
        await stage.check_nothing_left()
    assert len(fleet.asked) == 3


@pytest.mark.parametrize("seed", range(12))
async def test_cancelled_at_any_moment_nothing_is_left(stage: Stage, fleet: Fleet, seed: int) -> None:
    """Any or all waiters are cancelled after any number of the loop's turns: the rest go on."""
    chance = Random(seed)
    ids = fleet.add(12)
    fleet.set("bare", *ids[:4])
    waits = [stage.start(stage.client().pods.wait([pod_id, ids[0]])) for pod_id in ids]
    stopped = chance.sample(range(12), chance.choice([1, 6, 12]))
    for n in stopped:
        if chance.random() < 0.7:
            await stage.advance(chance.choice([0.0, 0.25, 4.0]))
        due = stage.clock.next_due()
        if due is not None and chance.random() < 0.8:
            # From here on every turn of the loop does something: the tick, the request, its answer.
            stage.clock.jump(due)
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        waits[n].cancel()
    await asyncio.wait([waits[n] for n in stopped])
    fleet.set("ready", *ids)
    await stage.advance(45)
    for n, wait in enumerate(waits):
        assert wait.cancelled() == (n in stopped)
        assert n in stopped or list(result(wait)) == list(dict.fromkeys([ids[n], ids[0]]))
    await stage.check_nothing_left()


async def test_who_is_cancelled_while_leaving_leaves_nothing(stage: Stage, fleet: Fleet) -> None:
    """The last one to leave is cancelled again while the hub tidies up, with a request under way."""
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

    def __call__(self) -> aiohttp.ClientSession:
        """Make one."""
        return aiohttp.ClientSession(middlewares=[self._send])

    async def _send(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            return await handler(request)
        finally:
            while not self.let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await self.let_go.wait()


def cancel_the_poller(stage: Stage) -> None:
    """Cancel every task of the package that no test has begun."""
    package = str(Path(primepods.__file__).parent)
    for task in asyncio.all_tasks() - set(stage.tasks):
        coroutine: Any = task.get_coro()
        if coroutine.cr_code.co_filename.startswith(package):
            task.cancel()


async def test_leaving_does_not_interrupt_a_shutdown(stage: Stage, fleet: Fleet) -> None:
    """The poller is cancelled from outside; its waiter leaves meanwhile, and waits until all is tidied up."""
    fleet.add(1)
    fleet.next_status(Hang())
    stubborn = Stubborn()
    wait = stage.start(stage.client(session=stubborn).pods.wait_ready("pod00000"))
    await stage.advance(1)
    cancel_the_poller(stage)
    await settle()
    assert not wait.done()
    stubborn.let_go.set()
    await settle()
    raised(wait, primepods.PrimePodsError)


async def test_an_interrupted_shutdown_closes_connections(stage: Stage, fleet: Fleet) -> None:
    """As when the loop ends in the middle of it."""
    ids = fleet.add(150)
    stubborn = Stubborn()
    wait = stage.start(stage.client(session=stubborn).pods.wait(ids))
    fleet.next_status(Hang())
    await stage.advance(1)
    wait.cancel()
    await settle()
    assert stage.server.open > 0
    cancel_the_poller(stage)
    await settle()
    assert stage.server.open == 0
    assert wait.cancelled()
    stubborn.let_go.set()


async def test_a_newcomer_meets_no_hub_that_is_ending(stage: Stage, fleet: Fleet) -> None:
    """Somebody comes at each turn while the last one leaves: each gets an answer."""
    fleet.add(1, "ready")
    for turns in range(12):
        first = stage.start(stage.client().pods.wait_ready("pod00000"))
        await stage.advance(0.1)
        first.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        second = stage.start(stage.client().pods.wait_ready("pod00000"))
        await stage.advance(1)
        assert result(second).is_ready
    await stage.check_nothing_left()


OPEN_FILES = Path("/proc/self/fd")


def open_files() -> int:
    """How many files and sockets this process has open."""
    gc.collect()
    return len(list(OPEN_FILES.iterdir()))


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="counts open files where Linux lists them")
@pytest.mark.parametrize("moment", ["idle", "in flight", "looking"])
def test_nothing_is_left_when_the_loop_ends(moment: str) -> None:
    """`asyncio.run` ends while tasks wait and watch: no hub, no socket, no complaint."""
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
                    while len(emu.requests) == before:  # noqa: ASYNC110 - the emulator is in another thread
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
        give_up = time.monotonic() + 5
        while open_files() > before and time.monotonic() < give_up:
            time.sleep(0.01)
        assert open_files() <= before
        assert outcomes.count("CancelledError") >= 8
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


async def test_cancelling_one_wait_does_not_touch_another(stage: Stage, fleet: Fleet) -> None:
    """Two clients wait for the same pod; one of them is cancelled at each turn of the loop."""
    for turns in range(0, 60, 3):
        fleet.set("provisioning", "same")
        stays = stage.start(stage.client().pods.wait_ready("same"))
        leaves = stage.start(stage.client().pods.wait_ready("same"))
        await stage.advance(0.2)
        stage.clock.jump(stage.clock.time() + 0.1)
        for _ in range(turns):
            await asyncio.sleep(0)
        leaves.cancel()
        fleet.set("ready", "same")
        await stage.advance(6)
        assert leaves.cancelled()
        assert result(stays).is_ready


def error_of(task: asyncio.Task[Any]) -> BaseException:
    """What a task has ended with."""
    assert task.done(), f"it goes on: {task}"
    error = task.exception()
    assert error is not None
    return error


@pytest.mark.parametrize("status", [401, 422])
async def test_each_waiter_gets_an_exception_of_its_own(stage: Stage, fleet: Fleet, status: int) -> None:
    """What one waiter notes on its error, or chains to it, does not show up at the others."""
    fleet.add(2)
    waits = [stage.start(stage.client().pods.wait_ready("pod00000")) for _ in range(3)]
    await stage.advance(1)
    fleet.next_status(reply({"detail": "no"}, status), times=100)
    await stage.advance(7)
    errors = [error_of(wait) for wait in waits]
    errors[0].add_note("a note of the first")
    assert len({id(error) for error in errors}) == 3
    assert {str(error) for error in errors} == {str(errors[0])}
    assert {type(error) for error in errors} == {type(errors[0])}
    assert {getattr(error, "status_code", None) for error in errors} == {status}
    assert not getattr(errors[1], "__notes__", None)
    assert errors[0].__traceback__ is not errors[1].__traceback__


async def test_a_certificate_that_is_not_trusted_ends_waits() -> None:
    """When it is met again; each error has its cause."""
    clock = ManualClock()
    async with Server(tls=server_context()) as server, make_client(server.url, clock=clock) as client:
        waits = [asyncio.create_task(client.pods.wait_ready(pod_id)) for pod_id in ("a", "b")]
        await clock.advance(1)
        assert not any(wait.done() for wait in waits)
        await clock.advance(2)
        errors = [error_of(wait) for wait in waits]
    assert "certificate" in str(errors[0]).lower()
    assert errors[0] is not errors[1]
    assert isinstance(errors[1].__cause__, ssl.SSLCertVerificationError)


async def test_the_poller_runs_in_an_empty_context(
    stage: Stage, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """What the first waiter has in its context variables is not in the poller's log lines."""
    variable = contextvars.ContextVar("request_id", default="none")
    seen: list[tuple[str, str]] = []

    class Stamp(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append((variable.get(), record.getMessage()))
            return True

    stamp = Stamp()
    caplog.set_level(logging.DEBUG, logger="primepods")
    logging.getLogger("primepods").addFilter(stamp)
    try:
        variable.set("the first waiter's")
        fleet.set("bare", "a")
        fleet.next_status(reply({}, 503))
        fleet.next_status(reply({}, 429))
        wait = stage.start(stage.client().pods.wait_ready("a", timeout=50))
        await stage.advance(60)
        assert "WaitTimeoutError" in repr(wait)
        status = stage.start(stage.client().pods.status("a"))
        await stage.advance(1)
        assert result(status).pod_id == "a"
    finally:
        logging.getLogger("primepods").removeFilter(stamp)
    assert {" ".join(text.split()[:2]) for _, text in seen} == {
        "GET /api/v1/pods/status:",
        "GET /api/v1/pods/a:",
        "Waiting goes",
    }
    assert {value for value, _ in seen} == {"none"}


@pytest.mark.parametrize("args", [(), ("because",), ({"a": 1},)])
async def test_a_cancellation_passes_as_it_is(stage: Stage, fleet: Fleet, args: tuple[Any, ...]) -> None:
    """The very exception arrives at the caller, with its arguments; no pod is deleted."""
    fleet.add(1)
    caught: list[asyncio.CancelledError] = []

    def calls() -> list[Callable[[], Awaitable[object]]]:
        pods = stage.client().pods
        return [
            lambda: pods.wait(["pod00000"]),
            lambda: pods.wait_ready("pod00000", timeout=10),
            lambda: pods.wait_gone("pod00000"),
            lambda: drain(aiter(pods.watch(["pod00000"]))),
            lambda: pods.wait(["pod00000"], on_change=hang),
        ]

    async def hang(_: primepods.PodChange) -> None:
        await asyncio.Event().wait()

    async def drain(changes: AsyncIterator[primepods.PodChange]) -> None:
        async for _ in changes:
            pass

    async def run(call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except asyncio.CancelledError as exc:
            caught.append(exc)
            raise

    tasks = [stage.start(run(call)) for call in calls()]
    await stage.advance(1)
    for task in tasks:
        task.cancel(*args)
    await settle()
    assert [exc.args for exc in caught] == [args] * 5
    assert all(task.cancelled() for task in tasks)
    assert {asked.received.method for asked in fleet.asked} == {"GET"}


async def test_the_users_own_timeout_and_group_work(stage: Stage, fleet: Fleet) -> None:
    """`asyncio.timeout` and a `TaskGroup` around waits see their own cancellations."""
    fleet.set("error", "b")
    fleet.add(1)
    pods = stage.client().pods

    async def in_time() -> None:
        async with asyncio.timeout(0):
            await pods.wait_ready("pod00000")

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(pods.wait_ready("pod00000"))
            group.create_task(pods.wait_ready("b"))

    with pytest.raises(TimeoutError) as caught:
        await in_time()
    assert type(caught.value) is TimeoutError
    group = stage.start(together())
    await stage.advance(1)
    with pytest.raises(ExceptionGroup) as several:
        result(group)
    assert several.group_contains(primepods.PodFailedError)


async def test_what_a_wait_raises_can_be_pickled(stage: Stage, fleet: Fleet) -> None:
    """Timed out, failed, missing, refused and closed: all come back from a pickle as they were."""
    fleet.add(2, "installing")
    fleet.set("error", "bad")
    client = stage.client()
    waits = [
        stage.start(client.pods.wait(["pod00000", "pod00001", "nowhere"], timeout=9, appear_grace=50)),
        stage.start(client.pods.wait(["pod00000", "bad"])),
        stage.start(client.pods.wait_ready("never", appear_grace=1)),
        stage.start(client.pods.wait_ready("pod00000")),
    ]
    await stage.advance(30)
    await client.aclose()
    await settle()
    kinds = []
    for wait in waits:
        error = error_of(wait)
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - it is ours
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert {key: repr(value) for key, value in vars(again).items()} == {
            key: repr(value) for key, value in vars(error).items()
        }
        kinds.append(type(error).__name__)
    assert kinds == ["WaitTimeoutError", "PodFailedError", "NotFoundError", "ClientClosedError"]


async def test_the_key_is_the_clients_and_shows_nowhere(
    stage: Stage, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The poller looks for no key of its own, and nothing that it raises, logs or is holds the key."""
    caplog.set_level(logging.DEBUG)
    fleet.add(1)
    waits = [stage.start(stage.client().pods.wait_ready("pod00000", timeout=40)) for _ in range(2)]
    waits.append(stage.start(stage.client().pods.wait_ready("pod00000", timeout=4000)))
    monkeypatch.setenv("PRIME_API_KEY", "pit_set_too_late")
    fleet.next_status(Reset(), times=2)
    await stage.advance(20)
    shown = [repr(task) for task in asyncio.all_tasks()]
    fleet.next_status(reply({"detail": f"key {KEY} has sent too much"}, 503), times=100)
    await stage.advance(30)
    fleet.faults.clear()
    fleet.next_status(reply({"detail": f"no such key {KEY}"}, 401), times=100)
    await stage.advance(6)
    for wait in waits:
        error = error_of(wait)
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        shown += [str(error), repr(error), *trace.format(), repr(vars(error))]
    shown += [record.getMessage() for record in caplog.records]
    assert all(asked.received.headers["authorization"] == f"Bearer {KEY}" for asked in fleet.asked)
    assert not [text for text in shown if KEY in text]


async def test_a_request_without_an_answer_ends(
    stage: Stage, fleet: Fleet, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that never answers costs the attempt's timeout; then the next tick asks again."""
    fleet.add(1, "ready")
    fleet.next_status(Hang())
    wait = stage.start(stage.client(timeout=7.0).pods.wait_ready("pod00000"))
    await stage.advance(7.2)
    assert len(fleet.asked) == 1
    assert not wait.done()
    await stage.advance(3.1)
    assert fleet.times == [0.25, 10.25]
    assert result(wait).is_ready
    assert capfd.readouterr() == ("", "")


class OddError(Exception):
    """An exception that cannot be copied: its class wants two arguments and keeps one."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")
        self.two = two


class BrokenClock(ManualClock):
    """A clock whose chance fails once it is told to."""

    error: Exception | None = None

    def random(self) -> float:
        """Fail, or the usual."""
        if self.error is not None:
            raise self.error
        return super().random()


@pytest.mark.parametrize("where", ["the clock", "a request for statuses", "a lookup"])
@pytest.mark.parametrize("error", [RuntimeError("a defect"), OddError("this", "that")], ids=["plain", "odd"])
async def test_a_defect_of_the_poller_ends_its_waiters(where: str, error: Exception) -> None:
    """Nobody is left hanging: each waiter gets the defect as an exception of its own; the next wait works."""
    error.__cause__ = KeyError("behind it")
    error.add_note("from the poller")
    broken: list[bool] = []

    async def breaks(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if broken and request.url.path.endswith("/status") == (where == "a request for statuses"):
            raise error
        return await handler(request)

    async with (
        set_up(clock := BrokenClock()) as stage,
        aiohttp.ClientSession(middlewares=[breaks]) as session,
    ):
        ids = stage.fleet.add(3, "bare")
        clients = [stage.client(session=session) for _ in ids]
        waits = [
            stage.start(client.pods.wait_ready(pod_id)) for client, pod_id in zip(clients, ids, strict=True)
        ]
        await stage.advance(1)
        if where == "the clock":
            clock.error = error
        else:
            broken.append(True)
        await stage.advance(36)
        caught = [error_of(wait) for wait in waits]
        assert {str(exc) for exc in caught} == {str(error)}
        assert {type(exc) for exc in caught} == {type(error)}
        assert {repr(exc.__cause__) for exc in caught} == {"KeyError('behind it')"}
        assert len({id(exc) for exc in caught} | {id(error)}) == 4
        assert [exc.__notes__ for exc in caught] == [error.__notes__] * 3
        assert len({id(exc.__notes__) for exc in caught}) == 3
        broken.clear()
        clock.error = None
        stage.fleet.set("ready", *ids)
        again = stage.start(clients[0].pods.wait_ready(ids[0]))
        await stage.advance(1)
        assert result(again).is_ready


async def test_a_broken_log_leaves_nobody_hanging(stage: Stage, fleet: Fleet) -> None:
    """What the caller's logging raises, where the poller says something, ends the waits as well."""
    ids = fleet.add(3)

    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise ArithmeticError(record.levelname)

    broken = Broken()
    waits = [stage.start(stage.client().pods.wait_ready(pod_id)) for pod_id in ids]
    fleet.next_status(reply({}, 503))
    logging.getLogger("primepods").addFilter(broken)
    try:
        await stage.advance(1)
    finally:
        logging.getLogger("primepods").removeFilter(broken)
    assert all(error_of(wait) for wait in waits)


async def test_a_poller_cancelled_from_outside_says_so(stage: Stage, fleet: Fleet) -> None:
    """Somebody cancels every task that is not theirs: the waiters do not hang."""
    fleet.add(1)
    wait = stage.start(stage.client().pods.wait_ready("pod00000"))
    await stage.advance(1)
    cancel_the_poller(stage)
    await settle()
    with pytest.raises(primepods.PrimePodsError, match="cancelled from outside"):
        result(wait)
    await stage.check_nothing_left()


async def test_a_closed_session_ends_the_waits(stage: Stage, fleet: Fleet) -> None:
    """The caller closes the session under the hub: there is no use in waiting."""
    fleet.add(1)
    async with aiohttp.ClientSession() as session:
        wait = stage.start(stage.client(session=session).pods.wait_ready("pod00000"))
        await stage.advance(1)
    await stage.advance(5)
    with pytest.raises(primepods.ClientClosedError, match="session"):
        result(wait)
