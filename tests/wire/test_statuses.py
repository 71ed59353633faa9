"""Statuses: any number of ids in as few requests as will do, and every id's own outcome."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Collection
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import primepods
from primepods import PodState
from primepods._http.status_batches import MAX_IDS_PER_REQUEST, MAX_REQUEST_LINE
from primepods.emulator import Emulator
from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import (
    Answer,
    Close,
    Hang,
    Held,
    Received,
    Reply,
    Script,
    Server,
    refused_url,
    reply,
)

pytestmark = pytest.mark.anyio

STATUS = "/api/v1/pods/status"


def row(pod_id: str, status: str = "ACTIVE") -> dict[str, str]:
    """A status row as the schema demands it at least."""
    return {"podId": pod_id, "providerType": "x", "status": status}


def rows(request: Received, missing: Collection[str] = ()) -> Reply:
    """The rows that a request asks for, in the reverse of its order."""
    ids = [pod_id for pod_id in request.values("pod_ids") if pod_id not in missing]
    return reply({"data": [row(pod_id) for pod_id in reversed(ids)]})


def refusing(bad: Collection[str], status: int = 422, *, most: int = MAX_IDS_PER_REQUEST) -> Script:
    """A server that refuses requests with a bad id in them, or with too many ids."""

    def answer(request: Received) -> Answer:
        ids = request.values("pod_ids")
        if len(ids) > most or set(ids) & set(bad):
            return reply(
                {"errors": [{"param": "pod_ids", "details": f"refused number {request.number}"}]}, status
            )
        return rows(request)

    return answer


def ids_of(count: int) -> list[str]:
    """So many ids."""
    return [f"{n:032x}" for n in range(count)]


async def test_the_answer_is_in_the_order_asked() -> None:
    """A mapping in the caller's order, whatever the server's; duplicates once; the rest in `.missing`."""
    async with (
        Server(lambda request: rows(request, missing={"b"})) as server,
        make_client(server.url) as client,
    ):
        statuses = await client.pods.statuses(iter(["c", "a", "b", "c", "d", "a"]))
    assert list(statuses) == ["c", "a", "d"]
    assert statuses.missing == ("b",)
    assert statuses.errors == {}
    assert statuses["a"].pod_id == "a"
    assert statuses["a"].status == PodState.ACTIVE
    assert server.targets == [f"GET {STATUS}?pod_ids=c&pod_ids=a&pod_ids=b&pod_ids=d"]


async def test_no_ids_no_request() -> None:
    """An empty fleet costs nothing."""
    async with Server() as server, make_client(server.url) as client:
        statuses = await client.pods.statuses([])
        assert (len(statuses), statuses.missing, dict(statuses.errors)) == (0, (), {})
        assert len(await client.pods.delete_many([])) == 0
        assert server.connections == 0


@pytest.mark.parametrize(
    "pod_ids",
    ["abc", b"abc", 5, None, ["a", 5], ["a", ""], ["a/b"], ["status"], ["History"], ["a", ".."], [None]],
)
async def test_what_is_no_list_of_ids_is_refused(pod_ids: object) -> None:
    """One string, which would be taken for many ids, and anything that is no id: before a request is sent."""
    async with Server() as server, make_client(server.url) as client:
        for method in (client.pods.statuses, client.pods.delete_many):
            with pytest.raises((TypeError, ValueError), match="pod_ids"):
                await method(pod_ids)  # type: ignore[arg-type]
        assert server.connections == 0


async def test_1234_ids_take_13_requests_at_once() -> None:
    """A hundred ids a request, within the bound of the client, in one wave."""
    event = asyncio.Event()
    ids = ids_of(1_234)
    async with (
        Server(lambda request: Held(event, rows(request))) as server,
        make_client(server.url) as client,
    ):
        task = asyncio.create_task(client.pods.statuses(ids))
        await settle()
        assert server.in_flight == 13
        event.set()
        statuses = await task
    assert list(statuses) == ids
    assert sorted(len(request.values("pod_ids")) for request in server.requests) == [34] + [100] * 12


async def test_the_bound_on_requests_holds_here_too() -> None:
    """With `max_concurrency=3` the requests of one call come three at a time."""
    async with Server(rows) as server, make_client(server.url, max_concurrency=3) as client:
        assert len(await client.pods.statuses(ids_of(1_000))) == 1_000
    assert server.most_in_flight == 3
    assert len(server.requests) == 10


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["C", "Z"]),
            min_size=1,
            max_size=300,
        ).filter(lambda text: text.isprintable() and text.lower() not in {".", "..", "status", "history"})
        | st.integers(1, 10**9).map(str),
        max_size=300,
    ),
    prefix=st.sampled_from(["", "/a/long/prefix/of/the/base/url"]),
)
async def test_no_request_line_is_too_long(ids: list[str], prefix: str) -> None:
    """At most 100 ids and 8,000 bytes of request line, after encoding; each id arrives as it was, once."""
    async with Server(rows) as server, make_client(server.url + prefix) as client:
        statuses = await client.pods.statuses(ids)
    assert list(statuses) == list(dict.fromkeys(ids))
    for request in server.requests:
        assert len(request.values("pod_ids")) <= MAX_IDS_PER_REQUEST
        assert request.raw_head.index(b"\r\n") + 2 <= MAX_REQUEST_LINE
    arrived = [pod_id for request in server.requests for pod_id in request.values("pod_ids")]
    assert sorted(arrived) == sorted(set(ids))


@pytest.mark.parametrize("status", [400, 413, 414, 422])
@pytest.mark.parametrize("bad", [{0}, {99}, {42}, {0, 1}, {98, 99}, {10, 35, 60, 85}, {0, 50, 99}])
async def test_refused_ids_do_not_spoil_the_others(status: int, bad: set[int]) -> None:
    """A few ids that the API refuses, wherever they stand: each has its error, all others have their rows."""
    ids = ids_of(100)
    refused = [ids[n] for n in sorted(bad)]
    async with Server(refusing(refused, status)) as server, make_client(server.url) as client:
        statuses = await client.pods.statuses(ids)
    assert list(statuses.errors) == refused
    assert [getattr(error, "status_code", 0) for error in statuses.errors.values()] == [status] * len(bad)
    assert len({id(error) for error in statuses.errors.values()}) == len(bad)
    assert list(statuses) == [pod_id for pod_id in ids if pod_id not in refused]
    assert statuses.missing == ()
    assert len(server.requests) < 20 * len(bad)


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 130),
    bad=st.sets(st.integers(0, 129), max_size=12),
    most=st.sampled_from([100, 40, 3]),
)
async def test_every_id_has_its_own_outcome(count: int, bad: set[int], most: int) -> None:
    """Whatever is refused: rows and errors are those that they should be, or it is said at once."""
    ids = ids_of(count)
    refused = {ids[n] for n in bad if n < count}
    async with (
        Server(refusing(refused, most=most)) as server,
        make_client(server.url, max_concurrency=2) as client,
    ):
        try:
            statuses = await client.pods.statuses(ids)
        except primepods.ValidationError:
            # Refused eight times without one success: then it is not about an id, as far as anyone can tell.
            assert len(refused) > 2 or most < count
            assert len(server.requests) <= 2 * 8
            return
    assert set(statuses.errors) == refused
    assert list(statuses) == [pod_id for pod_id in ids if pod_id not in refused]


@pytest.mark.parametrize("count", [9, 20, 100])
async def test_an_api_that_refuses_everything_is_asked_little(count: int) -> None:
    """Eight refusals without one success are the API's opinion of the request: the first one is raised."""
    ids = ids_of(count)
    async with Server(refusing(ids)) as server, make_client(server.url) as client:
        with pytest.raises(primepods.ValidationError, match="refused number 0"):
            await client.pods.statuses(ids)
    assert len(server.requests) <= 8


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_few_ids_are_all_refused_by_name(count: int) -> None:
    """With few ids each is asked for alone, and each has its error."""
    ids = ids_of(count)
    async with Server(refusing(ids)) as server, make_client(server.url) as client:
        statuses = await client.pods.statuses(ids)
    assert list(statuses.errors) == ids
    assert (len(statuses), statuses.missing) == (0, ())
    assert len(server.requests) <= 8


async def test_other_errors_end_the_whole_call() -> None:
    """What is not about an id is raised as it is; requests that are still under way end with it."""
    ids = ids_of(300)

    def answer(request: Received) -> Answer:
        if ids[150] in request.values("pod_ids"):
            return reply({"detail": "who are you?"}, 401)
        return Hang()

    before = asyncio.all_tasks()
    async with Server(answer) as server, make_client(server.url) as client:
        with pytest.raises(primepods.AuthenticationError, match="who are you"):
            await client.pods.statuses(ids)
        await settle()
        assert server.in_flight == 0
        assert len(server.requests) == 3
    await settle()
    assert asyncio.all_tasks() == before


async def test_a_cancelled_call_ends_its_requests() -> None:
    """All chunks go with it."""
    before = asyncio.all_tasks()
    async with Server(default=Hang()) as server, make_client(server.url) as client:
        task = asyncio.create_task(client.pods.statuses(ids_of(500)))
        await settle()
        assert server.in_flight == 5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert server.in_flight == 0
    await settle()
    assert asyncio.all_tasks() == before


async def test_rows_that_nobody_asked_for_are_dropped() -> None:
    """Whoever answers for other pods does not smuggle them in; of doubles one counts."""
    data = [row("evil"), row("a"), row("evil"), row("b", "PENDING"), row("a", "ERROR")]
    async with Server(default=reply({"data": data})) as server, make_client(server.url) as client:
        statuses = await client.pods.statuses(["a", "b", "c"])
    assert list(statuses) == ["a", "b"]
    assert statuses.missing == ("c",)


@pytest.mark.parametrize("data", [None, []])
async def test_no_rows_at_all_are_missing_rows(data: object) -> None:
    """`data: null` is an empty list, and an empty list of rows no error."""
    async with Server(default=reply({"data": data})) as server, make_client(server.url) as client:
        statuses = await client.pods.statuses(["a", "b"])
    assert statuses.missing == ("a", "b")


async def test_rows_that_a_replica_lost_are_asked_for_again() -> None:
    """That a request has no rows at all is believed only when it is said twice."""
    rows_of_both = reply({"data": [row("a"), row("b")]})
    async with Server() as server, make_client(server.url) as client:
        for lost in ([], None, [row("of another")]):
            server.script(reply({"data": lost}), rows_of_both)
            assert list(await client.pods.statuses(["a", "b"])) == ["a", "b"]
            server.script(reply({"data": lost}), rows_of_both)
            assert (await client.pods.status("a")).pod_id == "a"


@pytest.mark.parametrize("data", [{"a": 1}, "rows", 3])
async def test_an_answer_of_another_shape_is_an_error(data: object) -> None:
    """A `ProtocolError` says where in the answer, in the wire's words, and of which request."""
    async with Server(default=reply({"data": data})) as server, make_client(server.url) as client:
        with pytest.raises(primepods.ProtocolError, match="broken at data") as caught:
            await client.pods.statuses(["a"])
    assert caught.value.url_path == STATUS


async def test_a_row_that_cannot_be_read_hides_no_other() -> None:
    """It is an error of its id, with its place in the answer; it is not missing."""
    data = [row("a"), row("b") | {"installationProgress": {}}]
    async with Server(default=reply({"data": data})) as server, make_client(server.url) as client:
        statuses = await client.pods.statuses(["a", "b", "c"])
        with pytest.raises(primepods.ProtocolError, match=r"data\[1\]\.installationProgress"):
            await client.pods.status("b")
    assert list(statuses) == ["a"]
    assert statuses.missing == ("c",)
    assert list(statuses.errors) == ["b"]
    error = statuses.errors["b"]
    assert isinstance(error, primepods.ProtocolError)
    assert (error.path, error.url_path) == ("data[1].installationProgress", STATUS)


@pytest.mark.parametrize("unknown", ["b", {"status": "ACTIVE"}, row("b") | {"podId": None}])
async def test_a_row_without_an_id_may_be_anybodys(unknown: object) -> None:
    """As long as there is one, no id without a row can be called missing."""
    async with (
        Server(default=reply({"data": [row("a"), unknown]})) as server,
        make_client(server.url) as client,
    ):
        statuses = await client.pods.statuses(["a", "b", "c"])
        assert list(await client.pods.statuses(["a"])) == ["a"]
    assert list(statuses) == ["a"]
    assert statuses.missing == ()
    assert list(statuses.errors) == ["b", "c"]
    assert statuses.errors["b"] is not statuses.errors["c"]
    assert "data[1]" in str(statuses.errors["c"])


POISONS: dict[str, Answer] = {
    "500": reply({"detail": "oops"}, 500),
    "403": reply({"detail": "not yours"}, 403),
    "404": reply({"detail": "no such pod"}, 404),
    "not JSON": Reply(200, b'{"data": [{"podId": NaN'),
    "closed": Close(),
}


@pytest.mark.parametrize("answer", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize("bad", [{7}, {149}, {0, 99}, {3, 120}])
async def test_an_id_that_spoils_its_request_is_found(answer: Answer, bad: set[int]) -> None:
    """The API fails, or refuses, where certain pods are asked for: all others are answered."""
    ids = ids_of(150)
    poison = {ids[n] for n in bad}
    script: Script = lambda request: answer if poison & set(request.values("pod_ids")) else rows(request)  # noqa: E731
    async with (
        Server(script) as server,
        make_client(server.url, clock=ManualClock(auto=True)) as client,
    ):
        statuses = await client.pods.statuses(ids)
    assert set(statuses.errors) == poison
    assert list(statuses) == [pod_id for pod_id in ids if pod_id not in poison]
    assert statuses.missing == ()
    # A request that fails is sent twice, and each time once more by aiohttp if its connection was closed.
    assert len(server.requests) <= 2 * (5 + 2 * 11 * len(bad)) + 2


OUTAGES: dict[str, Answer] = {
    "503": reply({"detail": "down"}, 503),
    "403": reply({"detail": "no permission"}, 403),
    "404": reply({"detail": "Not Found"}, 404),
    "login page": Reply(200, b"<html>"),
}


@pytest.mark.parametrize("answer", OUTAGES.values(), ids=OUTAGES)
@pytest.mark.parametrize("count", [1, 3, 100, 3_000])
async def test_a_failure_of_everything_is_raised(answer: Answer, count: int) -> None:
    """It is not about the ids: after few requests besides the usual attempts the first failure is raised."""
    async with (
        Server(default=answer) as server,
        make_client(server.url, clock=ManualClock(auto=True)) as client,
    ):
        with pytest.raises(primepods.PrimePodsError) as caught:
            await client.pods.statuses(ids_of(count))
    assert isinstance(caught.value, primepods.APIError | primepods.ProtocolError)
    assert len(server.requests) <= 5 * min(16, -(-count // 100)) + 2 * 8


async def test_a_search_ends_by_the_deadline() -> None:
    """What cannot be found out in time has the error of its request; what was answered is there."""
    ids, clock = ids_of(150), ManualClock(auto=True)

    def answer(request: Received) -> Answer:
        if ids[99] not in request.values("pod_ids"):
            return rows(request)
        return reply({"detail": "slow"}, 500) if len(request.values("pod_ids")) == 100 else Hang()

    async with Server(answer) as server, make_client(server.url, clock=clock, deadline=50.0) as client:
        statuses = await client.pods.statuses(ids)
    assert clock.elapsed <= 50.0
    assert set(ids) == {*statuses, *statuses.errors}
    assert ids[99] in statuses.errors
    assert len(statuses) >= 50


async def test_calls_of_one_iteration_share_their_requests() -> None:
    """A hundred and fifty `status()` calls made together are two requests; one made later is another."""
    ids = ids_of(150)
    async with Server(rows) as server, make_client(server.url) as client:
        found = await asyncio.gather(*[client.pods.status(pod_id) for pod_id in [*ids, ids[3], ids[3]]])
        assert [status.pod_id for status in found] == [*ids, ids[3], ids[3]]
        assert [len(request.values("pod_ids")) for request in server.requests] == [100, 50]
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
    async with (
        Server(refusing({"bad"})) as server,
        make_client(server.url) as client,
    ):
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

    async with (
        Server(rows) as server,
        aiohttp.ClientSession(middlewares=[breaks]) as session,
        make_client(server.url, session=session) as client,
    ):
        async with asyncio.timeout(5):
            results = await asyncio.gather(
                client.pods.status("a"), client.pods.status("b"), return_exceptions=True
            )
    assert [type(result) for result in results] == [OddError, OddError]


async def test_cancelling_one_caller_hurts_no_other() -> None:
    """Those who share its request, also for the same pod, get their answers."""
    event = asyncio.Event()
    async with (
        Server(lambda request: Held(event, rows(request))) as server,
        make_client(server.url) as client,
    ):
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


async def test_a_batch_ends_with_its_loop() -> None:
    """When all tasks are cancelled, as at the end of `asyncio.run`, callers of a batch end as cancelled."""
    async with Server(default=Hang()) as server, make_client(server.url) as client:
        before = asyncio.all_tasks()
        call = asyncio.create_task(client.pods.status("a"))
        await settle()
        for task in asyncio.all_tasks() - before - {call}:
            if "read_together" in repr(task):
                task.cancel()
        await asyncio.wait([call], timeout=5)
        assert call.cancelled()


async def test_a_batch_is_of_no_callers_context() -> None:
    """What is sent for many runs in an empty context: its spans do not land at whoever came first."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []

    async def note(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        seen.append(who.get())
        return await handler(request)

    async with (
        Server(rows) as server,
        aiohttp.ClientSession(middlewares=[note]) as session,
        make_client(server.url, session=session) as client,
    ):
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
            async with asyncio.timeout(5):
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


async def test_status_of_real_pods() -> None:
    """Against the emulator: a fleet's rows, a pod that is gone, and one that never was."""
    async with (
        Emulator(pods=30, seed=2, boot_seconds=0, delete_seconds=0) as emu,
        make_client(emu.url, api_key=emu.api_key) as client,
    ):
        ids = list(emu.pods)
        emu.delete_pod(ids[7])
        statuses = await client.pods.statuses([*ids, "0" * 32])
        assert list(statuses) == [pod_id for pod_id in ids if pod_id != ids[7]]
        assert statuses.missing == (ids[7], "0" * 32)
        with pytest.raises(primepods.NotFoundError, match="history"):
            await client.pods.status(ids[7])


async def test_lost_rows_are_no_proof_in_a_part_of_a_batch_either() -> None:
    """What is found when a failing batch is searched is asked for twice before it is missing, too."""
    lost: list[str] = []

    def answer(request: Received) -> Answer:
        ids = request.values("pod_ids")
        if "p0" in ids:
            return Reply(500)
        if "p3" in ids and not lost:
            lost.extend(ids)
            return reply({"data": []})
        return reply({"data": [{"podId": pod_id, "providerType": "x", "status": "ACTIVE"} for pod_id in ids]})

    async with Server(answer) as server, make_client(server.url, clock=ManualClock(auto=True)) as client:
        statuses = await client.pods.statuses(["p0", "p1", "p2", "p3"])
    assert lost
    assert statuses.missing == ()
    assert set(statuses) == {"p1", "p2", "p3"}
    assert list(statuses.errors) == ["p0"]
