"""Gateways that send orders twice or mix up responses: no pod is forgotten, and nobody else's is deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import attrs
import pytest

import primepods
from primepods.emulator import Delay, Edit, Status
from tests.renting.stage import Stage, stage

pytestmark = pytest.mark.anyio

SOLD_OUT = {"detail": "That machine is sold out"}


def refuse(it: Stage, status: int = 400, *, acted: bool = True) -> None:
    """Refuse one order, and carry it out or not."""
    it.emulator.faults.add(Status(status, acted=acted, body=SOLD_OUT), on="create", times=1)


def lists(it: Stage) -> int:
    """How often the list of pods was read."""
    return len(it.emulator.requests.where(method="GET", path="/api/v1/pods/"))


@pytest.mark.parametrize("status", [400, 402, 404, 409, 422, 429])
async def test_a_refused_order_that_was_carried_out_leaves_no_pod(folder: Path, status: int) -> None:
    """The lease looks once for its unique name before it ends: with an error, or as a lease of that pod."""
    async with stage(folder) as it:
        refuse(it, status)
        if status == 409:
            # A conflict proves nothing: the pod is looked for at once.
            async with it.client.pods.lease(it.spec):
                assert it.running() != []
        else:
            with pytest.raises(primepods.APIError, match=str(status)):
                await it.client.pods.lease(it.spec).__aenter__()
        assert (it.running(), it.records(), it.records(refused=True)) == ([], [], [])


@pytest.mark.parametrize("status", [400, 401])
async def test_a_pod_that_appears_after_the_refusal_is_swept(folder: Path, status: int) -> None:
    """One list without it proves nothing: the file stays for ten minutes, and a sweep looks again."""
    async with stage(folder, appear_seconds=30.0) as it:
        refuse(it, status, acted=status == 400)
        with pytest.raises(primepods.APIError):
            await it.client.pods.lease(it.spec).__aenter__()
        if status == 401:
            # No gateway gets another response to the same key.
            assert it.records(refused=True) == []
            return
        sweep = await it.client.pods.sweep()
        assert (sweep.found, sweep.errors) == ((), {})
        assert "was refused" in sweep.skipped[0].reason
        await it.clock.sleep(30)
        assert len((await it.client.pods.sweep()).deleted) == 1
        assert (it.running(), it.records(refused=True)) == ([], [])


async def test_ten_minutes_after_a_refusal_its_file_goes(folder: Path) -> None:
    """When the whole list lacks the name: with a sweep, or with the next refusal."""
    async with stage(folder) as it:
        for _ in range(2):
            refuse(it, acted=False)
            with pytest.raises(primepods.SoldOutError):
                await it.client.pods.lease(it.spec).__aenter__()
            assert len(it.records(refused=True)) == 1
            await it.clock.sleep(600)
        pod_id = it.emulator.add_pod("broken")
        it.emulator.faults.add(Edit(put={"data.0.gpuCount": []}), on="list", times=1)
        assert len((await it.client.pods.sweep()).skipped) == 1
        assert (await it.client.pods.sweep()).skipped == ()
        assert (it.records(refused=True), it.running()) == ([], [pod_id])


async def test_the_next_spec_does_not_wait_for_the_search(folder: Path) -> None:
    """The list is read beside the block, and the pod of the refused order deleted then."""
    async with stage(folder) as it:
        refuse(it)
        it.emulator.faults.add(Delay(5.0), on="list")
        async with it.client.pods.lease([it.spec, it.spec]) as pod:
            assert lists(it) == 0
            assert len(it.running()) == 2
            await it.clock.sleep(60)
            assert it.running() == [pod.id]
        assert (it.records(), it.records(refused=True)) == ([], [])


async def test_a_pod_that_appears_in_the_block_is_found_at_its_end(folder: Path) -> None:
    """A replica did not show it to the first search."""
    async with stage(folder) as it:
        refuse(it)
        it.emulator.faults.add(Edit(put={"data": [], "total_count": 0}), on="list", times=2)
        async with it.client.pods.lease([it.spec, it.spec]):
            await it.clock.sleep(100)
            assert len(it.running()) == 2
        assert (it.running(), it.records(refused=True)) == ([], [])


async def test_a_proof_is_asked_for_once(folder: Path) -> None:
    """One `get` shows the pod's name, before it is handed over; its deletion needs no other."""
    async with stage(folder) as it:
        async with it.client.pods.lease(it.spec) as pod:
            path = f"/api/v1/pods/{pod.id}"
            assert len(it.emulator.requests.where(method="GET", path=path)) == 1
        # The second confirms a response to the deletion that does not name the pod.
        assert len(it.emulator.requests.where(method="GET", path=path, status=200)) == 2


async def test_a_lease_that_ends_during_the_search_begins_it_again(folder: Path) -> None:
    """Also where the block is over at once."""
    async with stage(folder) as it:
        refuse(it)
        it.emulator.faults.add(Delay(2.0), on="list")
        async with it.client.pods.lease([it.spec, it.spec]):
            pass
        assert (it.running(), it.records(refused=True)) == ([], [])


@pytest.mark.parametrize("answers", [True, False])
async def test_a_refusal_is_told_although_the_list_fails(folder: Path, *, answers: bool) -> None:
    """After ten seconds at most; the files stay, also ten minutes later: no list has proved anything."""
    async with stage(folder) as it:
        it.emulator.faults.add(Status(403) if answers else Delay(300.0), on="list")
        for number in (1, 2):
            refuse(it)
            begun = it.clock.elapsed
            with pytest.raises(primepods.SoldOutError):
                await it.client.pods.lease(it.spec).__aenter__()
            assert it.clock.elapsed - begun <= 11
            assert len(it.records(refused=True)) == number
            await it.clock.sleep(600)


async def test_create_finds_the_pod_of_a_refused_order(folder: Path) -> None:
    """By its unique name, with one list; under a name that somebody chose, only its namesakes are listed."""
    async with stage(folder) as it:
        refuse(it)
        pod = await it.client.pods.create(it.spec)
        assert it.running() == [pod.id]
        for name in (None, "chosen"):
            refuse(it, acted=False)
            before = lists(it)
            with pytest.raises(primepods.SoldOutError):
                await it.client.pods.create(attrs.evolve(it.spec, name=name))
            assert lists(it) == before + 1


@pytest.mark.parametrize("keeps", [False, True])
async def test_the_twin_of_an_order_that_was_sent_twice_is_deleted(folder: Path, *, keeps: bool) -> None:
    """The gateway returned the first response: the second pod is found by the unique name at the end."""
    async with stage(folder) as it:
        async with it.client.pods.lease(it.spec) as pod:
            it.emulator.add_pod(pod.name, boot_seconds=0)
            if keeps:
                pod.keep()
        assert it.running() == ([pod.id] if keeps else [])
        assert it.records() == []


async def test_leases_that_end_together_read_one_list(folder: Path) -> None:
    """Each looks for its twin; an account of hundreds must not be read hundreds of times."""
    async with stage(folder) as it:
        it.emulator.faults.add(Delay(5.0), on="list")

        async def use() -> None:
            async with it.client.pods.lease(it.spec):
                await asyncio.sleep(0)

        await asyncio.gather(*(use() for _ in range(8)))
        assert lists(it) < 8


@pytest.mark.parametrize("is_used", [False, True])
async def test_the_id_of_another_pod_is_neither_used_nor_deleted(folder: Path, *, is_used: bool) -> None:
    """A response has our name and another pod's id: `get` shows it, and ours is deleted by its name."""
    async with stage(folder) as it:
        theirs = it.emulator.add_pod("theirs", boot_seconds=0)
        it.emulator.faults.add(Edit(put={"id": theirs}), on="create", times=1)
        entering = asyncio.create_task(it.client.pods.lease(it.spec).__aenter__())
        if not is_used:
            while not it.records() or it.records()[0].pod_id is None:
                await it.clock.sleep(0.01)
            entering.cancel()
        with pytest.raises((primepods.ProtocolError, asyncio.CancelledError)):
            await entering
        assert (it.running(), it.records()) == ([theirs], [])


async def test_an_id_of_another_pod_and_no_pod_of_ours_is_told(folder: Path) -> None:
    """The file stays, without that id, for a sweep to find the pod by its name."""
    async with stage(folder) as it:
        theirs = it.emulator.add_pod("theirs", boot_seconds=0)
        it.emulator.faults.add(Edit(put={"id": theirs}), on="create", times=1)
        it.emulator.faults.add(Edit(put={"data": [], "total_count": 0}), on="list")
        with pytest.raises(primepods.ProtocolError) as caught:
            await it.client.pods.lease(it.spec).__aenter__()
        (record,) = it.records()
        assert (record.pod_id, record.given_up) == (None, True)
        assert record.name in caught.value.__notes__[0]
        it.emulator.faults.clear()
        assert len((await it.client.pods.sweep()).deleted) == 1
        assert (it.running(), it.records()) == ([theirs], [])


async def test_a_pod_that_get_cannot_show_is_used_and_deleted(folder: Path) -> None:
    """The response had its unique name: only another name speaks against that."""
    async with stage(folder) as it:
        it.emulator.faults.add(Status(403), on="get")
        async with it.client.pods.lease(it.spec) as pod:
            it.emulator.faults.clear()
            assert it.running() == [pod.id]
        assert (it.running(), it.records()) == ([], [])
