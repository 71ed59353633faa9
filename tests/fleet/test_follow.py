"""Keeping up with the pods of an account."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import primepods
from primepods import AsyncClient, Pod
from primepods.emulator import Emulator, Status
from primepods.fleet import Fleet, follow

pytestmark = pytest.mark.anyio


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
async def following(client: AsyncClient, fleet: Fleet, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Follow while the block runs."""
    task = asyncio.create_task(follow(client, fleet, interval=0.05, **options))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - a fleet is polled by those who show it
            await asyncio.sleep(0.01)


async def test_new_pods_join_and_deleted_ones_go(emulator: Emulator, client: AsyncClient) -> None:
    """The whole account, whatever comes and goes."""
    fleet = Fleet()
    async with following(client, fleet):
        await until(lambda: fleet.counts == {"ready": 3})
        added = emulator.add_pod("newcomer")
        await until(lambda: fleet.counts == {"ready": 4})
        await client.pods.delete(added)
        await until(lambda: fleet.counts == {"ready": 3, "gone": 1})
    assert [pod.name for pod in fleet.pods()][-1] == "newcomer"


async def test_only_those_wanted(emulator: Emulator, client: AsyncClient) -> None:
    """A filter holds for newcomers, too."""

    def wanted(pod: Pod) -> bool:
        return (pod.name or "").startswith("mine")

    emulator.add_pod("mine-1")
    fleet = Fleet()
    async with following(client, fleet, wanted=wanted):
        await until(lambda: fleet.counts == {"ready": 1})
        emulator.add_pod("other")
        emulator.add_pod("mine-2")
        await until(lambda: fleet.counts == {"ready": 2})


async def test_named_ones_until_all_are_gone(emulator: Emulator, client: AsyncClient) -> None:
    """It ends by itself; the list has told their names."""
    first, second, _ = emulator.pods
    fleet = Fleet()
    async with following(client, fleet, pod_ids=[first, second]) as task:
        await until(lambda: fleet.counts == {"ready": 2})
        await client.pods.delete_many([first, second])
        await task
    assert fleet.counts == {"gone": 2}
    assert all(pod.pod is not None for pod in fleet.pods())


async def test_an_empty_account_is_followed(emulator: Emulator, client: AsyncClient) -> None:
    """The first pod may be yet to come."""
    for pod_id in list(emulator.pods):
        emulator.delete_pod(pod_id)
    fleet = Fleet()
    async with following(client, fleet):
        await until(lambda: fleet.listed)
        assert fleet.version == 1
        emulator.add_pod()
        await until(lambda: fleet.counts == {"ready": 1})


async def test_a_list_that_fails_for_a_while(
    emulator: Emulator, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Said as long as it lasts, and logged once; the pods known are looked at meanwhile."""
    fleet = Fleet()
    async with following(client, fleet):
        await until(lambda: fleet.counts == {"ready": 3})
        emulator.faults.add(Status(503), on="list", times=2)
        await until(lambda: fleet.trouble)
        assert isinstance(fleet.trouble, primepods.ServerError)
        await until(lambda: fleet.trouble is None)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "the list cannot be read in full: GET /api/v1/pods/: 503" in caplog.text
        emulator.add_pod()
        await until(lambda: fleet.counts == {"ready": 4})


async def test_a_row_that_cannot_be_read_hides_no_other(emulator: Emulator, client: AsyncClient) -> None:
    """From the beginning, and as long as it is there."""
    emulator.add_pod(id="bad", pod_fields={"gpuCount": "many"})
    fleet = Fleet()
    async with following(client, fleet):
        await until(lambda: fleet.counts == {"ready": 3})
        assert isinstance(fleet.trouble, primepods.ProtocolError)
        emulator.add_pod()
        await until(lambda: fleet.counts == {"ready": 4})
        emulator.delete_pod("bad")
        await until(lambda: fleet.trouble is None)


async def test_a_list_that_is_refused(emulator: Emulator, client: AsyncClient) -> None:
    """Ends it, at the beginning and later, and leaves no task behind."""
    fleet = Fleet()
    async with following(client, fleet) as task:
        await until(lambda: fleet.counts == {"ready": 3})
        emulator.faults.add(Status(403), on="list")
        with pytest.raises(primepods.PermissionDeniedError):
            await task
        with pytest.raises(primepods.PermissionDeniedError):
            await follow(client, Fleet())
    left = [repr(task) for task in asyncio.all_tasks() if "primepods/fleet" in repr(task)]
    assert left == []


async def test_a_watch_that_fails(emulator: Emulator, client: AsyncClient) -> None:
    """What ends it for one batch of pods ends it."""
    fleet = Fleet()
    async with following(client, fleet) as task:
        await until(lambda: fleet.counts == {"ready": 3})
        await client.aclose()
        with pytest.raises(primepods.ClientClosedError):
            await task
