"""Statuses: any number of ids in as few requests as will do, and every id's own outcome."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import primepods
from primepods import PodState
from tests.support.client import make_client, serve
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Close, Hang, Held, Received, Reply, Server, reply
from tests.wire.statuses import STATUS, ids_of, refusing, row, rows


async def test_the_answer_is_in_the_order_asked() -> None:
    """A mapping in the caller's order, whatever the server's; duplicates once; the rest in `.missing`."""
    async with serve(lambda request: rows(request, missing={"b"})) as (server, client):
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


async def test_1234_ids_take_13_requests_at_once() -> None:
    """A hundred ids a request, within the bound of the client, in one wave."""
    event = asyncio.Event()
    ids = ids_of(1_234)
    async with serve(lambda request: Held(event, rows(request))) as (server, client):
        task = asyncio.create_task(client.pods.statuses(ids))
        await settle()
        assert server.in_flight == 13
        event.set()
        statuses = await task
    assert list(statuses) == ids
    assert sorted(len(request.values("pod_ids")) for request in server.requests) == [34] + [100] * 12


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


@settings(max_examples=20)
@given(
    count=st.integers(1, 130),
    bad=st.sets(st.integers(0, 129), max_size=12),
    most=st.sampled_from([100, 40, 3]),
)
async def test_every_id_has_its_own_outcome(count: int, bad: set[int], most: int) -> None:
    """Whatever is refused: rows and errors are those that they should be, or it is said at once."""
    ids = ids_of(count)
    refused = {ids[n] for n in bad if n < count}
    async with serve(refusing(refused, most=most), max_concurrency=2) as (server, client):
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


async def test_other_errors_end_the_whole_call() -> None:
    """What is not about an id is raised as it is; requests that are still under way end with it."""
    ids = ids_of(300)
    all_arrived = asyncio.Event()

    def answer(request: Received) -> Answer:
        if request.number == 2:
            all_arrived.set()
        if ids[150] in request.values("pod_ids"):
            return Held(all_arrived, reply({"detail": "who are you?"}, 401))
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


async def test_rows_that_nobody_asked_for_are_dropped() -> None:
    """Whoever answers for other pods does not smuggle them in; of doubles one counts."""
    data = [row("evil"), row("a"), row("evil"), row("b", "PENDING"), row("a", "ERROR")]
    async with Server(default=reply({"data": data})) as server, make_client(server.url) as client:
        statuses = await client.pods.statuses(["a", "b", "c"])
    assert list(statuses) == ["a", "b"]
    assert statuses.missing == ("c",)


async def test_rows_that_a_replica_lost_are_asked_for_again() -> None:
    """That a request has no rows at all is believed only when it is said twice."""
    rows_of_both = reply({"data": [row("a"), row("b")]})
    async with Server() as server, make_client(server.url) as client:
        for lost in ([], None, [row("of another")]):
            server.script(reply({"data": lost}), rows_of_both)
            assert list(await client.pods.statuses(["a", "b"])) == ["a", "b"]
            server.script(reply({"data": lost}), rows_of_both)
            assert (await client.pods.status("a")).pod_id == "a"


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
    async with serve(default=reply({"data": [row("a"), unknown]})) as (_server, client):
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

    def script(request: Received) -> Answer:
        return answer if poison & set(request.values("pod_ids")) else rows(request)

    async with serve(script, clock=ManualClock(auto=True)) as (server, client):
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
    async with serve(default=answer, clock=ManualClock(auto=True)) as (server, client):
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


async def test_an_unchanged_answer_gives_the_rows_of_the_last_one() -> None:
    """Each request is sent, but its answer is read once."""
    ids = ids_of(250)
    async with Server(rows) as server, make_client(server.url) as client:
        first = await client.pods.statuses(ids)
        again = await client.pods.statuses(ids)
        assert len(server.targets) == 6
    assert list(first) == list(again) == ids
    assert all(first[pod_id] is again[pod_id] for pod_id in ids)


async def test_a_change_is_seen_at_once() -> None:
    """In the request that it is in; and so is the way back."""
    ids, stopped = ids_of(250), set[str]()

    def answer(request: Received) -> Answer:
        asked = request.values("pod_ids")
        return reply(
            {"data": [row(pod_id, "STOPPED" if pod_id in stopped else "ACTIVE") for pod_id in asked]}
        )

    async with Server(answer) as server, make_client(server.url) as client:
        for changed in (set[str](), {ids[120]}, set[str](), {ids[3], ids[240]}):
            stopped.clear()
            stopped.update(changed)
            statuses = await client.pods.statuses(ids)
            assert {pod_id for pod_id, row in statuses.items() if row.status == "STOPPED"} == changed


async def test_an_unreadable_row_is_an_error_each_time() -> None:
    """Said again, it is refused again, with an error of each caller's own."""
    data: list[dict[str, object]] = [row(pod_id) | {"costPerHr": {}} for pod_id in "ab"]
    async with serve(default=reply({"data": data})) as (_server, client):
        results = [await client.pods.statuses(["a", "b"]) for _ in range(3)]
    errors = [error for result in results for error in result.errors.values()]
    assert [list(result.errors) for result in results] == [["a", "b"]] * 3
    assert len({id(error) for error in errors}) == 6
    assert all("costPerHr" in str(error) for error in errors)
