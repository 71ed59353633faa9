"""Gateways that send an order twice and pass on a refusal: no pod is forgotten."""

import attrs
import pytest

import primepods
from primepods.emulator import Delay, Edit, Status
from tests.renting.stage import Stage

SOLD_OUT = {"detail": "That machine is sold out"}


def refuse(it: Stage, status: int = 400, *, acted: bool = True) -> None:
    """Refuse one order, and carry it out or not."""
    it.emulator.faults.add(Status(status, acted=acted, body=SOLD_OUT), on="create", times=1)


def lists(it: Stage) -> int:
    """How often the list of pods was read; an empty one is read twice."""
    return len(it.emulator.requests.where(method="GET", path="/api/v1/pods/"))


@pytest.mark.parametrize("status", [400, 402, 404, 409, 422])
async def test_a_refused_order_that_was_carried_out_is_the_leases(it: Stage, status: int) -> None:
    """The list is read once for its unique name: the lease goes on with that pod, and deletes it."""
    refuse(it, status)
    async with it.client.pods.lease(it.spec) as pod:
        assert it.running() == [pod.id]
        assert [record.pod_id for record in it.records()] == [pod.id]
    assert (it.orders(), len(it.emulator.pods), it.records()) == (1, 0, [])


@pytest.mark.parametrize(("status", "most"), [(400, 2), (401, 0)])
async def test_a_refusal_without_a_pod_leaves_nothing(it: Stage, status: int, most: int) -> None:
    """One list shows none, and is not read for a refused key; no file is left, and the next spec is tried."""
    refuse(it, status, acted=False)
    with pytest.raises(primepods.APIError, match=str(status)):
        await it.client.pods.lease(it.spec).__aenter__()
    assert (lists(it), it.records()) == (most, [])
    if status == 400:
        refuse(it, acted=False)
        async with it.client.pods.lease([it.spec, it.spec]) as pod:
            assert [record.pod_id for record in it.records()] == [pod.id]
        assert (it.orders(), it.records()) == (3, [])


@pytest.mark.parametrize("teams", [(None, None), (None, "clemulator0002team")])
async def test_a_pod_that_appears_after_the_refusal_goes_with_the_lease(
    it: Stage, teams: tuple[str | None, ...]
) -> None:
    """A replica did not show it to the first two lists: it is deleted, and confirmed gone, at the end."""
    refuse(it)
    it.emulator.faults.add(Edit(put={"data": [], "total_count": 0}), on="list", times=4)
    async with it.client.pods.lease([attrs.evolve(it.spec, team_id=team_id) for team_id in teams]):
        await it.clock.sleep(100)
        assert len(it.running()) == 2
    # Those on their way out are still among these.
    assert (len(it.emulator.pods), it.records()) == (0, [])


@pytest.mark.parametrize("answers", [True, False])
async def test_a_refusal_is_told_although_the_list_fails(it: Stage, *, answers: bool) -> None:
    """After ten seconds at most."""
    it.emulator.faults.add(Status(403) if answers else Delay(300.0), on="list")
    refuse(it)
    begun = it.clock.elapsed
    with pytest.raises(primepods.SoldOutError):
        await it.client.pods.lease(it.spec).__aenter__()
    assert it.clock.elapsed - begun <= 11


async def test_create_finds_the_pod_of_a_refused_order(it: Stage) -> None:
    """By its unique name, with one list; under a name that somebody chose, only its namesakes are listed."""
    refuse(it)
    pod = await it.client.pods.create(it.spec)
    assert it.running() == [pod.id]
    for name in (None, "chosen"):
        refuse(it, acted=False)
        before = lists(it)
        with pytest.raises(primepods.SoldOutError):
            await it.client.pods.create(attrs.evolve(it.spec, name=name))
        assert lists(it) == before + 1
