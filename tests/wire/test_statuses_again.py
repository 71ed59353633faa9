"""Statuses asked for again: an answer that is the last one to the byte is not parsed; all else is as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import make_client, serve
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


async def test_a_row_that_cannot_be_read_is_an_error_each_time() -> None:
    """Said again, it is refused again, with an error of each caller's own."""
    async with serve(lambda request: rows(request, costPerHr={})) as (_server, client):
        results = [await client.pods.statuses(IDS[:2]) for _ in range(3)]
    errors = [error for result in results for error in result.errors.values()]
    assert [list(result.errors) for result in results] == [IDS[:2]] * 3
    assert len({id(error) for error in errors}) == 6
    assert all("costPerHr" in str(error) for error in errors)
