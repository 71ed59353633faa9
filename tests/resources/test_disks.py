"""Disks: created once, whatever is lost; deleted on proof; attached to pods that come and go."""

import json
import pickle
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

import primepods
from primepods import Disk, DiskOffer, DiskSpec, PodSpec, SpecRange
from primepods.emulator import Edit, Emulator, Fault, LostDeletion, ManualClock, Reset, Stale, Status
from tests.support.client import emulated, make_client
from tests.support.clock import ManualClock as ClientClock
from tests.support.eventually import eventually
from tests.support.server import Received, Reply, Server, reply

SPEC = DiskSpec(size=500, provider="hyperstack")


@attrs.frozen
class World:
    """An emulator on a manual clock, and a client whose time passes by itself."""

    emulator: Emulator
    client: primepods.AsyncClient

    async def disks(self) -> list[Disk]:
        """All disks that there are."""
        return [disk async for disk in self.client.disks.list()]

    def orders(self) -> int:
        """How many orders of disks were sent."""
        return len(self.emulator.requests.where(operation="disk_create"))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Nothing that waits takes time."""
    async with emulated(
        {"clock": ClientClock(auto=True)}, clock=ManualClock(), boot_seconds=0, delete_seconds=0
    ) as (emulator, client):
        yield World(emulator, client)


async def test_a_disk_lives_and_dies(world: World) -> None:
    """Ordered from an offer, ready, read, listed, renamed, deleted, and in the history."""
    disks = world.client.disks
    [offer, *_] = [each async for each in world.client.availability.disks()]
    made = await disks.create(DiskSpec.from_offer(offer, size=500, name="data"))
    assert (made.name, made.size, made.provider_type) == ("data", 500, offer.provider)
    assert made.price_hr == pytest.approx(500 * (offer.spec.price_per_unit or 0))
    assert made.info is not None
    assert made.info["dataCenterId"] == offer.data_center
    ready = await disks.wait_ready(made)
    assert ready.status == primepods.PodState.ACTIVE
    assert await disks.get(made.id) == ready
    assert (await disks.rename(ready, "more data")).name == "more data"
    assert [disk.id for disk in await world.disks()] == [made.id]
    assert await disks.delete(made) == primepods.PodState.TERMINATED
    assert await world.disks() == []
    with pytest.raises(primepods.NotFoundError, match=r"disks\.list"):
        await disks.get(made)
    assert await disks.delete(made, missing_ok=True) == primepods.PodState.TERMINATED
    assert [record.id async for record in world.client.pods.history(kind="Disk")] == [made.id]


@pytest.mark.parametrize("name", [None, "data"])
@pytest.mark.parametrize("fault", [Reset(acted=True), Status(500, acted=True), Status(409, acted=True)])
async def test_a_lost_answer_makes_no_second_disk(world: World, name: str | None, fault: Fault) -> None:
    """The disk is found by its name; one of the same name that was there before is another."""
    await world.client.disks.create(DiskSpec(size=100, provider="nebius", name="data"))
    world.emulator.faults.add(fault, on="disk_create", times=1)
    made = await world.client.disks.create(attrs.evolve(SPEC, name=name))
    assert made.provider_type == "hyperstack"
    assert made.name == name or name is None
    assert (len(await world.disks()), world.orders()) == (2, 2)


@pytest.mark.parametrize("name", [None, "data"])
async def test_an_order_that_left_no_trace_is_uncertain(world: World, name: str | None) -> None:
    """It is not sent again; the error has the name to look for."""
    world.emulator.faults.add(Status(502), on="disk_create", times=1)
    with pytest.raises(primepods.CreateUncertainError, match=r"disks\.list\(\)") as caught:
        await world.client.disks.create(attrs.evolve(SPEC, name=name))
    assert name in (None, caught.value.name)
    assert "pods" not in str(caught.value), "disks have no history"
    assert (await world.disks(), world.orders()) == ([], 1)


async def test_another_disk_of_the_name_is_not_taken(world: World) -> None:
    """Neither what a stale replica hid before the order, nor what an answer about another disk shows."""
    theirs = await world.client.disks.create(attrs.evolve(SPEC, name="data"))
    world.emulator.advance(600)
    world.emulator.faults.add(Stale(900), on="disk_list", times=2)
    world.emulator.faults.add(Status(502), on="disk_create", times=1)
    with pytest.raises(primepods.CreateUncertainError) as caught:
        await world.client.disks.create(attrs.evolve(SPEC, name="data"))
    assert caught.value.candidates == (theirs.id,)
    world.emulator.faults.add(Edit(put={"id": theirs.id, "name": "other"}), on="disk_create", times=1)
    made = await world.client.disks.create(SPEC)
    assert made.id != theirs.id


async def test_an_unreadable_row_does_not_keep_a_named_disk_from_being_ordered(world: World) -> None:
    """Its id shows that it is another one."""
    await world.client.disks.create(SPEC)
    world.emulator.faults.add(Edit(put={"data.0.size": "big"}), on="disk_list")
    assert (await world.client.disks.create(attrs.evolve(SPEC, name="data"))).name == "data"


async def test_an_id_in_a_response_is_not_thrown_away(world: World) -> None:
    """It is read by its id, else found by its unique name; under a chosen name, it is told in the error."""

    def spoil(data: Any) -> Any:
        return data | {"data": [row | {"size": "big"} for row in data["data"]]}

    world.emulator.faults.add(Edit(put={"size": "big"}), on="disk_create", times=3)
    world.emulator.faults.add(Edit(spoil), on="disk_list")
    made = await world.client.disks.create(SPEC)
    assert await world.client.disks.get(made.id) == made
    await world.client.disks.delete(made.id)
    world.emulator.faults.add(Edit(put={"size": "big"}), on="disk_get")
    bare = await world.client.disks.create(SPEC)
    with pytest.raises(primepods.CreateUncertainError) as caught:
        await world.client.disks.create(attrs.evolve(SPEC, name="data"))
    world.emulator.faults.clear()
    assert [bare.id, *caught.value.candidates] == [disk.id for disk in await world.disks()]


async def test_a_refused_order_is_a_refusal_unless_it_was_carried_out(world: World) -> None:
    """A gateway that sends an order twice may pass on the refusal of the second."""
    with pytest.raises(primepods.BadRequestError, match="size must be"):
        await world.client.disks.create(attrs.evolve(SPEC, size=7))
    world.emulator.faults.add(Status(400, body={"detail": "no"}, acted=True), on="disk_create", times=1)
    made = await world.client.disks.create(SPEC)
    assert [disk.id for disk in await world.disks()] == [made.id]
    world.emulator.faults.add(Status(400, body={"detail": "no"}, acted=True), on="disk_create", times=1)
    with pytest.raises(primepods.BadRequestError):  # under a chosen name, the disk may be another's
        await world.client.disks.create(attrs.evolve(SPEC, name="data"))


async def test_an_order_carried_out_twice_names_both_disks() -> None:
    """Both are billed, and nothing else will tell."""
    rows = [{"id": each, "providerType": "p", "userId": None} for each in ("one", "two")]

    def answer(request: Received) -> Reply:
        nonlocal rows
        if request.method == "POST":
            rows = [row | {"name": json.loads(request.body)["disk"]["name"]} for row in rows]
            return reply({"detail": "no"}, 500)
        return reply({"total_count": 2, "offset": 0, "limit": 1000, "data": rows})

    async with Server(answer) as server, make_client(server.url, clock=ClientClock(auto=True)) as client:
        with pytest.raises(
            primepods.CreateUncertainError, match=r"2 times.*one, two. Keep one and"
        ) as caught:
            await client.disks.create(SPEC)
    assert caught.value.candidates == ("one", "two")


async def test_an_order_is_for_its_team() -> None:
    """The body names the spec's team, else the client's; what is not given is not sent."""
    bodies: list[Any] = []

    def answer(request: Received) -> Reply:
        bodies.append((request.headers.get("x-prime-team-id"), json.loads(request.body)))
        return reply({"id": "d", "name": bodies[-1][1]["disk"]["name"], "providerType": "p", "userId": None})

    async with Server(answer) as server, make_client(server.url, team_id="mine") as client:
        first = await client.disks.create(DiskSpec(size=1, provider="p", country="CA"))
        await client.disks.create(DiskSpec(size=1, provider="p", team_id="other"))
    assert bodies[0] == (
        "mine",
        {
            "disk": {"size": 1, "name": first.name, "country": "CA"},
            "provider": {"type": "p"},
            "team": {"teamId": "mine"},
        },
    )
    assert (bodies[1][0], bodies[1][1]["team"]) == ("other", {"teamId": "other"})


async def test_a_disk_in_use_is_not_deleted(world: World) -> None:
    """Not even asked for, while a pod that is not ending has it; what the API refuses is refused."""
    disk = await world.client.disks.create(SPEC)
    spec = await _spec_with(world.client, disk)
    pod = await world.client.pods.create(spec)
    with pytest.raises(primepods.ConflictError, match=pod.id):
        await world.client.disks.delete(disk)
    assert not world.emulator.requests.where(operation="disk_delete")
    world.emulator.faults.add(Edit(put={"pods": []}), on="disk_get", times=1)
    with pytest.raises(primepods.ConflictError, match="attached"):
        await world.client.disks.delete(disk)
    with world.emulator.faults.add(Edit(put={"data": []}), on="status"):
        with pytest.raises(primepods.ConflictError, match=f"was not sent: .*{pod.id}"):
            await world.client.disks.delete(disk)
        await world.client.pods.delete(pod)
        world.emulator.faults.add(
            Edit(put={"pods": [pod.id], "size": "500 GB", "status": 7}), on="disk_get", times=1
        )
        assert await world.client.disks.delete(disk) == primepods.PodState.TERMINATED


@pytest.mark.parametrize("odd", [{"pods": "p"}, {"clusters": [{}]}, {"id": "other"}])
async def test_a_disk_whose_users_are_unreadable_is_not_deleted(world: World, odd: dict[str, Any]) -> None:
    """They may use it."""
    disk = await world.client.disks.create(SPEC)
    world.emulator.faults.add(Edit(put=odd), on="disk_get", times=1)
    with pytest.raises(primepods.ProtocolError):
        await world.client.disks.delete(disk)
    assert not world.emulator.requests.where(operation="disk_delete")


@pytest.mark.parametrize("fault", [Reset(acted=True), Status(503, acted=True), Status(404, text="no")])
async def test_a_lost_answer_to_a_deletion_is_settled(world: World, fault: Fault) -> None:
    """By the next attempt, or by looking."""
    disk = await world.client.disks.create(SPEC)
    world.emulator.faults.add(fault, on="disk_delete", times=1)
    assert await world.client.disks.delete(disk) == primepods.PodState.TERMINATED
    assert await world.disks() == []


async def test_an_answer_alone_proves_no_deletion(world: World) -> None:
    """A deletion that was accepted and lost is an error that names the disk."""
    disk = await world.client.disks.create(SPEC)
    world.emulator.faults.add(LostDeletion(0), on="disk_delete")
    with pytest.raises(primepods.ProtocolError, match=rf"{disk.id}.*still shows the disk.*disks\.get"):
        await world.client.disks.delete(disk)


async def test_waiting_ends(world: World) -> None:
    """With the disk's failure, a time-out, or a 404 for a minute; trouble on the way does not end it."""
    disk = await world.client.disks.create(SPEC)
    faults = world.emulator.faults
    faults.add(Status(404, body={"detail": "no"}), on="disk_get", times=2)
    faults.add(Status(503), on="disk_get", times=12)
    faults.add(Edit(put={"status": "PENDING"}), on="disk_get", times=3)
    assert (await world.client.disks.wait_ready(disk)).id == disk.id
    with faults.add(Edit(put={"status": "PENDING"}), on="disk_get"):
        with pytest.raises(
            primepods.WaitTimeoutError, match=rf"PENDING.*disks\.delete\('{disk.id}'\)"
        ) as late:
            await world.client.disks.wait_ready(disk, timeout=20)
        assert pickle.loads(pickle.dumps(late.value)).pending == (disk.id,)
    faults.add(Edit(put={"status": "PENDING"}), on="disk_get", times=15)
    faults.add(Status(404, body={"detail": "no"}), on="disk_get", times=2)
    assert (await world.client.disks.wait_ready(disk)).id == disk.id
    for state in ("ERROR", "STOPPED", "DELETING"):
        with faults.add(Edit(put={"status": state}), on="disk_get"):
            with pytest.raises(primepods.WaitError, match=rf"will not become ready: .* {state}") as failed:
                await world.client.disks.wait_ready(disk)
            assert not isinstance(failed.value, primepods.WaitTimeoutError)
            assert ("may be billed" in str(failed.value)) == (state != "DELETING")
    with pytest.raises(primepods.NotFoundError):
        await world.client.disks.wait_ready("unknown")
    with faults.add(Status(401), on="disk_get"), pytest.raises(primepods.AuthenticationError):
        await world.client.disks.wait_ready(disk)


async def test_a_response_about_another_disk_is_not_believed(world: World) -> None:
    """A cache that mixes up responses is told."""
    one, other = await world.client.disks.create(SPEC), await world.client.disks.create(SPEC)
    world.emulator.faults.add(Edit(put={"id": other.id}), on="disk_get", times=1)
    with pytest.raises(primepods.ProtocolError, match=one.id):
        await world.client.disks.get(one)


async def _spec_with(client: primepods.AsyncClient, disk: Disk) -> PodSpec:
    offers = await client.availability.find(disks=[disk.id], provider="hyperstack", gpu_type="*")
    return PodSpec.from_offer(offers[0], disks=[disk.id])


async def test_offers_and_orders_know_the_disks(world: World) -> None:
    """Offers are those beside the disk; the pod has it attached, with its size."""
    disk = await world.client.disks.create(SPEC)
    offers = await world.client.availability.find(disks=[disk.id], gpu_type="*")
    assert {offer.data_center for offer in offers} == {"CANADA-1"}
    pod = await world.client.pods.create(PodSpec.from_offer(offers[0], disks=[disk.id]))
    assert [(each.id, each.size) for each in pod.attached_resources][1:] == [(disk.id, 500)]
    assert (await world.client.disks.get(disk)).pods == (pod.id,)


async def test_a_lease_leaves_the_disk_and_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At its end, with the price of an hour."""
    caplog.set_level("INFO", "primepods")
    disk = await world.client.disks.create(attrs.evolve(SPEC, name="data"))
    lease = world.client.pods.lease(await _spec_with(world.client, disk))
    async with lease:
        await eventually(lambda: "an hour" in str(lease.supervisor.disk_note))
    [said] = [record.message for record in caplog.records if "Disks that stay" in record.message]
    assert said.endswith(f": data ({disk.id}) · ACTIVE · 500 GB · hyperstack · $0.06 an hour")
    assert not world.emulator.pods
    assert [each.id for each in await world.disks()] == [disk.id]


def test_an_order_is_checked_when_it_is_made() -> None:
    """By the offer's range, and like an order of a pod."""
    offer = DiskOffer(provider="p", cloud_id="c", spec=SpecRange(min_count=100, max_count=200, step=50))
    assert DiskSpec.from_offer(offer, size=150).cloud_id == "c"
    with pytest.raises(ValueError, match="from 100 to 200 in steps of 50"):
        DiskSpec.from_offer(offer, size=120)
    with pytest.raises(ValueError, match=r"DiskSpec\.size"):
        DiskSpec(size=0, provider="p")
    with pytest.raises(TypeError, match=r"DiskSpec\.name"):
        DiskSpec(size=1, provider="p", name=7)  # type: ignore[arg-type]  # what is refused
