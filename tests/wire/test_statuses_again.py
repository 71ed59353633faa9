"""Statuses asked for again: an answer that is the last one to the byte is not parsed; all else is as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import make_client
from tests.support.server import Answer, Received, Server, reply

pytestmark = pytest.mark.anyio

IDS = [f"{number:032x}" for number in range(250)]


def rows(request: Received, status: Callable[[str], str] = lambda _: "ACTIVE", **fields: Any) -> Answer:
    """A row for each id that is asked for."""
    ids = request.values("pod_ids")
    return reply({"data": [{"podId": pod_id, "status": status(pod_id), **fields} for pod_id in ids]})


async def test_an_unchanged_answer_gives_the_rows_of_the_last_one() -> None:
    """Each request is sent, but its answer is read once."""
    async with Server(rows) as server, make_client(server.url) as client:
        first = await client.pods.statuses(IDS)
        again = await client.pods.statuses(IDS)
        assert len(server.targets) == 6
    assert list(first) == list(again) == IDS
    assert all(first[pod_id] is again[pod_id] for pod_id in IDS)


async def test_a_change_is_seen_at_once() -> None:
    """In the request that it is in; and so is the way back."""
    stopped: set[str] = set()

    def answer(request: Received) -> Answer:
        return rows(request, lambda pod_id: "STOPPED" if pod_id in stopped else "ACTIVE")

    async with Server(answer) as server, make_client(server.url) as client:
        await client.pods.statuses(IDS)
        for changed in ({IDS[120]}, set[str](), {IDS[3], IDS[240]}):
            stopped.clear()
            stopped.update(changed)
            statuses = await client.pods.statuses(IDS)
            assert {pod_id for pod_id, row in statuses.items() if row.status == "STOPPED"} == changed


async def test_other_ids_are_another_question() -> None:
    """Neither a part of the ids nor another order gets an answer that was given to others."""
    async with Server(rows) as server, make_client(server.url) as client:
        for ids in (IDS[:3], IDS[:2], IDS[2::-1], IDS[:3]):
            statuses = await client.pods.statuses(ids)
            assert list(statuses) == ids
            assert not statuses.missing


async def test_a_row_that_cannot_be_read_is_an_error_each_time() -> None:
    """Said again, it is refused again, with an error of each caller's own."""
    async with (
        Server(lambda request: rows(request, costPerHr={})) as server,
        make_client(server.url) as client,
    ):
        results = [await client.pods.statuses(IDS[:2]) for _ in range(3)]
    errors = [error for result in results for error in result.errors.values()]
    assert [list(result.errors) for result in results] == [IDS[:2]] * 3
    assert len({id(error) for error in errors}) == 6
    assert all("costPerHr" in str(error) for error in errors)


async def test_missing_rows_are_asked_for_twice_each_time() -> None:
    """That nothing is there has to be said twice, also when it was said before."""
    async with Server(lambda _: reply({"data": []})) as server, make_client(server.url) as client:
        for _ in range(2):
            assert (await client.pods.statuses(IDS[:2])).missing == tuple(IDS[:2])
        assert len(server.targets) == 4


async def test_calls_at_the_same_time_share_what_is_known() -> None:
    """Whatever the order of their answers: equal bytes are equal rows."""
    async with Server(rows) as server, make_client(server.url) as client:
        first = await client.pods.statuses(IDS[:100])
        results = await asyncio.gather(*(client.pods.statuses(IDS[:100]) for _ in range(20)))
    assert all(result[pod_id] is first[pod_id] for result in results for pod_id in IDS[:100])


async def test_a_client_s_views_remember_for_themselves() -> None:
    """With other limits the same questions are asked anew."""
    async with Server(rows) as server, make_client(server.url) as client:
        first = await client.pods.statuses(IDS[:1])
        again = await client.with_options(timeout=5).pods.statuses(IDS[:1])
    assert first[IDS[0]] is not again[IDS[0]]
