"""Single statuses: calls made together share their requests, and each has its own outcome."""

import asyncio
import contextvars
from typing import Any

import aiohttp
import pytest

import primepods
from tests.support.client import make_client, serve
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Hang, Held, Reply, Server, refused_url, reply
from tests.wire.statuses import ids_of, refusing, rows


async def test_calls_of_one_iteration_share_their_requests() -> None:
    """A hundred and fifty `status()` calls made together are two requests; one made later is another."""
    ids = ids_of(150)
    async with Server(rows) as server, make_client(server.url) as client:
        found = await asyncio.gather(*[client.pods.status(pod_id) for pod_id in [*ids, ids[3], ids[3]]])
        assert [status.pod_id for status in found] == [*ids, ids[3], ids[3]]
        assert sorted(len(request.values("pod_ids")) for request in server.requests) == [50, 100]
        await client.pods.status("other")
        assert len(server.requests) == 3


async def test_a_lone_call_waits_for_nobody() -> None:
    """No timer is behind the sharing: a single call is sent while the clock stands."""
    clock = ManualClock()
    async with Server(rows) as server, make_client(server.url, clock=clock) as client:
        assert (await client.pods.status("a")).pod_id == "a"
    assert clock.sleeps == []


async def test_each_call_has_its_own_outcome() -> None:
    """In one batch: a row, a missing row, a refused id; each caller gets what is about its pod."""
    async with serve(refusing({"bad"})) as (server, client):
        server._script = lambda request: (
            refusing({"bad"})(request)
            if "bad" in request.values("pod_ids")
            else rows(request, missing={"gone"})
        )
        results = await asyncio.gather(
            *[client.pods.status(pod_id) for pod_id in ("a", "gone", "bad", "b")], return_exceptions=True
        )
    assert isinstance(results[0], primepods.PodStatus)
    assert isinstance(results[1], primepods.NotFoundError)
    assert "'gone'" in str(results[1])
    assert "history" in str(results[1])
    assert isinstance(results[2], primepods.ValidationError)
    assert isinstance(results[3], primepods.PodStatus)


@pytest.mark.parametrize("answer", [Reply(401), Reply(500), Reply(200, b"<html>"), reply({"data": [{}]})])
async def test_each_caller_has_its_own_exception(answer: Answer) -> None:
    """What ends a batch is raised to all of it as separate objects: notes and tracebacks do not mix."""
    clock = ManualClock(auto=True)
    async with Server(default=answer) as server, make_client(server.url, clock=clock, deadline=1.1) as client:
        errors = await asyncio.gather(
            *[client.pods.status(pod_id) for pod_id in ("a", "b", "c", "a")], return_exceptions=True
        )
    assert len({id(error) for error in errors}) == 4
    assert len({str(error) for error in errors}) == 1
    assert isinstance(errors[0], primepods.PrimePodsError)
    others = [list(getattr(error, "__notes__", [])) for error in errors[1:]]
    errors[0].add_note("mine")
    assert [list(getattr(error, "__notes__", [])) for error in errors[1:]] == others


async def test_a_batch_that_breaks_leaves_nobody_hanging() -> None:
    """An exception that cannot even be copied still reaches every caller."""

    class OddError(Exception):
        def __init__(self, *, number: int) -> None:
            super().__init__(number, "odd")

    async def breaks(_: aiohttp.ClientRequest, __: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        raise OddError(number=3)

    async with serve(rows, given={"middlewares": [breaks]}) as (_server, client):
        async with asyncio.timeout(40):
            results = await asyncio.gather(
                client.pods.status("a"), client.pods.status("b"), return_exceptions=True
            )
    assert [type(result) for result in results] == [OddError, OddError]


async def test_cancelling_one_caller_hurts_no_other() -> None:
    """Those who share its request, also for the same pod, get their answers."""
    event = asyncio.Event()
    async with serve(lambda request: Held(event, rows(request))) as (server, client):
        first, second, same = (asyncio.create_task(client.pods.status(pod_id)) for pod_id in ("a", "b", "a"))
        await settle()
        first.cancel("enough")
        await settle()
        event.set()
        assert [(await second).pod_id, (await same).pod_id] == ["b", "a"]
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await first
    assert len(server.requests) == 1


async def test_a_batch_that_nobody_waits_for_any_more_is_ended() -> None:
    """When the last caller is cancelled the request goes too; cancelled before it was sent, it never is."""
    before = asyncio.all_tasks()
    async with Server(default=Hang()) as server, make_client(server.url, max_concurrency=1) as client:
        tasks = [asyncio.create_task(client.pods.status(pod_id)) for pod_id in ("a", "b")]
        await settle()
        assert server.in_flight == 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await settle()
        assert server.in_flight == 0
        task = asyncio.create_task(client.pods.status("c"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await settle()
        assert len(server.requests) == 1
        server._script = rows
        assert (await client.pods.status("d")).pod_id == "d"
    await settle()
    assert asyncio.all_tasks() == before


async def test_a_batch_that_somebody_cancels_is_sent_again() -> None:
    """Callers get their answers all the same, but for the one that was cancelled itself."""
    answers = iter([Hang()])
    async with serve(lambda request: next(answers, None) or rows(request)) as (server, client):
        before = asyncio.all_tasks()
        calls = [asyncio.create_task(client.pods.status(pod_id)) for pod_id in ("a", "b", "c")]
        await settle()
        [batch] = [task for task in asyncio.all_tasks() - before - {*calls} if "StatusReader" in repr(task)]
        batch.cancel()
        calls[2].cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [getattr(status, "pod_id", None) for status in done] == ["a", "b", None]
        assert calls[2].cancelled()
        assert [request.values("pod_ids") for request in server.requests] == [["a", "b", "c"], ["a", "b"]]


async def test_a_batch_is_of_no_callers_context() -> None:
    """What is sent for many runs in an empty context: its spans do not land at whoever came first."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []

    async def note(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        seen.append(who.get())
        return await handler(request)

    async with serve(rows, given={"middlewares": [note]}) as (_server, client):
        who.set("the first")
        await asyncio.gather(client.pods.status("a"), client.pods.status("b"))
    assert seen == ["nobody"]


def test_calls_of_two_loops_do_not_share() -> None:
    """A client reused by a second `asyncio.run` begins with a new batch."""

    async def ask(client: primepods.AsyncClient | None) -> primepods.AsyncClient:
        async with Server(rows, port=ports[0] if ports else 0) as server:
            ports.append(int(server.url.rpartition(":")[2]))
            client = client or make_client(server.url)
            abandoned = asyncio.ensure_future(client.pods.status("never"))
            await asyncio.sleep(0)
            abandoned.cancel()
            assert (await client.pods.status("a")).pod_id == "a"
            return client

    ports: list[int] = []
    client = asyncio.run(ask(None))
    asyncio.run(ask(client))


def test_a_batch_of_a_closed_loop_is_forgotten() -> None:
    """A loop closed in the middle of a call leaves nothing behind that the next loop would wait for."""

    async def ask() -> primepods.PodStatus:
        async with Server(rows, port=port) as server:
            assert server.url == client._executor.settings.base_url
            async with asyncio.timeout(40):
                return await client.pods.status("a")

    url = refused_url()
    port = int(url.rpartition(":")[2])
    client = make_client(url)
    loop = asyncio.new_event_loop()
    lost = loop.create_task(client.pods.status("never"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    tasks: set[Any] = asyncio.all_tasks(loop)
    loop.close()
    assert asyncio.run(ask()).pod_id == "a"
    # None may complain when it is collected now.
    for task in tasks:
        task._log_destroy_pending = False
        task.get_coro().close()
    assert not lost.done()
