"""Sweeps: what they delete, what they leave alone, and what they say of it."""

import asyncio
import errno
import json
import math
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

import primepods
from primepods._utils.unique_names import UniqueName, unique_name
from primepods.emulator import Delay, Edit, Reset, Stale, Status
from primepods.leasing._lease_record import as_time, new_record
from primepods.leasing.ledger import LeaseFile
from tests.renting.api import pod_row
from tests.renting.stage import Stage, name_of, stage
from tests.support.client import make_client
from tests.support.clock import ManualClock
from tests.support.server import Answer, Received, Server, reply


def write_as_a_later_version(folder: Path) -> None:
    """Add a field to the file of a lease."""
    path = next(folder.iterdir())
    path.write_text(path.read_text().replace('"name"', '"later": 1, "name"'))


def left_by(it: Stage, **changes: object) -> None:
    """Have a process order a pod, and end; with ``given_up`` as if it were dead."""
    record = new_record(name_of(), it.client._executor.settings)
    LeaseFile.new(it.folder, attrs.evolve(record, **changes)).write().close()  # type: ignore[arg-type]  # whatever a test changes


@pytest.mark.parametrize(("is_recorded", "count"), [(True, 2), (False, 2), (False, 0)])
async def test_a_take_over_that_is_interrupted_deletes_its_pod(
    folder: Path, *, is_recorded: bool, count: int
) -> None:
    """While its file is being written, before anything is asked; the recorded pod, and its twin.

    Without a pod, nothing shows that there will be none: it says so.
    """
    async with stage(folder, boot_seconds=0) as it:
        pods = [it.emulator.add_pod(name_of(), boot_seconds=0) for _ in range(count)]
        await asyncio.to_thread(left_by, it, given_up=True, pod_id=pods[0] if is_recorded else None)
        lease = it.client.pods.lease(attrs.evolve(it.spec, name=UniqueName(name_of())))
        file = LeaseFile.claim(next(folder.glob("*.json")))
        assert file is not None
        lease.supervisor.resume(file, was_shown=True)
        may_write = threading.Event()
        # More than the loop has threads.
        busy = [asyncio.get_running_loop().run_in_executor(None, may_write.wait) for _ in range(64)]
        task = asyncio.create_task(lease.__aenter__())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        may_write.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*busy)
        assert (it.running(), lease.supervisor.release_error is None) == ([], count > 0)


async def test_a_lease_that_is_taken_over_counts_from_its_order(folder: Path) -> None:
    """Also if its pod was found by its name: a second take-over counts from there, too."""
    async with stage(folder, boot_seconds=0) as it:
        pod_id = it.emulator.add_pod(name_of(), boot_seconds=0)
        ordered_at = as_time(it.clock.wall() - 3600)
        await asyncio.to_thread(left_by, it, given_up=True, ordered_at=ordered_at)
        lease = it.client.pods.lease(attrs.evolve(it.spec, name=UniqueName(name_of())))
        file = LeaseFile.claim(next(folder.glob("*.json")))
        assert file is not None
        lease.supervisor.resume(file, was_shown=False)
        async with lease as pod:
            [record] = it.records()
            assert (record.pod_id, record.ordered_at) == (pod_id, ordered_at)
            assert pod.spent() == pytest.approx(pod.price_hr, rel=0.05)
        assert not it.running()


@pytest.mark.parametrize("has_file", [True, False])
async def test_a_pod_of_an_earlier_lease_is_leased_again(folder: Path, *, has_file: bool) -> None:
    """With its age, whether or not this machine has the file of that lease; pod and file go in the end."""
    async with stage(folder, boot_seconds=0) as it:
        pod_id = it.emulator.add_pod(name_of(), boot_seconds=0)
        ordered_at = as_time(it.clock.wall() - 3600)
        if has_file:
            await asyncio.to_thread(left_by, it, given_up=True, is_kept=True, ordered_at=ordered_at)
        pod = attrs.evolve(await it.client.pods.get(pod_id), created_at=ordered_at)
        async with it.client.pods.lease(pod, max_hours=2) as leased:
            assert leased.id == pod_id
            assert leased.spent() == pytest.approx(leased.price_hr, rel=0.05)
            with pytest.raises(primepods.ConfigError, match="may still run"):
                it.client.pods.lease(pod)
        assert (it.running(), it.records()) == ([], [])
        with pytest.raises(ValueError, match="is not that of a leased pod"):
            it.client.pods.lease(attrs.evolve(pod, name="mine"))


async def test_a_pod_whose_lease_file_may_be_unreadable_is_not_leased_again(folder: Path) -> None:
    """Its process may still run: two leases would end one pod."""
    async with stage(folder, boot_seconds=0) as it:
        pod = await it.client.pods.get(it.emulator.add_pod(name_of(), boot_seconds=0))
        await asyncio.to_thread(left_by, it, given_up=True, is_kept=True)
        path = next(folder.glob("*.json"))
        content = path.read_bytes()
        path.write_bytes(b"{")
        with pytest.raises(primepods.ConfigError, match="may be that of the pod"):
            it.client.pods.lease(pod)
        path.write_bytes(content)
        async with it.client.pods.lease(pod) as leased:
            assert leased.id == pod.id


async def test_a_refused_take_over_leaves_the_lease_file_to_others(folder: Path) -> None:
    """A client of another team was refused: the file is not locked by it."""
    async with stage(folder, boot_seconds=0) as it:
        pod = await it.client.pods.get(it.emulator.add_pod(name_of(), boot_seconds=0))
        await asyncio.to_thread(left_by, it, given_up=True, is_kept=True)
        async with primepods.AsyncClient(
            it.emulator.api_key, base_url=it.emulator.url, team_id="other"
        ) as other:
            with pytest.raises(primepods.ConfigError, match="team"):
                other.pods.lease(pod)
        async with it.client.pods.lease(pod) as leased:
            assert leased.id == pod.id


async def test_a_pod_that_was_just_ordered_is_taken_over_when_it_appears(folder: Path) -> None:
    """The process died at once after the order's response: the API may not show the pod for a while."""
    async with stage(folder, boot_seconds=0) as it:
        pod_id = it.emulator.add_pod(name_of(), boot_seconds=0)
        it.emulator.faults.add(Stale(30), on={"get", "list", "status"})
        ordered_at = as_time(it.clock.wall())
        await asyncio.to_thread(left_by, it, given_up=True, pod_id=pod_id, ordered_at=ordered_at)
        file = LeaseFile.claim(next(folder.glob("*.json")))
        assert file is not None
        lease = it.client.pods.lease(attrs.evolve(it.spec, name=UniqueName(name_of())))
        lease.supervisor.resume(file, was_shown=False)
        async with lease as pod:
            assert pod.id == pod_id
        assert not it.running()


async def test_an_id_that_no_pod_can_have_stops_no_sweep(it: Stage) -> None:
    """Another program has written it into a file: the error says which file, and other pods are deleted."""
    pod_id = it.emulator.add_pod(name_of(1), boot_seconds=0)
    await asyncio.to_thread(left_by, it, pod_id="../x", given_up=True)
    await asyncio.to_thread(left_by, it, name=name_of(1), pod_id=pod_id, given_up=True)
    swept = await it.client.pods.sweep()
    assert swept.deleted == (pod_id,)
    assert "delete it on the website. Then remove /" in str(swept.errors["../x"])


async def test_a_sweep_keeps_to_its_own_key_and_team(folder: Path) -> None:
    """Under another key or team a 404 proves nothing; and a file of a later version is understood."""
    async with stage(folder, options={"team_id": "clemulator0002team"}) as it:
        it.emulator.faults.add(Reset(acted=True), on="create")
        it.emulator.faults.add(Status(503), on="list")
        with pytest.raises(primepods.CreateUncertainError):
            async with it.client.pods.lease(it.spec):
                pytest.fail("nobody knows the pod")
        it.emulator.faults.clear()
        await asyncio.to_thread(write_as_a_later_version, folder)
        for team_id in (None, "team-2"):
            async with make_client(
                it.emulator.url, clock=it.clock, api_key=it.emulator.api_key, team_id=team_id
            ) as client:
                assert (await client.pods.sweep()).found == ()
        assert len(it.records()) == 1
        assert len((await it.client.pods.sweep()).deleted) == 1
        assert it.records() == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_url": "https://other.example.com"}, "rented at https://other.example.com"),
        ({"key_fingerprint": "0"}, "another API key"),
        ({"team_id": "team-9"}, "belongs to team team-9 (set --team or team_id to it)"),
        ({"team_id": None}, "belongs to no team (leave out --team or team_id)"),
        ({"host": "elsewhere"}, "host elsewhere is another machine"),
        ({"boot_id": "another start"}, "its process may still run"),
        ({"pid_namespace": "pid:[4026539999]"}, "its process may still run"),
        ({}, "its process "),
    ],
)
async def test_what_is_left_alone_is_told(folder: Path, changes: dict[str, object], reason: str) -> None:
    """With the reason, so that nobody takes an empty sweep for an empty account."""
    async with stage(folder, options={"team_id": "team-1"}) as it:
        await asyncio.to_thread(left_by, it, pod_id="pod-1", price_hr=2.0, **changes)
        sweep = await it.client.pods.sweep()
        assert (sweep.found, sweep.deleted) == ((), ())
        (skipped,) = sweep.skipped
        assert (skipped.name, skipped.pod_id, skipped.price_hr) == (name_of(), "pod-1", 2.0)
        assert reason in skipped.reason
        assert (await it.client.pods.sweep(prefix="mine-", older_than=60)).skipped == ()


async def test_a_pod_that_appears_during_a_sweep_is_told(folder: Path) -> None:
    """Its id was not known when it was found."""
    async with stage(folder, appear_seconds=50.0) as it:
        pod = await it.client.pods.create(attrs.evolve(it.spec, name=name_of()))
        await asyncio.to_thread(left_by, it, given_up=True)
        await it.clock.sleep(40)
        assert (await it.client.pods.sweep()).deleted == (pod.id,)


async def test_a_lease_begun_while_a_sweep_lists_is_left_alone(it: Stage) -> None:
    """Its file is newer than those that the sweep has read."""
    it.emulator.faults.add(Delay(1.0), on="list", times=1)
    sweep = asyncio.create_task(it.client.pods.sweep(prefix="mine-", older_than=0))
    # By then it has read the files.
    await asyncio.sleep(0)
    async with it.client.pods.lease(attrs.evolve(it.spec, name="mine-1")) as pod:
        assert (await sweep).deleted == ()
        assert it.running() == [pod.id]


@pytest.mark.parametrize("reading", [1, 2])
async def test_the_pods_of_a_process_that_ends_while_a_sweep_lists_are_deleted(
    it: Stage, folder: Path, reading: int
) -> None:
    """Both of an order that was sent twice, though the list that was just read has neither."""
    theirs = it.emulator.add_pod("theirs", boot_seconds=0)
    record = new_record(name_of(), it.client._executor.settings)
    # Only the lock of its file shows that the process lives.
    record = attrs.evolve(record, process_start=None)
    file = await asyncio.to_thread(LeaseFile.new(folder, record).write)
    readings = 0

    def end(page: Any = None) -> Any:
        nonlocal readings
        readings += 1
        if readings == reading:
            pods = [it.emulator.add_pod(name_of(), boot_seconds=0) for _ in range(2)]
            file.update(pod_id=pods[0])
            file.close()
        return page

    it.emulator.faults.add(Edit(end), on="list")
    await it.client.pods.sweep()
    while readings < reading:
        end()
    await it.client.pods.sweep()
    assert (it.running(), it.records()) == ([theirs], [])


ODD: dict[str, bytes] = {
    "cut": b'{"name": "mi',
    "a list": b"[1]",
    "a later version": b'{"version": 3}',
    "an earlier version": b'{"version": 1, "name": "mine"}',
    "deep": b"[" * 50_000,
    "huge": b" " * 100_000,
    "no text": bytes(range(256)),
    "a surrogate": json.dumps({"version": 2, "name": "\ud800"}).encode(),
    "a chosen name": b"chosen",
    "a number": b"1" * 5_000,
    "an endless price": b"price",
    "a pipe": b"pipe",
    "a folder": b"folder",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ODD)
async def test_a_file_that_cannot_be_read_is_told(it: Stage, folder: Path, kind: str) -> None:
    """It stops no sweep, and may be all that names a pod: none without a file is deleted meanwhile."""
    left = it.emulator.add_pod(name_of(), boot_seconds=0)
    without_file = it.emulator.add_pod("theirs-2", boot_seconds=0)
    await asyncio.to_thread(left_by, it, given_up=True)
    await it.clock.sleep(100)

    def write() -> None:
        odd = folder / "odd.json"
        if kind == "a pipe":
            os.mkfifo(odd)
        elif kind == "a folder":
            odd.mkdir()
        elif kind == "a chosen name":
            text = next(folder.glob("*.json")).read_text()
            odd.write_text(text.replace(name_of(), "chosen"))
        elif kind == "an endless price":
            text = next(folder.glob("*.json")).read_text()
            odd.write_text(text.replace('"price_hr": null', '"price_hr": 1' + 400 * "0"))
        else:
            odd.write_bytes(ODD[kind])

    await asyncio.to_thread(write)
    sweep = await it.client.pods.sweep(prefix="theirs-", older_than=60)
    assert sweep.deleted == (left,)
    assert [skipped.name for skipped in sweep.skipped] == ["odd.json"]
    assert "cannot be read" in sweep.skipped[0].reason
    assert it.running() == [without_file]
    await asyncio.to_thread(lambda: (folder / "odd.json").rename(folder / "odd"))
    assert (await it.client.pods.sweep(prefix="theirs-", older_than=60)).deleted == (without_file,)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(errno.EWOULDBLOCK, "its process still runs"), (errno.EIO, "file cannot be read")],
)
async def test_a_file_that_cannot_be_locked_is_told(
    it: Stage, monkeypatch: pytest.MonkeyPatch, error: int, reason: str
) -> None:
    """That its process lives is said only where another one has the lock."""
    fcntl = pytest.importorskip("fcntl", reason="there are no such locks on Windows")

    def flock(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    await asyncio.to_thread(left_by, it, pod_id="pod-1", given_up=True)
    monkeypatch.setattr(fcntl, "flock", flock)
    (skipped,) = (await it.client.pods.sweep()).skipped
    assert reason in skipped.reason


async def test_only_what_was_found_before(folder: Path) -> None:
    """What a dry run has shown is deleted, also where its id was not known then; what came later is left.

    During a dry run, other sweeps can claim the files.
    """
    is_free: list[bool] = []

    def claim(data: object) -> object:
        [path] = folder.glob("*.json")
        file = LeaseFile.claim(path)
        is_free.append(file is not None)
        if file is not None:
            file.close()
        return data

    async with stage(folder) as it:
        await asyncio.to_thread(left_by, it, given_up=True)
        with it.emulator.faults.add(Edit(claim), on="list"):
            shown = await it.client.pods.sweep(dry_run=True)
        assert len(is_free) > 1
        assert all(is_free)
        assert [pod.pod_id for pod in shown.found] == [None]
        appeared = it.emulator.add_pod(name_of(), boot_seconds=0)
        later = it.emulator.add_pod("later", boot_seconds=0)
        await asyncio.to_thread(left_by, it, name=name_of(1), pod_id=later, given_up=True)
        sweep = await it.client.pods.sweep(only=shown)
        assert (sweep.deleted, sweep.errors) == ((appeared,), {})
        assert list(it.emulator.pods) == [later]
        assert len(it.records()) == 1


async def test_a_second_pod_that_nobody_has_seen_stays(it: Stage) -> None:
    """All pods of a lease must have been shown to the user, not only one."""
    first = it.emulator.add_pod(name_of(), boot_seconds=0)
    await asyncio.to_thread(left_by, it, given_up=True)
    shown = await it.client.pods.sweep(dry_run=True)
    second = it.emulator.add_pod(name_of(), boot_seconds=0)
    assert (await it.client.pods.sweep(only=shown)).found == ()
    assert it.running() == [first, second]


async def test_what_nothing_has_ever_shown_stays_in_its_file(it: Stage) -> None:
    """It is told, and each sweep looks for its name, in the list and in the history."""
    await asyncio.to_thread(left_by, it, given_up=True)
    await it.clock.sleep(8_000)
    for _ in range(2):
        sweep = await it.client.pods.sweep()
        assert (sweep.found, sweep.deleted, sweep.errors) == ((), (), {})
        assert "no response has shown its pod" in sweep.skipped[0].reason
        assert len(it.records()) == 1
    pod_id = it.emulator.add_pod(name_of(), boot_seconds=0)
    assert (await it.client.pods.sweep()).deleted == (pod_id,)
    assert it.records() == []


async def test_a_404_proves_nothing_for_ten_minutes(it: Stage) -> None:
    """A pod that was just ordered may appear yet: its file stays, and the error says so; later it goes."""
    await asyncio.to_thread(left_by, it, pod_id="pod-1", given_up=True)
    await it.clock.sleep(590)
    sweep = await it.client.pods.sweep()
    assert (sweep.deleted, list(sweep.errors)) == ((), ["pod-1"])
    assert "may still appear" in sweep.errors["pod-1"].__notes__[-1]
    assert len(it.records()) == 1
    await it.clock.sleep(20)
    sweep = await it.client.pods.sweep()
    assert (sweep.deleted, sweep.errors, it.records()) == (("pod-1",), {}, [])


async def test_the_history_proves_that_a_pod_has_ended(it: Stage) -> None:
    """By its unique name: nothing is deleted, and the file goes."""
    pod = await it.client.pods.create(attrs.evolve(it.spec, name=name_of()))
    await it.clock.sleep(60)
    await it.client.pods.delete(pod)
    await it.client.pods.wait_gone(pod)
    await asyncio.to_thread(left_by, it, given_up=True)
    assert (await it.client.pods.sweep(dry_run=True)).found == ()
    assert len(it.records()) == 1
    sweep = await it.client.pods.sweep()
    assert (sweep.found, sweep.deleted, sweep.skipped, it.records()) == ((), (), (), [])


async def test_a_row_that_cannot_be_read_stops_no_sweep(it: Stage) -> None:
    """Anybody's may be broken: the others are swept. A row without an id is told; id and name are enough."""
    pod_id = it.emulator.add_pod(name_of(), boot_seconds=0)
    it.emulator.add_pod("broken", boot_seconds=0)
    await asyncio.to_thread(left_by, it, given_up=True)
    broken: dict[str, object] = {"data.0.priceHr": None, "data.0.createdAt": "soon", "data.1.id": None}
    it.emulator.faults.add(Edit(put=broken), on="list")
    sweep = await it.client.pods.sweep()
    assert sweep.deleted == (pod_id,)
    assert set(sweep.errors) == {"pods.list"}


async def test_a_sweep_ends_with_one_deadline_while_nothing_is_answered(folder: Path) -> None:
    """Ten pods, two at a time, and deletions that are never answered: the others were not sent, and stay."""
    async with stage(folder, options={"deadline": 30, "max_concurrency": 2}) as it:
        for number in range(10):
            it.emulator.add_pod(name_of(number), boot_seconds=0)
            await asyncio.to_thread(left_by, it, name=name_of(number), given_up=True)
        it.emulator.faults.add(Delay(math.inf), on="delete")
        started = it.clock.elapsed
        sweep = await it.client.pods.sweep()
        assert it.clock.elapsed - started == pytest.approx(30, abs=1)
        assert len(sweep.errors) == len(it.records()) == 10
        assert len([error for error in sweep.errors.values() if "was not sent" in str(error)]) == 8


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
async def test_expired_leases_are_swept_from_anywhere(
    it: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    """By the server's time and their names alone; never a younger pod, nor one with another name."""
    it.clock._wall += skew
    expiring = it.client.pods.lease(attrs.evolve(it.spec, name="train"), max_hours=1)
    lasting = it.client.pods.lease(attrs.evolve(it.spec, name="train-x12345"), ready_timeout=100)
    pods = [await lease.__aenter__() for lease in (expiring, lasting)]
    assert pods[0].name.startswith("train-")
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "elsewhere"))
    pods[0].keep()
    await expiring.__aexit__(None, None, None)
    for seconds in (3_500, 700):
        await it.clock.sleep(seconds)
        assert (await it.client.pods.sweep(expired=True)).found == ()
    await it.clock.sleep(400)
    sweep = await it.client.pods.sweep(expired=True)
    assert sweep.deleted == (pods[0].id,)
    assert it.running() == [pods[1].id]


@pytest.mark.parametrize(
    ("owner", "is_deleted"), [({"host": "elsewhere"}, True), ({"given_up": True}, True), ({}, False)]
)
async def test_an_expired_pod_with_a_file_is_deleted_unless_its_process_lives(
    it: Stage, owner: dict[str, Any], *, is_deleted: bool
) -> None:
    """Several machines may share a home: each sees only which of its own processes live."""
    name = unique_name("train", Random(1).random, expires_at=it.clock.wall() + 3600)
    pod_id = it.emulator.add_pod(name, boot_seconds=0)
    await asyncio.to_thread(left_by, it, name=name, pod_id=pod_id, **owner)
    await it.clock.sleep(4_400)
    assert (await it.client.pods.sweep(expired=True)).deleted == ()
    await it.clock.sleep(400)
    sweep = await it.client.pods.sweep(expired=True)
    assert sweep.deleted == ((pod_id,) if is_deleted else ())
    assert it.running() == ([] if is_deleted else [pod_id])
    assert [skipped.pod_id for skipped in sweep.skipped] == ([] if is_deleted else [pod_id])


async def test_expired_pods_are_swept_without_a_folder_that_can_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names are proof enough; everything else needs the files."""
    await asyncio.to_thread(folder.write_bytes, b"not a folder")
    async with stage(folder) as it:
        name = unique_name("train", Random(1).random, expires_at=it.clock.wall() - 3_600)
        pod_id = it.emulator.add_pod(name, boot_seconds=0)
        with pytest.raises(primepods.ConfigError, match="cannot be read"):
            await it.client.pods.sweep()
        with monkeypatch.context() as without_home:
            without_home.delenv("PRIMEPODS_STATE_DIR")
            without_home.setenv("HOME", "~")
            with pytest.raises(primepods.ConfigError, match="no home directory"):
                await it.client.pods.sweep()
            found = await it.client.pods.sweep(expired=True, dry_run=True)
        assert [pod.pod_id for pod in found.found] == [pod_id]
        assert (await it.client.pods.sweep(expired=True)).deleted == (pod_id,)


async def test_a_created_pod_may_expire(it: Stage) -> None:
    """Its name says when, by the server's time, on which two responses agree; then a sweep deletes it."""
    it.clock._wall += 7_200
    pod = await it.client.pods.create(attrs.evolve(it.spec, name="train"), max_hours=1)
    assert (pod.name or "").startswith("train-")
    assert [request.method for request in it.emulator.requests[:]] == ["GET", "GET", "POST"]
    await it.clock.sleep(3_500)
    assert (await it.client.pods.sweep(expired=True)).found == ()
    await it.clock.sleep(1_000)
    assert (await it.client.pods.sweep(expired=True)).deleted == (pod.id,)
    with pytest.raises(ValueError, match="max_hours"):
        await it.client.pods.create(it.spec, max_hours=-1)


async def test_a_lease_of_another_machine_that_lasts_is_left_alone(it: Stage) -> None:
    """Its name says until when, and its process cannot be seen from here."""
    now = it.clock.wall()
    lasting, over = (unique_name("ci", Random(1).random, now + hours * 3600) for hours in (9.0, 1.0))
    pods = [it.emulator.add_pod(name, boot_seconds=0) for name in (lasting, over)]
    await it.clock.sleep(3 * 3600)
    sweep = await it.client.pods.sweep(prefix="ci-", older_than=60)
    assert (sweep.deleted, it.running()) == ((pods[1],), [pods[0]])
    assert [(skipped.name, skipped.pod_id) for skipped in sweep.skipped] == [(lasting, pods[0])]
    assert f"delete it with `pods.delete({pods[0]!r})`" in sweep.skipped[0].reason


@pytest.mark.parametrize("date", [None, "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT"])
@pytest.mark.parametrize("arguments", [{"prefix": "ci-", "older_than": 3600}, {"expired": True}], ids=str)
async def test_without_the_servers_time_no_age_is_told(arguments: Any, date: str | None) -> None:
    """This machine's clock is not asked: it may be hours ahead."""
    clock = ManualClock(auto=True)
    page = {"total_count": 1, "offset": 0, "limit": 100, "data": [pod_row("ci-1", clock.wall() - 9_000)]}
    server = Server(default=reply(page, headers={"Date": date} if date else {}))
    async with server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.ProtocolError, match="No response had a usable Date"):
            await client.pods.sweep(**arguments)
    assert {request.method for request in server.requests} == {"GET"}


@pytest.mark.parametrize(
    ("hours", "is_found"),
    [
        ([0] * 3, False),
        ([3, 0, 0], False),
        ([3, 0, 2], False),
        ([3, 3, 3], True),
        ([0, 3, 3], False),
        ([9, 2, 2], True),
        ([9, 9, 9], False),
    ],
    ids=str,
)
async def test_a_wrong_date_makes_no_pod_old(hours: list[int], *, is_found: bool) -> None:
    """Another response must agree, and both be within four hours of this machine's clock."""
    clock = ManualClock(auto=True)
    row = pod_row("ci-1", clock.wall() - 60, "ci-1")
    ahead = [*hours, *hours]

    def answer(_: Received) -> Answer:
        date = format_datetime(datetime.fromtimestamp(clock.wall() + 3600 * ahead.pop(0), UTC), usegmt=True)
        page = {"total_count": 1, "offset": 0, "limit": 100, "data": [row]}
        return reply(page, headers={"Date": date})

    async with Server(answer) as server, make_client(server.url, clock=clock) as client:
        with suppress(primepods.ProtocolError):
            found = (await client.pods.sweep(prefix="ci-", older_than=3600, dry_run=True)).found
            assert bool(found) == is_found
            return
    assert not is_found
    assert len(server.requests) <= 3


async def test_a_prefix_is_the_callers_word(it: Stage) -> None:
    """Nobody's name is a proof: without a prefix, or with another one, the pod stays."""
    pod_ids = [it.emulator.add_pod(name, boot_seconds=0) for name in ("ci-1", "cd-1")]
    await it.clock.sleep(7_200)
    too_young: dict[str, Any] = {"prefix": "ci-", "older_than": 8_000}
    for arguments in ({}, {"older_than": 3_600}, {"expired": True}, too_young):
        assert (await it.client.pods.sweep(**arguments)).found == ()
    with pytest.raises(ValueError, match="needs older_than"):
        await it.client.pods.sweep(prefix="ci-")
    assert (await it.client.pods.sweep(prefix="ci-", older_than=3_600)).deleted == (pod_ids[0],)
    assert it.running() == [pod_ids[1]]


async def test_a_leases_age_is_told_by_the_server(it: Stage) -> None:
    """Also where its order was the first request, by a machine whose clock is behind."""
    now = it.clock.wall()
    it.clock._wall -= 10_800
    async with (
        make_client(it.emulator.url, clock=it.clock, api_key=it.emulator.api_key) as client,
        client.pods.lease(it.spec),
    ):
        assert it.records()[0].ordered_at.timestamp() == pytest.approx(now, abs=5)


async def test_a_price_below_zero_is_none(it: Stage) -> None:
    """The lease goes on, at the price that a row about the pod has."""
    it.emulator.faults.add(Edit(put={"priceHr": -1.0}), on="create")
    async with it.client.pods.lease(it.spec) as pod:
        assert 0 < pod.price_hr < it.spec.max_price  # type: ignore[operator]  # the spec of an offer has one


@pytest.mark.parametrize(
    "name", ["somebody-elses", name_of(1, "next-door"), "training", "TRAINING", "no name"]
)
async def test_a_pod_that_has_another_name_by_now_is_told(it: Stage, name: str) -> None:
    """The file of a dead process has the id of another's pod: only the unique name proves whose it is."""
    pod_id = it.emulator.add_pod(name, boot_seconds=0)
    if name == "no name":
        it.emulator.faults.add(Edit(put={"data.0.name": None, "name": None}), on="list")
    await asyncio.to_thread(left_by, it, name=name_of(0, "training"), pod_id=pod_id, given_up=True)
    sweep = await it.client.pods.sweep()
    assert (sweep.found, sweep.deleted, it.running()) == ((), (), [pod_id])
    assert name in sweep.skipped[0].reason
    assert len(it.records()) == 1


async def test_a_list_that_fails_deletes_no_pod_of_another(it: Stage) -> None:
    """`get` shows whose the id in a file is; ours is deleted, and its file when the list can be read."""
    ours, theirs = (it.emulator.add_pod(name, boot_seconds=0) for name in (name_of(), "theirs"))
    await asyncio.to_thread(left_by, it, pod_id=ours, given_up=True)
    await asyncio.to_thread(left_by, it, name=name_of(1), pod_id=theirs, given_up=True)
    it.emulator.faults.add(Status(403), on="list", times=2)
    sweep = await it.client.pods.sweep()
    assert (sweep.deleted, set(sweep.errors)) == ((ours,), {"pods.list", theirs})
    assert (it.running(), len(it.records())) == ([theirs], 2)
    await it.client.pods.sweep()
    assert (it.running(), len(it.records())) == ([theirs], 1)


async def test_a_file_whose_name_is_no_text_is_told(it: Stage, folder: Path) -> None:
    """In words that can be printed."""
    await asyncio.to_thread(left_by, it, pod_id="pod-1")
    await asyncio.to_thread((folder / os.fsdecode(b"\xff.json")).write_text, "{}")
    (odd,) = [lease for lease in (await it.client.pods.sweep()).skipped if "cannot be read" in lease.reason]
    assert b"udcff.json" in f"{odd.name}{odd.reason}".encode()
