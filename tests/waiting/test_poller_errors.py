"""What each who waits gets of their own when something goes wrong, and who is in nobody's context."""

import asyncio
import contextvars
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

import primepods
from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Server, reply
from tests.support.tls import server_context
from tests.waiting.fleet import Fleet, Stage, next_of, result
from tests.waiting.fleet import stage as set_up


def error_of(task: asyncio.Task[Any]) -> BaseException:
    """What a task has ended with."""
    assert task.done(), f"it goes on: {task}"
    error = task.exception()
    assert error is not None
    return error


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
    loggers = [logging.getLogger(name) for name in ("primepods", "primepods.poller")]
    for logger in loggers:
        logger.addFilter(stamp)
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
        for logger in loggers:
            logger.removeFilter(stamp)
    assert {" ".join(text.split()[:2]) for _, text in seen} == {
        "GET /api/v1/pods/status:",
        "GET /api/v1/pods/a:",
        "Still waiting,",
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
    logging.getLogger("primepods.poller").addFilter(broken)
    try:
        await stage.advance(1)
    finally:
        logging.getLogger("primepods.poller").removeFilter(broken)
    assert all(error_of(wait) for wait in waits)


async def test_a_poller_cancelled_from_outside_says_so(stage: Stage, fleet: Fleet) -> None:
    """Somebody cancels every task that is not theirs: who waits does not hang, nor who comes next."""
    fleet.add(1)
    pods = stage.client().pods
    wait = stage.start(pods.wait_ready("pod00000"))
    left_open = aiter(pods.watch(["pod00000"]))
    begun = stage.start(next_of(left_open))
    await stage.advance(1)
    assert begun.done()
    stage.cancel_the_poller()
    await settle()
    with pytest.raises(primepods.PrimePodsError, match="cancelled from outside"):
        result(wait)
    fleet.set("ready", "pod00000")
    next_wait = stage.start(pods.wait_ready("pod00000"))
    await stage.advance(1)
    assert result(next_wait).is_ready
    with pytest.raises(primepods.PrimePodsError, match="cancelled from outside"):
        await anext(left_open)
    await stage.check_nothing_left()


@pytest.mark.parametrize("spare", [" ", "Poller."], ids=["all", "requests"])
@pytest.mark.parametrize("turns", range(8))
async def test_tasks_cancelled_from_outside_leave_nobody_hanging(
    stage: Stage, fleet: Fleet, spare: str, turns: int
) -> None:
    """Somebody cancels tasks of the poller, also before their first step: waits end, or go on."""
    fleet.add(1, "bare")
    fleet.got["pod00000"] = {"ip": "1.2.3.4", "sshConnection": "root@1.2.3.4 -p 22"}
    wait = stage.start(stage.client().pods.wait_ready("pod00000"))
    for _ in range(turns):
        await asyncio.sleep(0)
    stage.cancel_the_poller(spare=spare)
    # The first tick is due, and nothing has run since.
    stage.clock.jump(stage.clock.time() + 0.25)
    for _ in range(turns):
        await asyncio.sleep(0)
    stage.cancel_the_poller(spare=spare)
    await stage.advance(61)
    assert wait.done()
    assert type(wait.exception()) is primepods.PrimePodsError or result(wait).is_ready


async def test_a_closed_session_ends_the_waits(stage: Stage, fleet: Fleet) -> None:
    """The caller closes the session under the poller: there is no use in waiting."""
    fleet.add(1)
    async with aiohttp.ClientSession() as session:
        wait = stage.start(stage.client(session=session).pods.wait_ready("pod00000"))
        await stage.advance(1)
    await stage.advance(5)
    with pytest.raises(primepods.ClientClosedError, match="session"):
        result(wait)
