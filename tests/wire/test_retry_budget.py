"""How many retries there are in all: an API that is down is not stormed, a rate limit is waited out."""

import asyncio
from random import Random

import pytest

import primepods
from primepods import RetryPolicy
from tests.support.client import make_client, serve
from tests.support.clock import ManualClock
from tests.support.server import Answer, Received, Reply, Server, reply

PATH = "/api/v1/things"
OK = reply({"ok": True})


async def test_an_api_that_is_down_is_not_stormed() -> None:
    """All callers share a budget of retries; used up, that is said; the last twenty are for deletions."""
    clock = ManualClock()
    down = True

    def answer(request: Received) -> Answer:
        return Reply(503) if down else OK

    policy = RetryPolicy(base_delay=0)
    async with Server(answer) as server, make_client(server.url, clock=clock, retry=policy) as client:
        view = client.with_options(timeout=5)

        async def ask(method: str, *callers: primepods.AsyncClient) -> tuple[int, list[str]]:
            before = len(server.requests)
            calls = [caller.request(method, PATH) for caller in callers]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            notes = ["".join(getattr(error, "__notes__", [])) for error in errors]
            return len(server.requests) - before, notes

        requests, notes = await ask("GET", *[client, view] * 50)
        assert requests == 100 + 80
        assert len([note for note in notes if "retry budget is used up" in note]) >= 50
        assert (await ask("GET", client))[0] == 1
        assert (await ask("DELETE", client))[0] == 5
        await clock.advance(4)
        assert (await ask("GET", client))[0] == 1
        await clock.advance(10)
        assert (await ask("GET", client))[0] == 1 + 4
        down = False
        for _ in range(30):
            await client.request("GET", PATH)
        down = True
        assert (await ask("GET", client))[0] == 1 + 4


async def test_a_deletion_is_repeated_though_the_budget_is_gone() -> None:
    """Thirty GETs that failed must not leave a pod running because of one 503."""
    clock = ManualClock(auto=True, chance=0.0)

    def answer(request: Received) -> Answer:
        if request.method == "GET" or len([one for one in server.requests if one.method == "DELETE"]) < 2:
            return Reply(503)
        return reply({"status": "DELETING", "id": "a"})

    async with Server(answer) as server, make_client(server.url, clock=clock) as client:
        await asyncio.gather(*[client.request("GET", PATH) for _ in range(30)], return_exceptions=True)
        assert len(server.requests) == 30 + 80
        assert await client.pods.delete("a") == "DELETING"


@pytest.mark.parametrize("retry_after", [None, "1"])
async def test_what_is_rate_limited_is_repeated_until_the_deadline(retry_after: str | None) -> None:
    """A 429 says that all together ask too much: it counts as no attempt, and costs no budget."""
    clock = ManualClock(auto=True, chance=0.0)
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    limit = reply({"detail": "slow down"}, 429, headers=headers)
    async with serve([limit] * 8 + [OK], clock=clock) as (server, client):
        while client._executor.transport.budget.take("GET"):
            pass
        assert await client.request("GET", PATH) == {"ok": True}
    async with Server(default=limit) as server, make_client(server.url, clock=clock, deadline=30) as client:
        started = clock.elapsed
        with pytest.raises(primepods.RateLimitError) as caught:
            await client.request("GET", PATH)
        assert caught.value.attempts == len(server.requests) > 5
        assert "would pass the deadline" in caught.value.__notes__[0]
        assert 10 < clock.elapsed - started < 30
        with pytest.raises(primepods.RateLimitError) as caught:
            await client.with_options(retry=RetryPolicy(attempts=1)).request("GET", PATH)
        assert caught.value.attempts == 1


async def test_hundreds_of_deletions_get_through_a_rate_limit() -> None:
    """300 pods, 20 requests a second, 429s without a word on when to come back: none is left."""
    clock = ManualClock(auto=True, chance=Random(1))
    deleted: set[str] = set()
    served: dict[int, int] = {}

    def answer(request: Received) -> Answer:
        second = int(clock.elapsed)
        served[second] = served.get(second, 0) + 1
        if served[second] > 20:
            return Reply(429)
        deleted.add(request.path)
        return reply({"status": "DELETING", "id": request.path.rpartition("/")[2]})

    async with Server(answer) as server, make_client(server.url, clock=clock) as client:
        deletions = await client.pods.delete_many([f"pod{n}" for n in range(300)])
    assert not deletions.errors
    assert len(deleted) == len(deletions) == 300
    assert 14 <= clock.elapsed < 60


async def test_an_order_that_was_rate_limited_is_sent_again() -> None:
    """A 429 says that nothing was ordered: the order goes out again, and after it a lost response ends it."""
    clock = ManualClock(auto=True, chance=0.5)
    limit = reply({"detail": "slow down"}, 429, headers={"Retry-After": "3"})
    async with Server([limit, limit, OK]) as server, make_client(server.url, clock=clock) as client:
        assert await client.request("POST", PATH, json={}) == {"ok": True}
        assert len(server.requests) == 3
        assert clock.elapsed > 6
    async with Server([limit, Reply(503), OK]) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.ServerError):
            await client.request("POST", PATH, json={})
        assert len(server.requests) == 2


async def test_all_calls_of_a_key_keep_to_the_rate_that_one_has_learned() -> None:
    """After a second 429 within a minute, calls wait for turns, and fail unsent if none comes in time."""
    clock = ManualClock(auto=True, chance=0.5)
    limit = reply({"detail": "slow down"}, 429, headers={"Retry-After": "20"})
    async with (
        Server([limit, limit], default=OK) as server,
        make_client(server.url, clock=clock, retry=RetryPolicy(attempts=1)) as client,
        make_client(server.url, clock=clock, deadline=5) as other,
    ):
        for _ in range(2):
            with pytest.raises(primepods.RateLimitError):
                await client.request("GET", PATH)
            await clock.advance(21)
        begun = clock.elapsed
        await asyncio.gather(*[client.request("GET", PATH) for _ in range(10)])
        assert 5 < clock.elapsed - begun < 12  # a request a second, and more with each that succeeds
        waiting = [asyncio.create_task(client.request("GET", PATH)) for _ in range(300)]
        await asyncio.sleep(0)
        with pytest.raises(primepods.RequestTimeoutError, match="rate limit did not allow the request"):
            await other.request("GET", PATH)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_order_whose_turn_comes_late_is_not_sent() -> None:
    """With less than a quarter of its deadline left: its response would come too late."""
    clock = ManualClock(auto=True, chance=0.5)
    limit = reply({"detail": "slow down"}, 429, headers={"Retry-After": "20"})
    sent_at: list[float] = []

    async def order(client: primepods.AsyncClient) -> None:
        begun = clock.elapsed
        await client.request("POST", PATH, json={})
        sent_at.append(clock.elapsed - begun)

    async with (
        Server([limit, limit], default=OK) as server,
        make_client(server.url, clock=clock, deadline=20, retry=RetryPolicy(attempts=1)) as client,
    ):
        for _ in range(2):
            with pytest.raises(primepods.RateLimitError):
                await client.request("GET", PATH)
            await clock.advance(21)
        ended = await asyncio.gather(*[order(client) for _ in range(50)], return_exceptions=True)
        assert len(server.requests) == 2 + len(sent_at)
    assert max(sent_at) < 16
    unsent = [error for error in ended if isinstance(error, primepods.RequestTimeoutError)]
    assert len(unsent) == 50 - len(sent_at)
    assert not any(error.maybe_received for error in unsent)
