"""Whose pod it is, the list says: responses that are damaged, mixed up or repeated by a gateway."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

import primepods
from primepods.emulator import Delay, Edit, Fault, Reset, Status
from tests.renting.api import Api, pod_row, spec
from tests.renting.stage import Stage, stage
from tests.support.client import make_client
from tests.support.clock import ManualClock


def lists(it: Stage) -> int:
    """How often the list of pods was read; an empty one is read twice."""
    return len(it.emulator.requests.where(method="GET", path="/api/v1/pods/"))


async def test_a_teammates_pod_in_the_response_is_not_ours(it: Stage) -> None:
    """It has the name that the user chose, without our suffix: the list shows ours, and theirs stays."""
    theirs = it.emulator.add_pod("training", boot_seconds=0)
    it.emulator.faults.add(Edit(put={"id": theirs, "name": "training"}), on="create", times=1)
    async with it.client.pods.lease(attrs.evolve(it.spec, name="training")) as pod:
        assert sorted(it.running()) == sorted([theirs, pod.id])
        assert pod.name.startswith("training-")
    assert (list(it.emulator.pods), it.records()) == ([theirs], [])


GETS: dict[str, Fault | None] = {
    "readable": None,
    "404": Status(404, body={"detail": "Not found"}),
    "500": Status(500),
    "unreadable": Edit(put={"gpuCount": []}),
}


@pytest.mark.parametrize("get", GETS)
@pytest.mark.parametrize("is_used", [False, True])
async def test_the_id_of_another_pod_is_neither_used_nor_deleted(
    it: Stage, get: str, *, is_used: bool
) -> None:
    """A response has our name and another pod's id: the list shows it, and ours is found by its name."""
    theirs = it.emulator.add_pod("theirs", boot_seconds=0)
    it.emulator.faults.add(Edit(put={"id": theirs}), on="create", times=1)
    if (fault := GETS[get]) is not None:
        it.emulator.faults.add(fault, on="get", pod_id=theirs)
    entering = asyncio.create_task(it.client.pods.lease(it.spec).__aenter__())
    if is_used:
        assert (await entering).id != theirs
        await it.client.aclose()
    else:
        while not it.records() or it.records()[0].pod_id is None:
            await it.clock.sleep(0.01)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
    assert (list(it.emulator.pods), it.records()) == ([theirs], [])


@pytest.mark.parametrize(("boots", "appear"), [(False, 0.0), (False, 30.0), (True, 0.0), (True, 10.0)])
async def test_the_pod_that_the_list_shows_is_used_at_once(
    folder: Path, *, boots: bool, appear: float
) -> None:
    """The id in the response is of a pod that boots for ever, or of none: that one is not waited for."""
    async with stage(folder, boot_seconds=10, appear_seconds=appear) as it:
        theirs = it.emulator.add_pod("theirs", boot_seconds=1e6, appear_seconds=0) if boots else "nowhere"
        it.emulator.faults.add(Edit(put={"id": theirs}), on="create", times=1)
        async with it.client.pods.lease(it.spec) as pod:
            assert it.clock.elapsed < (20 if appear == 0 else 100)
            assert sorted(it.running()) == sorted([pod.id] + [theirs] * boots)
            assert [record.pod_id for record in it.records()] == [pod.id]
        assert it.running() == [theirs] * boots
        # What nothing has shown may still appear: a sweep looks for it, until the order is old.
        assert [record.pod_id for record in it.records()] == ["nowhere"] * (not boots)
        await it.clock.sleep(600)
        assert (await it.client.pods.sweep()).errors == {}
        assert it.records() == []


async def test_an_id_of_another_pod_and_no_pod_of_ours_is_told(it: Stage) -> None:
    """The list shows neither, and `get` whose it is: the file stays, without that id, for a sweep."""
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


HIDDEN: dict[str, dict[str, Fault]] = {
    "missing": {
        "list": Edit(put={"data": [], "total_count": 0}),
        "get": Status(404, body={"detail": "Not found"}),
        "history": Edit(put={"data": [], "total_count": 0}),
    },
    "unreadable": {"list": Status(503), "get": Status(503)},
    "refused": {"list": Status(403), "get": Status(403)},
}


def hide(it: Stage, how: str) -> None:
    """Let no response show the name of a pod; the status shows which pods there are."""
    for call, fault in HIDDEN[how].items():
        it.emulator.faults.add(fault, on=call)


@pytest.mark.slow
@pytest.mark.parametrize("how", HIDDEN)
@pytest.mark.parametrize("is_used", [False, True])
async def test_an_id_that_nothing_shows_is_neither_used_nor_deleted(
    it: Stage, how: str, *, is_used: bool
) -> None:
    """A response has our name and another pod's id: that is told, and a sweep deletes ours by its name."""
    theirs = it.emulator.add_pod("theirs", boot_seconds=0)
    it.emulator.faults.add(Edit(put={"id": theirs}), on="create", times=1)
    hide(it, how)
    lease = it.client.pods.lease(it.spec, ready_timeout=300, release_timeout=120)
    entering = asyncio.create_task(lease.__aenter__())
    started = it.clock.elapsed
    if not is_used:
        while not it.records() or it.records()[0].pod_id is None:
            await it.clock.sleep(0.01)
        entering.cancel()
    with pytest.raises((primepods.WaitTimeoutError, asyncio.CancelledError)) as caught:
        await entering
    assert it.clock.elapsed - started < (450 if is_used else 150)
    (note,) = caught.value.__notes__
    (record,) = it.records()
    assert all(text in note for text in (record.name, theirs, "is not deleted", "look for that name"))
    assert (await it.client.pods.sweep()).deleted == ()
    assert it.emulator.requests.where(method="DELETE") == []
    it.emulator.faults.clear()
    await it.clock.sleep(600)
    assert len((await it.client.pods.sweep()).deleted) == 1
    assert (it.running(), it.records()) == ([theirs], [])


async def test_a_failed_get_is_in_the_error_though_the_history_hangs(folder: Path) -> None:
    """The lease records the failure before it reads the history."""
    async with stage(folder, boot_seconds=0) as it:
        it.emulator.faults.add(Delay(10_000), on="history")
        hide(it, "missing")
        lease = it.client.pods.lease(it.spec, ready_timeout=20, release_timeout=20)
        with pytest.raises(primepods.WaitTimeoutError, match=r"the last failure: .*404"):
            await lease.__aenter__()


@pytest.mark.parametrize("how", HIDDEN)
@pytest.mark.parametrize("is_used", [False, True])
async def test_a_pod_that_is_hidden_for_a_while_is_used_and_deleted(
    it: Stage, how: str, *, is_used: bool
) -> None:
    """A replica lags behind, or the list fails: the lease asks again, before its block and in its release."""
    hide(it, how)
    entering = asyncio.create_task(it.client.pods.lease(it.spec).__aenter__())
    while not it.running():
        await it.clock.sleep(0.1)
    if not is_used:
        await it.clock.sleep(1)
        entering.cancel()
    await it.clock.sleep(90)
    assert len(it.running()) == 1
    it.emulator.faults.clear()
    if is_used:
        assert it.running() == [(await entering).id]
        await it.client.aclose()
    else:
        with pytest.raises(asyncio.CancelledError):
            await entering
    assert (it.running(), it.records()) == ([], [])


@pytest.mark.parametrize("field", [{"priceHr": None}, {"createdAt": "soon"}], ids=str)
async def test_a_field_that_cannot_be_read_forgets_no_pod(it: Stage, field: dict[str, object]) -> None:
    """In each row of it: its id is in the file at once, the error names it, and the lease deletes it."""
    for call in ("create", "get"):
        it.emulator.faults.add(Edit(put=field), on=call)
    it.emulator.faults.add(Edit(put={f"data.0.{key}": value for key, value in field.items()}), on="list")
    entering = asyncio.create_task(it.client.pods.lease(it.spec).__aenter__())
    await it.clock.sleep(5)
    (pod_id,) = it.running()
    assert [record.pod_id for record in it.records()] == [pod_id]
    with pytest.raises(primepods.CreateUncertainError) as caught:
        await entering
    assert caught.value.candidates == (pod_id,)
    assert (len(it.emulator.pods), it.records()) == (0, [])


LOST: dict[str, Fault] = {
    "500": Status(500, acted=True),
    "409": Status(409, acted=True, body={"detail": "Conflict"}),
    "499": Status(499, acted=True),
    "nothing": Reset(acted=True),
}


@pytest.mark.parametrize("lost", LOST)
async def test_all_pods_of_an_order_that_was_sent_twice_go(it: Stage, lost: str) -> None:
    """A gateway answers what proves nothing: one of both is used, the other deleted beside the block."""
    it.emulator.faults.add(LOST[lost], on="create", times=1)
    it.emulator.faults.add(Delay(1.0), on="list", times=1)
    entering = asyncio.create_task(it.client.pods.lease(it.spec).__aenter__())
    while not it.running():
        await it.clock.sleep(0.1)
    it.emulator.add_pod(it.records()[0].name, boot_seconds=0)
    pod = await entering
    await it.clock.sleep(60)
    assert list(it.emulator.pods) == [pod.id]
    await it.client.aclose()
    assert (len(it.emulator.pods), it.records()) == (0, [])


@pytest.mark.parametrize("keeps", [False, True])
async def test_the_twin_behind_a_list_that_fails_stays_in_the_file(it: Stage, *, keeps: bool) -> None:
    """While the list fails, the second pod is not seen by the lease, nor by a sweep: a later one finds it."""
    async with it.client.pods.lease(it.spec) as pod:
        twin = it.emulator.add_pod(pod.name, boot_seconds=0)
        it.emulator.faults.add(Status(500), on="list")
        if keeps:
            pod.keep()
    assert [*(await it.client.pods.sweep()).errors] == ["pods.list"]
    it.emulator.faults.clear()
    assert [record.name for record in it.records()] == [pod.name]
    assert (await it.client.pods.sweep()).deleted == (twin,)
    assert (list(it.emulator.pods), it.records()) == ([pod.id] if keeps else [], [])


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_twin_that_cannot_be_deleted_is_named(it: Stage, *, keeps: bool) -> None:
    """And not the pod of the lease, which is kept or gone: who reads that would delete it."""
    lease = it.client.pods.lease(it.spec, release_timeout=60)
    pod = await lease.__aenter__()
    twin = it.emulator.add_pod(pod.name, boot_seconds=0)
    it.emulator.faults.add(Status(500), on="delete", pod_id=twin)
    if keeps:
        pod.keep()
    with pytest.raises(primepods.NotReleasedError) as caught:
        await lease.__aexit__(None, None, None)
    assert (caught.value.pod_id, caught.value.price_hr) == (twin, None)
    assert pod.id not in str(caught.value)
    it.emulator.faults.clear()
    assert (await it.client.pods.sweep()).deleted == (twin,)
    assert list(it.emulator.pods) == ([pod.id] if keeps else [])


async def test_pods_that_cannot_be_deleted_are_all_named(it: Stage) -> None:
    """The lease's own pod, and one with its name."""
    lease = it.client.pods.lease(it.spec, release_timeout=60)
    pod = await lease.__aenter__()
    twin = it.emulator.add_pod(pod.name, boot_seconds=0)
    it.emulator.faults.add(Status(500), on="delete")
    with pytest.raises(primepods.NotReleasedError, match=rf"(?s){pod.id}.*500.*{twin}.*500"):
        await lease.__aexit__(None, None, None)
    it.emulator.faults.clear()
    assert (await it.client.pods.sweep()).deleted == (pod.id, twin)


async def test_a_lease_reads_the_list_twice(it: Stage) -> None:
    """Once when its pod is ready, and once when it is gone; one `get` looks whose id it is at first."""
    other = it.emulator.add_pod("theirs", boot_seconds=0)
    async with it.client.pods.lease(it.spec) as pod:
        assert lists(it) == 1
        assert len(it.emulator.requests.where(method="GET", path=f"/api/v1/pods/{pod.id}")) == 1
    assert (lists(it), it.running()) == (2, [other])


async def test_leases_that_end_together_read_one_list(folder: Path) -> None:
    """An account of hundreds must not be read hundreds of times."""
    async with stage(folder, boot_seconds=0.0) as it:
        it.emulator.faults.add(Delay(5.0), on="list")

        async def use() -> None:
            async with it.client.pods.lease(it.spec):
                await asyncio.sleep(0)

        await asyncio.gather(*(use() for _ in range(8)))
        assert lists(it) < 8


CHANGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "cut": ("training-run-of-thirty-gpus", lambda name: name[:20]),
    "slug": ("My Job: No 1", lambda name: "my-job-no-1"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_ensure_orders_nothing_beside_a_changed_name(change: str) -> None:
    """A server that cuts or respells names would have one more pod with each call: the second is refused."""
    name, changed = CHANGES[change]
    clock = ManualClock(auto=True)
    api = Api(clock, changes=lambda row: row | {"name": changed(row["name"])})
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.ensure(spec(name=name))).id == "made-0"
        for _ in range(2):
            with pytest.raises(primepods.ProtocolError, match=r"made-0 .*Nothing is ordered"):
                await client.pods.ensure(spec(name=name))
        assert (await client.pods.ensure(spec(name=changed(name)))).id == "made-0"
    assert len(api.orders) == 1


@pytest.mark.parametrize("theirs", ["training-run-1", "training-run", "training", "run-12 training"])
async def test_ensure_orders_beside_another_name(theirs: str) -> None:
    """Numbers and words that a name goes on with make another name."""
    clock = ManualClock(auto=True)
    api = Api(clock)
    api.add(pod_row(theirs, clock.wall(), "theirs"))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.ensure(spec(name="training-run-12"))).id == "made-0"


async def test_an_ensured_pod_may_expire(it: Stage) -> None:
    """Its name finds it again, with and without hours, until it has expired; a lease's pod is not taken."""
    named = attrs.evolve(it.spec, name="train")
    async with it.client.pods.lease(named, max_hours=1):
        pod = await it.client.pods.ensure(named, max_hours=1)
        assert it.orders() == 2
    assert (pod.name or "").startswith("train-")
    for hours in (None, 2.0):
        assert (await it.client.pods.ensure(named, max_hours=hours)).id == pod.id
    await it.clock.sleep(5_400)
    assert (await it.client.pods.ensure(named, max_hours=1)).id != pod.id
    assert (await it.client.pods.sweep(expired=True)).deleted == (pod.id,)


async def test_an_earlier_order_of_the_name_keeps_its_pod(folder: Path) -> None:
    """Its pod appears only after the next order of the name, whose response is lost: that one has none."""
    async with stage(folder, boot_seconds=0, appear_seconds=2) as it:
        spec = attrs.evolve(it.spec, name="shared")
        first = await it.client.pods.create(spec)
        it.emulator.faults.add(Status(503), on="create")
        with pytest.raises(primepods.CreateUncertainError) as caught:
            await it.client.pods.create(spec)
        assert caught.value.candidates == (first.id,)
