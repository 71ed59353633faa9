"""One poller for all who wait: who shares it."""

import asyncio
import gc
from typing import Any

import aiohttp
import pytest

import primepods
from tests.support.client import KEY, make_client
from tests.support.clock import ManualClock
from tests.waiting.fleet import Fleet, Stage


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
async def test_other_settings_have_another_poller(stage: Stage, fleet: Fleet, other: dict[str, Any]) -> None:
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


async def test_other_retries_have_no_other_poller(stage: Stage, fleet: Fleet) -> None:
    """The poller does not retry, so views and clients with other retries and deadlines share it."""
    fleet.add(3)
    client = stage.client()
    view = client.with_options(deadline=3, retry=primepods.RetryPolicy(attempts=9))
    other = stage.client(deadline=4, retry=primepods.RetryPolicy(attempts=1))
    for n, each in enumerate((client, view, other)):
        stage.start(each.pods.wait_ready(f"pod0000{n}"))
    await stage.advance(1)
    assert fleet.sizes == [3]


async def test_another_session_has_another_poller(stage: Stage, fleet: Fleet) -> None:
    """Clients on the same session share a poller that uses it and leaves it open; others have another."""
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


async def test_another_loop_has_another_poller(stage: Stage, fleet: Fleet) -> None:
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
