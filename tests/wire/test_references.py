"""A pod, its status or a leased pod where an id is meant, on both clients."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

import primepods
from primepods import Pod, PodChange, PodRef, PodState
from primepods.emulator import Emulator


@pytest.fixture
def emu() -> Any:
    """Three pods that are ready."""
    with Emulator(pods=3, boot_seconds=0, delete_seconds=0) as emulator:
        yield emulator


@pytest.fixture
async def client(emu: Emulator) -> AsyncIterator[primepods.AsyncClient]:
    """A client of it."""
    async with primepods.AsyncClient(api_key=emu.api_key, base_url=emu.url) as made:
        yield made


async def test_one_pod_is_accepted_where_its_id_is(client: primepods.AsyncClient) -> None:
    """Each call about one pod asks for the pod that is passed, as itself or as its status."""
    [pod, other, _] = await client.pods.page()
    status = await client.pods.status(pod)
    assert status.pod_id == pod.id == pod.pod_id
    for ref in (pod, status, pod.id):
        assert (await client.pods.get(ref)).id == pod.id
        assert (await client.pods.status(ref)).pod_id == pod.id
        assert (await client.pods.wait_ready(ref)).pod_id == pod.id
        assert await client.pods.logs(ref) == await client.pods.logs(pod.id)
    assert await client.pods.delete(status) in {PodState.DELETING, PodState.TERMINATED}
    await client.pods.wait_gone(pod, interval=0.05)
    assert {left.id async for left in client.pods.list()}.isdisjoint({pod.id})
    assert (await client.pods.get(other)).id == other.id


async def test_many_pods_are_accepted_where_ids_are(client: primepods.AsyncClient) -> None:
    """A page, a list of all kinds mixed, statuses: each pod once, in the order asked."""
    page = await client.pods.page()
    ids = [pod.id for pod in page]
    statuses = await client.pods.statuses(page)
    assert list(statuses) == ids
    mixed: list[PodRef] = [page[0], ids[0], statuses[ids[0]], *page[1:]]
    assert list(await client.pods.statuses(mixed)) == ids
    assert list(await client.pods.wait(statuses, interval=0.05)) == ids
    seen: list[PodChange] = []
    async with client.pods.watch(page, interval=0.05) as watch:
        async for change in watch:
            seen.append(change)
            if len(seen) == 3:
                break
    assert {change.pod_id for change in seen} == set(ids)
    assert list(await client.pods.delete_many(page[:2])) == ids[:2]


async def test_a_leased_pod_is_accepted(client: primepods.AsyncClient) -> None:
    """The pod of a lease, while it runs."""
    offer = await client.availability.cheapest(gpu_count=1)
    async with client.pods.lease(primepods.PodSpec.from_offer(offer), interval=0.05) as leased:
        assert leased.pod_id == leased.id
        assert (await client.pods.get(leased)).id == leased.id
        assert list(await client.pods.statuses([leased])) == [leased.id]


async def test_what_stands_for_no_one_pod_is_refused(client: primepods.AsyncClient, emu: Emulator) -> None:
    """A single pod where many are meant, a page where one is, a change, a pod without id; nothing is sent."""
    page = await client.pods.page()
    pod = page[0]
    change = PodChange(pod_id=pod.id, before=None, after=None)
    nameless = Pod(id="", gpu_name="g", gpu_count=1, price_hr=1.0, provider_type="p")
    sent = len(emu.requests)
    one: Any
    for one in (page, change, None, [pod]):
        with pytest.raises(TypeError, match=r"^pod_id must be"):
            await client.pods.delete(one)
    with pytest.raises(ValueError, match=r"^pod_id is empty"):
        await client.pods.delete(nameless)
    many: Any
    for many in (pod, pod.id):
        with pytest.raises(TypeError, match=r"use \[pod_id\]$"):
            await client.pods.delete_many(many)
    with pytest.raises(TypeError, match=r"^pod_ids\[1\] must be"):
        await client.pods.delete_many([pod, change])  # type: ignore[list-item]  # wrong on purpose
    with pytest.raises(ValueError, match=r"^pod_ids\[1\] is empty"):
        await client.pods.statuses([pod, nameless])
    key: Any = pod
    with pytest.raises(TypeError, match=r"^key_id must be a string"):
        await client.ssh_keys.delete(key)
    assert len(emu.requests) == sent
