"""Keeping up with the pods of an account."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import primepods
from primepods import AsyncClient
from primepods.emulator import Emulator, Status
from primepods.fleet import Fleet, follow
from tests.support.client import make_client
from tests.support.clock import ManualClock
from tests.support.eventually import eventually


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """Three pods that are ready."""
    async with Emulator(pods=3, boot_seconds=0, delete_seconds=0) as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncClient]:
    """A client of it that does not try again."""
    retry = primepods.RetryPolicy(attempts=1)
    async with AsyncClient(emulator.api_key, base_url=emulator.url, retry=retry) as client:
        yield client


@asynccontextmanager
async def following(
    client: AsyncClient, fleet: Fleet, interval: float = 0.05
) -> AsyncIterator[asyncio.Task[None]]:
    """Follow while the block runs."""
    task = asyncio.create_task(follow(client, fleet, interval=interval))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_new_pods_join_and_deleted_ones_go(emulator: Emulator, client: AsyncClient) -> None:
    """The whole account, whatever comes and goes."""
    fleet = Fleet()
    async with following(client, fleet):
        await eventually(lambda: fleet.counts == {"ready": 3})
        added = emulator.add_pod("newcomer")
        await eventually(lambda: fleet.counts == {"ready": 4})
        await client.pods.delete(added)
        await eventually(lambda: fleet.counts == {"ready": 3, "gone": 1})
    assert [pod.name for pod in fleet.pods()][-1] == "newcomer"


async def test_a_fleet_may_have_pods_before(emulator: Emulator, client: AsyncClient) -> None:
    """They are watched, too, as after an error of an earlier call."""
    fleet = Fleet(emulator.pods)
    async with following(client, fleet):
        await eventually(lambda: fleet.counts == {"ready": 3})


async def test_a_fleet_may_have_pods_of_two_accounts(emulator: Emulator, client: AsyncClient) -> None:
    """That one of them does not list a pod says nothing about a pod of the other."""
    fleet, clock = Fleet(), ManualClock(auto=True)
    async with Emulator() as other, make_client(other.url, api_key=other.api_key, clock=clock) as second:
        other.add_pod(id="pod-of-the-other", boot_seconds=0)
        async with following(client, fleet):
            await eventually(lambda: fleet.counts == {"ready": 3})
            async with following(second, fleet, interval=5.0):
                # A pod counts as gone if it has not appeared for a minute.
                ends_at = clock.time() + 120
                await eventually(lambda: clock.time() > ends_at)
                assert fleet.counts == {"ready": 4}


async def test_an_empty_account_is_followed(emulator: Emulator, client: AsyncClient) -> None:
    """The first pod may be yet to come."""
    for pod_id in list(emulator.pods):
        emulator.delete_pod(pod_id)
    fleet = Fleet()
    async with following(client, fleet):
        await eventually(lambda: fleet.listed)
        assert fleet.version == 1
        emulator.add_pod()
        await eventually(lambda: fleet.counts == {"ready": 1})


async def test_a_list_that_fails_for_a_while(
    emulator: Emulator, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Said as long as it lasts, and logged once; the pods known are looked at meanwhile."""
    fleet = Fleet()
    async with following(client, fleet):
        await eventually(lambda: fleet.counts == {"ready": 3})
        emulator.faults.add(Status(503), on="list", times=2)
        await eventually(lambda: fleet.trouble)
        assert isinstance(fleet.trouble, primepods.ServerError)
        await eventually(lambda: fleet.trouble is None)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "the list cannot be read in full: GET /api/v1/pods/: 503" in caplog.text
        emulator.add_pod()
        await eventually(lambda: fleet.counts == {"ready": 4})


async def test_a_row_that_cannot_be_read_hides_no_other(emulator: Emulator, client: AsyncClient) -> None:
    """From the beginning, and as long as it is there."""
    emulator.add_pod(id="bad", pod_fields={"gpuCount": "many"})
    fleet = Fleet()
    async with following(client, fleet):
        await eventually(lambda: fleet.counts == {"ready": 3})
        assert isinstance(fleet.trouble, primepods.ProtocolError)
        emulator.add_pod()
        await eventually(lambda: fleet.counts == {"ready": 4})
        emulator.delete_pod("bad")
        await eventually(lambda: fleet.trouble is None)


async def test_a_list_that_is_refused(emulator: Emulator, client: AsyncClient) -> None:
    """Ends it, at the beginning and later, and leaves no task behind."""
    fleet = Fleet()
    async with following(client, fleet) as task:
        await eventually(lambda: fleet.counts == {"ready": 3})
        emulator.faults.add(Status(403), on="list")
        with pytest.raises(primepods.PermissionDeniedError):
            await task
        with pytest.raises(primepods.PermissionDeniedError):
            await follow(client, Fleet())
    left = [repr(task) for task in asyncio.all_tasks() if "primepods/fleet" in repr(task)]
    assert left == []


@pytest.mark.parametrize("interval", [0, -1.0, "x"])
async def test_a_bad_interval_is_refused(emulator: Emulator, client: AsyncClient, interval: float) -> None:
    """Before a request is sent: an account without pods has no watch that would check it."""
    with pytest.raises((TypeError, ValueError), match="interval must be a"):
        await follow(client, Fleet(), interval=interval)
    assert not emulator.requests


async def test_a_watch_that_fails(emulator: Emulator, client: AsyncClient) -> None:
    """What ends it for one batch of pods ends it."""
    fleet = Fleet()
    async with following(client, fleet) as task:
        await eventually(lambda: fleet.counts == {"ready": 3})
        await client.aclose()
        with pytest.raises(primepods.ClientClosedError):
            await task
