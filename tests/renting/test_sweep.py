"""Sweeps: what they delete, what they leave alone, and what they say of it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import attrs
import pytest

import primepods
from primepods.emulator import Delay, Edit, Reset, Status
from primepods.leasing._ledger import LeaseFile, new_record
from tests.renting.stage import Stage, stage
from tests.support.client import make_client

pytestmark = pytest.mark.anyio


def write_as_a_later_version(folder: Path) -> None:
    """Add a field to the file of a lease."""
    path = next(folder.iterdir())
    path.write_text(path.read_text().replace('"name"', '"later": 1, "name"'))


def left_by(it: Stage, **changes: object) -> None:
    """Have a process order a pod, and end; with ``given_up`` as if it were dead."""
    record = new_record("theirs", it.client._executor.settings, None)
    LeaseFile.create(it.folder, attrs.evolve(record, **changes)).close()  # type: ignore[arg-type]


async def test_a_sweep_keeps_to_its_own_key_and_team(folder: Path) -> None:
    """Under another key or team a 404 proves nothing; and a file of a later version is understood."""
    async with stage(folder, options={"team_id": "team-1"}) as it:
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


async def test_a_name_that_is_listed_is_not_forgotten(folder: Path) -> None:
    """Two dead orders of one name: nobody can tell whose pod is whose, and both files stay."""
    async with stage(folder) as it:
        spec = attrs.evolve(it.spec, name="mine")
        for _ in range(2):
            await it.client.pods.create(spec)
            record = new_record("mine", it.client._executor.settings, None)
            LeaseFile.create(folder, attrs.evolve(record, given_up=True)).close()
        await it.clock.sleep(8_000)
        sweep = await it.client.pods.sweep()
        assert (sweep.deleted, set(sweep.errors)) == ((), {"mine"})
        assert len(it.records()) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_url": "https://other.example.com"}, "rented at https://other.example.com"),
        ({"key_fingerprint": "0"}, "another API key"),
        ({"team_id": "team-9"}, "of team team-9"),
        ({"host": "elsewhere"}, "on host elsewhere"),
        ({}, "its process "),
    ],
)
async def test_what_is_left_alone_is_told(folder: Path, changes: dict[str, object], reason: str) -> None:
    """With the reason, so that nobody takes an empty sweep for an empty account."""
    async with stage(folder) as it:
        await asyncio.to_thread(left_by, it, pod_id="pod-1", price_hr=2.0, **changes)
        sweep = await it.client.pods.sweep()
        assert (sweep.found, sweep.deleted) == ((), ())
        (skipped,) = sweep.skipped
        assert (skipped.name, skipped.pod_id, skipped.price_hr) == ("theirs", "pod-1", 2.0)
        assert reason in skipped.reason
        assert (await it.client.pods.sweep(prefix="mine-", older_than=60)).skipped == ()


@pytest.mark.parametrize("age", [30.0, 8_000.0])
async def test_a_living_lease_of_the_same_name_is_left_alone(folder: Path, age: float) -> None:
    """A process died before it ordered; the next one uses the name of its spec again."""
    async with stage(folder) as it:
        await asyncio.to_thread(left_by, it, given_up=True)
        await it.clock.sleep(age)
        async with it.client.pods.lease(attrs.evolve(it.spec, name="theirs")) as pod:
            sweep = await it.client.pods.sweep()
            assert (sweep.deleted, it.running()) == ((), [pod.id])
        await it.clock.sleep(3_600)
        assert not (await it.client.pods.sweep()).errors
        assert it.records() == []


async def test_a_pod_made_long_after_an_order_is_not_its_own(folder: Path) -> None:
    """Somebody has used the name again, and that pod has no file."""
    async with stage(folder) as it:
        await asyncio.to_thread(left_by, it, given_up=True)
        await it.clock.sleep(8_000)
        pod = await it.client.pods.create(attrs.evolve(it.spec, name="theirs"))
        sweep = await it.client.pods.sweep()
        assert (sweep.deleted, set(sweep.errors), it.running()) == ((), {"theirs"}, [pod.id])


async def test_a_list_that_cannot_be_read_forgets_nothing(folder: Path) -> None:
    """A replica answers without rows, and then none answers."""
    async with stage(folder) as it:
        await it.client.pods.create(attrs.evolve(it.spec, name="theirs"))
        await asyncio.to_thread(left_by, it, given_up=True)
        await it.clock.sleep(8_000)
        it.emulator.faults.add(Edit(put={"data": [], "total_count": 0}), on="list", times=2)
        it.emulator.faults.add(Status(503), on="list")
        sweep = await it.client.pods.sweep()
        assert set(sweep.errors) == {"theirs"}
        assert len(it.records()) == 1


async def test_a_pod_that_appears_during_a_sweep_is_told(folder: Path) -> None:
    """Its id was not known when it was found."""
    async with stage(folder, appear_seconds=50.0) as it:
        pod = await it.client.pods.create(attrs.evolve(it.spec, name="theirs"))
        await asyncio.to_thread(left_by, it, given_up=True)
        await it.clock.sleep(40)
        assert (await it.client.pods.sweep()).deleted == (pod.id,)


async def test_one_pod_answers_for_one_of_two_dead_orders(folder: Path) -> None:
    """The other one's may appear yet, and is found by its file then."""
    async with stage(folder, appear_seconds=40.0) as it:
        spec = attrs.evolve(it.spec, name="theirs")
        for _ in range(2):
            await it.client.pods.create(spec)
            await asyncio.to_thread(left_by, it, given_up=True)
            await it.clock.sleep(45 if it.orders() == 1 else 5)
        sweep = await it.client.pods.sweep()
        assert (len(sweep.deleted), set(sweep.errors)) == (1, {"theirs"})
        await it.clock.sleep(60)
        sweep = await it.client.pods.sweep()
        assert (len(sweep.deleted), it.running(), it.records()) == (1, [], [])


async def test_a_lease_begun_while_a_sweep_lists_is_left_alone(folder: Path) -> None:
    """Its file is newer than those that the sweep has read."""
    async with stage(folder) as it:
        it.emulator.faults.add(Delay(1.0), on="list", times=1)
        sweep = asyncio.create_task(it.client.pods.sweep(prefix="mine-", older_than=0))
        # By then it has read the files.
        await asyncio.sleep(0)
        async with it.client.pods.lease(attrs.evolve(it.spec, name="mine-1")) as pod:
            assert (await sweep).deleted == ()
            assert it.running() == [pod.id]


async def test_a_file_that_cannot_be_read_is_told(folder: Path) -> None:
    """It may be all that names a pod."""
    async with stage(folder) as it:

        def write() -> None:
            folder.mkdir()
            (folder / "broken.json").write_text('{"name": "mi')

        await asyncio.to_thread(write)
        (skipped,) = (await it.client.pods.sweep(prefix="mine-", older_than=60)).skipped
        assert (skipped.name, skipped.pod_id) == ("broken.json", None)
        assert "cannot be read" in skipped.reason


async def test_a_folder_that_cannot_be_read_is_an_error(folder: Path) -> None:
    """Whether something was left behind is unknown."""
    await asyncio.to_thread(folder.write_text, "in the way")
    async with stage(folder) as it:
        with pytest.raises(primepods.ConfigError, match="PRIMEPODS_STATE_DIR"):
            await it.client.pods.sweep()


@pytest.mark.parametrize(
    ("error", "reason"), [(errno.EWOULDBLOCK, "its process lives"), (errno.EIO, "cannot be opened")]
)
async def test_a_file_that_cannot_be_locked_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: int, reason: str
) -> None:
    """That its process lives is said only where another one has the lock."""
    fcntl = pytest.importorskip("fcntl", reason="there are no such locks on Windows")

    def flock(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    async with stage(folder) as it:
        await asyncio.to_thread(left_by, it, pod_id="pod-1", given_up=True)
        monkeypatch.setattr(fcntl, "flock", flock)
        (skipped,) = (await it.client.pods.sweep()).skipped
        assert reason in skipped.reason


async def test_only_what_was_found_before(folder: Path) -> None:
    """What a dry run has shown is deleted, also where its id was not known then; what came later is left."""
    async with stage(folder) as it:
        await asyncio.to_thread(left_by, it, given_up=True)
        shown = await it.client.pods.sweep(dry_run=True)
        assert [pod.pod_id for pod in shown.found] == [None]
        appeared = it.emulator.add_pod("theirs", boot_seconds=0)
        later = it.emulator.add_pod("later", boot_seconds=0)
        await asyncio.to_thread(left_by, it, name="later", pod_id=later, given_up=True)
        sweep = await it.client.pods.sweep(only=shown)
        assert (sweep.deleted, sweep.errors) == ((appeared,), {})
        assert list(it.emulator.pods) == [later]
        assert len(it.records()) == 1


async def test_drafts_of_killed_processes_are_removed(folder: Path) -> None:
    """A day later, when nobody can be writing them; nothing was ordered yet."""
    async with stage(folder) as it:

        def age(name: str, seconds: float) -> Path:
            folder.mkdir(exist_ok=True)
            draft = folder / f"{name}.draft"
            draft.touch()
            os.utime(draft, (it.clock.wall() - seconds,) * 2)
            return draft

        old = await asyncio.to_thread(age, "old", 100_000)
        new = await asyncio.to_thread(age, "new", 10)
        await it.client.pods.sweep()
        assert (old.exists(), new.exists()) == (False, True)
