"""Listing pods and history over real sockets, from servers that lag, miscount, and break their answers."""

import threading
from random import Random
from typing import Any

import anyio
import pytest

import primepods
from primepods import AsyncPager, ProtocolError, RetryPolicy
from primepods.emulator import Emulator
from tests.support.client import make_client
from tests.support.server import Answer, Received, Reply, Server, reply

PODS: list[dict[str, Any]] = [
    {"id": f"p{n}", "gpuName": "H100", "gpuCount": 1, "priceHr": 1.0, "providerType": "x"} for n in range(500)
]
IDS = [str(pod["id"]) for pod in PODS]
RECORDS: list[dict[str, Any]] = [
    {**pod, "name": "n", "type": "Instance", "createdAt": "2026-11-07T05:31:56Z", "totalBilledPrice": 1.0}
    for pod in PODS
]


def page(request: Received, rows: list[Any], *, total: int | None = None, counts: bool = True) -> Reply:
    """The page of some rows that is asked for, with their number unless ``total`` is another."""
    offset, limit = (int(request.values(name)[0]) for name in ("offset", "limit"))
    return reply(
        {
            "total_count": len(rows) if total is None and counts else total,
            "offset": offset,
            "limit": limit,
            "data": rows[offset : offset + limit],
        }
    )


async def listed(items: AsyncPager[Any]) -> tuple[list[str], Any]:
    """The ids that are listed, and the error that the list ends with."""
    found, error = await items.collect()
    return [item.id for item in found], error


@pytest.mark.parametrize("page_size", [7, 100, 1_000])
@pytest.mark.parametrize("rows", [0, 1, 2, 300, 301])
async def test_a_count_beyond_the_rows_is_told_with_both_numbers(rows: int, page_size: int) -> None:
    """A server that counts 500 and shows fewer is asked again; then it is told, behind all that came."""
    async with Server(lambda request: page(request, PODS[:rows], total=500)) as server:
        async with make_client(server.url, max_concurrency=1) as client:
            found, error = await listed(client.pods.list(page_size=page_size))
        assert found == IDS[:rows]
        assert error is not None
        assert f"GET /api/v1/pods/: the API counts 500 rows, but returned only {rows}," in str(error)
        assert sum(request.values("offset") == [str(max(0, rows - 1))] for request in server.requests) >= 3
        assert len(server.requests) <= 8 + rows // page_size


@pytest.mark.parametrize("is_stated_once", [False, True])
async def test_a_count_that_was_stated_is_not_forgotten(*, is_stated_once: bool) -> None:
    """A server counts 500 in its first answer only, or now 350 and now 500: the lower one is not believed."""

    def answer(request: Received) -> Answer:
        if is_stated_once:
            return page(request, PODS[:350], total=500 if request.number == 0 else None, counts=False)
        is_short = request.number > 2
        total = 350 if is_short and request.number % 2 else 500
        return page(request, PODS[:350] if is_short else PODS, total=total)

    async with Server(answer) as server, make_client(server.url, max_concurrency=1) as client:
        found, error = await listed(client.pods.list())
        assert found == IDS[:350]
        assert "counts 500 rows, but returned only 350," in str(error)


async def test_a_count_that_fell_is_believed_when_it_stays() -> None:
    """Pods that are deleted while one lists make the count fall: the end is asked for twice more."""

    def answer(request: Received) -> Answer:
        return page(request, PODS if request.number < 3 else PODS[:350])

    async with Server(answer) as server, make_client(server.url, max_concurrency=1) as client:
        assert await listed(client.pods.list()) == (IDS[:350], None)
        assert len(server.requests) <= 7


BAD_ROWS: list[Any] = [{**PODS[n], "gpuCount": "many"} for n in (2, 103)]
BAD_ROWS += [{**PODS[103], "id": None}, {}, 17, None, [], "p103"]


@pytest.mark.parametrize("bad", BAD_ROWS)
@pytest.mark.parametrize("page_size", [1, 3, 100])
async def test_a_row_that_cannot_be_read_hides_no_other(bad: object, page_size: int) -> None:
    """All other pods are listed; then the error says where the row stands, unless its pod was read before."""
    rows = [*PODS[:3], bad, *PODS[4:5], bad, bad, *PODS[7:20]]
    async with Server(lambda request: page(request, rows)) as server, make_client(server.url) as client:
        found, error = await listed(client.pods.list(page_size=page_size))
        assert found == [*IDS[:3], *IDS[4:5], *IDS[7:20]]
        if bad == BAD_ROWS[0]:
            assert error is None
            return
        assert error is not None
        assert error.path.startswith("data[")
        assert server.requests[0].path == error.url_path


async def test_rows_without_an_id_are_told_apart() -> None:
    """A row without an id is told from others by what it holds: here, one moves to where another stood."""
    one, other = ({**PODS[0], "id": None, "name": name} for name in ("one", "other"))
    rows: list[Any] = [PODS[0], one, PODS[2], other, PODS[4]]

    def answer(request: Received) -> Answer:
        return page(request, rows if request.number == 0 else rows[2:])

    async with Server(answer) as server, make_client(server.url) as client:
        found, error = await listed(client.pods.list(page_size=1))
        assert found == [IDS[0], IDS[2], IDS[4]]
        assert error is not None


async def test_single_pages_and_history_tell_the_place_of_a_row() -> None:
    """`page` and `history_page` raise; `history` yields all others first."""
    rows: list[Any] = [*RECORDS[:3], {**RECORDS[3], "gpuCount": "many"}, *RECORDS[4:6]]
    async with Server(lambda request: page(request, rows)) as server, make_client(server.url) as client:
        for method in (client.pods.page, client.pods.history_page):
            with pytest.raises(ProtocolError, match="gpuCount") as caught:
                await method()
            assert caught.value.path == "data[3].gpuCount"
        found, error = await listed(client.pods.history())
        assert found == [*IDS[:3], *IDS[4:6]]
        assert len(server.requests) == 3
        assert error is not None
        assert error.path == "data[3].gpuCount"


async def test_1234_pods_take_13_requests_and_no_redirect() -> None:
    """What the issue asks for, read off the emulator's own log."""
    async with Emulator(pods=1_234, seed=4) as emu, make_client(emu.url, api_key=emu.api_key) as client:
        pods = [pod async for pod in client.pods.list()]
        assert len(pods) == len({pod.id for pod in pods}) == 1_234
        assert [entry.status for entry in emu.requests] == [200] * 13
        assert {entry.path for entry in emu.requests} == {"/api/v1/pods/"}
        assert max(entry.concurrency for entry in emu.requests) > 1


@pytest.mark.parametrize("page_size", [3, 20, 100])
async def test_pods_that_last_are_found_while_others_come_and_go(page_size: int) -> None:
    """Pods are born and vanish between the requests of a listing: those that stay come exactly once."""
    random = Random(page_size)
    async with Emulator(pods=300, seed=5) as emu, make_client(emu.url, api_key=emu.api_key) as client:
        at_first = set(emu.pods)
        found: list[str] = []
        async for pod in client.pods.list(page_size=page_size):
            found.append(pod.id)
            if random.random() < 0.2:
                emu.delete_pod(random.choice(list(emu.pods)))
            if random.random() < 0.1:
                emu.add_pod()
        lasting = at_first & set(emu.pods)
    assert len(found) == len(set(found))
    assert lasting <= set(found)
    assert len(lasting) < 300


@pytest.mark.parametrize("bad", [{"id": "odd"}, None], ids=["no other field", "no row"])
@pytest.mark.parametrize(("others", "expected"), [(PODS[:150], ["p1", "p140"]), ([], [])])
async def test_what_is_looked_for_is_found_beside_unreadable_rows(
    others: list[Any], expected: list[str], bad: object
) -> None:
    """The error about them is returned, and not raised, also where there is no other row."""
    rows = [*others[:3], bad, *others[3:]]
    async with Server(lambda request: page(request, rows)) as server, make_client(server.url) as client:
        found, error = await client.pods.list().find(lambda pod: pod.id in {"p1", "p140", "p160"})
        sync_found, sync_error = await anyio.to_thread.run_sync(find_blocking, server.url)
    assert [pod.id for pod in found] == [pod.id for pod in sync_found] == expected
    assert isinstance(error, ProtocolError)
    assert str(sync_error) == str(error)


def find_blocking(url: str) -> tuple[list[primepods.Pod], ProtocolError | None]:
    """The same with the blocking client; the predicate runs in the caller's thread."""
    caller = threading.get_ident()

    def is_wanted(pod: primepods.Pod) -> bool:
        assert threading.get_ident() == caller
        return pod.id in {"p1", "p140", "p160"}

    with primepods.Client("k", base_url=url) as client:
        return client.pods.list().find(is_wanted)


@pytest.mark.parametrize("rest", [reply({"detail": "no"}, 403), Reply(200, b"<html>"), reply({"x": 1})])
@pytest.mark.parametrize(
    "first", [reply({"total_count": 150, "data": PODS[:100]}), None], ids=["a page", "none"]
)
async def test_what_was_looked_for_in_a_part_is_not_missing(first: Reply | None, rest: Reply) -> None:
    """A list that cannot be read to its end is an error: what is looked for may be in the rest."""

    def answer(request: Received) -> Answer:
        return first if first is not None and request.values("offset") == ["0"] else rest

    async with Server(answer) as server, make_client(server.url, retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(primepods.PrimePodsError):
            await client.pods.list().find(lambda pod: pod.id == "p1")
