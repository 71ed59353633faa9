"""What a lease relies on: proof that a pod is gone, its file, the price, the clock, and its own task."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import attrs
import pytest

import primepods
from primepods.config import lease_folder
from primepods.emulator import Delay, Edit, LostDeletion, Status
from primepods.leasing._lease_record import new_record
from primepods.leasing.ledger import LeaseFile, read_ledger
from primepods.runs import take_over_lease
from tests.renting.stage import Stage, lease_files, name_of, stage


async def test_the_history_proves_at_once_that_an_unseen_pod_is_gone(folder: Path) -> None:
    """Nobody waits a minute for a pod that has ended before anything has shown it."""
    async with stage(folder, delete_seconds=0) as it:
        it.emulator.faults.add(Edit(put={"data": []}), on="status")
        entering = asyncio.create_task(it.client.pods.lease(it.spec).__aenter__())
        await it.clock.sleep(2)
        (pod_id,) = it.running()
        it.emulator.delete_pod(pod_id)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert it.clock.elapsed < 10
        assert it.records() == []


@pytest.mark.parametrize("seconds", [5, 36_000])
async def test_a_deletion_that_the_provider_loses_is_sent_again(it: Stage, seconds: float) -> None:
    """It was accepted, and a while later the pod is ACTIVE all the same, or still DELETING."""
    it.emulator.faults.add(LostDeletion(seconds), on="delete", times=1)
    async with it.client.pods.lease(it.spec):
        pass
    assert len(it.emulator.requests.where(method="DELETE")) > 1
    assert (it.running(), it.records()) == ([], [])


async def test_each_request_is_sent_for_the_team_of_the_spec(folder: Path) -> None:
    """The order, the waits, the deletion and the file."""
    async with stage(folder, options={"team_id": "ours"}) as it:
        teams: set[str | None] = set()
        send = it.client._executor.transport.send

        async def note(*args: Any, settings: Any, **kwargs: Any) -> Any:
            teams.add(settings.team_id)
            return await send(*args, settings=settings, **kwargs)

        it.client._executor.transport.send = note  # type: ignore[method-assign]  # it counts what is sent
        async with it.client.pods.lease(attrs.evolve(it.spec, team_id="clemulator0002team")):
            assert [record.team_id for record in it.records()] == ["clemulator0002team"]
        assert teams == {"clemulator0002team"}


async def test_a_file_that_cannot_be_removed_is_no_running_pod(
    it: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod is gone: the lease ends well, and the log says which file is left."""

    def unlink(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    async with it.client.pods.lease(it.spec):
        monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.undo()
    assert it.running() == []
    assert any("cannot be removed" in line for line in caplog.messages)


def test_the_home_directory_may_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `~` in the variable is that of the user, in files that no shell reads, too."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", "~/state")
    assert lease_folder() == Path.home() / "state"


async def test_the_highest_price_counts(it: Stage) -> None:
    """A price of 0 in the response to the order is none; a row has another one."""
    it.emulator.faults.add(Edit(put={"priceHr": 0}), on="create", times=1)
    it.emulator.faults.add(Edit(put={"data.0.costPerHr": 50.0, "data.0.priceHr": 50.0}), on="status", times=1)
    seen: list[tuple[float, float]] = []

    async def use() -> None:
        async with it.client.pods.lease(it.spec, max_spend=25.0) as pod:
            try:
                await it.clock.sleep(10_000)
            finally:
                seen.append((pod.price_hr, pod.spent()))

    with pytest.raises(primepods.BudgetExceededError, match="max_spend"):
        await use()
    ((price, spent),) = seen
    assert price == 50.0
    assert spent == pytest.approx(25, rel=0.05)


async def test_a_spend_limit_needs_a_price(it: Stage) -> None:
    """Without one in the order and in its response nothing limits the cost: the pod is deleted."""
    it.emulator.faults.add(Edit(put={"priceHr": 0}), on="create")
    spec = attrs.evolve(it.spec, max_price=None)
    with pytest.raises(primepods.BudgetExceededError, match=r"unknown price.* be enforced") as caught:
        await it.client.pods.lease(spec, max_spend=5.0).__aenter__()
    assert (caught.value.limit, it.orders(), it.running(), it.records()) == (5.0, 1, [], [])


async def test_a_price_above_the_limit_ends_the_lease(it: Stage) -> None:
    """Also where the API orders it all the same: the pod is deleted, and the error says what it costs."""
    it.emulator.faults.add(Edit(put={"priceHr": 100.5}), on="create", times=1)
    with pytest.raises(primepods.PriceTooHighError, match=r"100\.50"):
        await it.client.pods.lease(it.spec).__aenter__()
    assert (it.orders(), it.running(), it.records()) == (1, [], [])


async def test_a_budget_goes_on_while_the_machine_sleeps(it: Stage) -> None:
    """A laptop that is opened again deletes the pod within a minute."""

    async def use() -> None:
        async with it.client.pods.lease(it.spec, max_hours=2) as pod:
            it.clock.suspend(3 * 3600)
            assert pod.spent() > 2.9 * pod.price_hr
            await it.clock.sleep(10_000)

    with pytest.raises(primepods.BudgetExceededError):
        await use()
    assert it.clock.elapsed < 250


@pytest.mark.parametrize(("spares", "keeps"), [(False, False), (True, False), (True, True)])
async def test_a_block_is_told_when_something_cancels_all_tasks(
    it: Stage, caplog: pytest.LogCaptureFixture, *, spares: bool, keeps: bool
) -> None:
    """The pod is given back: the block must not go on believing in it. A kept one is not called deleted."""
    steps: list[str] = []

    async def use() -> None:
        async with it.client.pods.lease(it.spec) as pod:
            if keeps:
                pod.keep()
                it.emulator.faults.add(Delay(45.0), on="list")
            try:
                await it.clock.sleep(10_000)
            except asyncio.CancelledError:
                steps.append("told")
                raise

    task = asyncio.create_task(use())
    for seconds in (200, 1):
        await it.clock.sleep(seconds)
        for other in asyncio.all_tasks():
            name = getattr(other.get_coro(), "__qualname__", "")
            if "Supervisor" in name or (other is task and not spares):
                other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (steps, len(it.running())) == (["told"], int(keeps))
    assert ("deleted" not in caplog.text) is keeps


async def test_a_kept_pod_with_an_expiry_is_told(it: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Its name says that nobody wants it then."""
    async with it.client.pods.lease(it.spec, max_hours=1) as pod:
        pod.keep()
    assert any("expires" in line for line in caplog.messages)


async def test_a_long_name_is_shortened_and_said(it: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The suffix must not be cut by a server."""
    with caplog.at_level(logging.INFO, logger="primepods"):
        async with it.client.pods.lease(attrs.evolve(it.spec, name="n" * 80), max_hours=1) as pod:
            assert len(pod.name) == 63
    assert any("shortens" in line for line in caplog.messages)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With the start of the system and the namespace of the process's id; other files are told."""
    settings = primepods.AsyncClient("key")._executor.settings
    record = new_record(name_of(), settings)
    file = LeaseFile.new(tmp_path, record).write()
    ledger = read_ledger(tmp_path)
    assert (list(ledger.records.values()), ledger.unreadable) == ([record], {})
    assert record.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    data = json.loads(file.path.read_text())
    for name, value in {"pid": "7", "given_up": 1, "pod_id": 5, "price_hr": "2", "ordered_at": 7}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data | {name: value}))
    assert len(read_ledger(tmp_path).unreadable) == 5
    file.close()


async def test_a_pod_that_was_seen_is_gone_with_its_first_404(folder: Path) -> None:
    """Nobody waits for it to appear again."""
    async with stage(folder, delete_seconds=0) as it:
        async with it.client.pods.lease(it.spec) as pod:
            it.emulator.faults.add(Status(503), on="history")
            it.emulator.delete_pod(pod.id)
            before = it.clock.elapsed
        assert it.clock.elapsed - before < 15
        assert it.records() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deletion", "delay", "limit", "most", "left"),
    [(8, 0.1, 600, 11, 0), (8, 300, 600, 11, 1), (30, 0.1, 600, 11, 1), (60, 0, 5, 5.5, 1)],
)
async def test_an_interrupted_release_has_no_more_than_its_limit(
    folder: Path, deletion: float, delay: float, *, limit: float, most: float, left: int
) -> None:
    """Ten seconds after the deletion was accepted, to confirm it and find a twin; then its file stays."""
    async with stage(folder, delete_seconds=deletion) as it:
        it.emulator.faults.add(Delay(delay), on="list")

        async def use() -> None:
            async with it.client.pods.lease(it.spec, interval=0.5, release_timeout=limit):
                await it.clock.sleep(200)

        task = asyncio.create_task(use())
        while not it.emulator.requests.where(method="DELETE"):
            await it.clock.sleep(0.5)
        begun = it.clock.elapsed
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert it.clock.elapsed - begun <= most
        assert len(it.records()) == left


async def test_a_kept_pod_is_not_swept(it: Stage, folder: Path) -> None:
    """If its process dies in the block, a sweep deletes only the other pod with its name, then the file."""
    async with it.client.pods.lease(it.spec) as pod:
        pod.keep()
        await it.clock.sleep(300)
        [record] = it.records()
        assert record.is_kept
        LeaseFile.new(folder, attrs.evolve(record, given_up=True)).write().close()
        twin = it.emulator.add_pod(pod.name, boot_seconds=0)
        assert (await it.client.pods.sweep()).deleted == (twin,)
        assert it.running() == [pod.id]
    assert (it.running(), it.records()) == ([pod.id], [])
    LeaseFile.new(folder, attrs.evolve(record, given_up=True)).write().close()
    assert (await it.client.pods.sweep()).found == ()
    assert (it.running(), it.records()) == ([pod.id], [])


async def test_a_kept_pod_stays_after_a_take_over(it: Stage, folder: Path) -> None:
    """Its process died after `keep`: another one takes its lease over, and deletes it as little."""
    async with it.client.pods.lease(it.spec) as pod:
        pod.keep()
        [record] = it.records()
    LeaseFile.new(folder, attrs.evolve(record, given_up=True)).write().close()
    [(path, _)] = lease_files(folder)
    lease = take_over_lease(it.client, path.name, was_shown=True)
    assert lease is not None
    async with lease as taken:
        assert taken.is_kept
    assert (it.running(), it.records()) == ([pod.id], [])


async def test_a_price_that_rises_during_the_boot_ends_the_lease_at_once(folder: Path) -> None:
    """The next status shows it, and not the next look at the budget, a minute later."""
    async with stage(folder, boot_seconds=600) as it:
        entering = asyncio.create_task(it.client.pods.lease(it.spec, max_spend=1.0).__aenter__())
        await it.clock.sleep(65)
        it.emulator.faults.add(Edit(put={"data.0.costPerHr": 3_600.0}), on="status")
        with pytest.raises(primepods.BudgetExceededError, match="max_spend=1"):
            await entering
        assert it.emulator.requests.where(method="DELETE")[0].time < 75


async def test_a_kept_pod_goes_on_after_its_budget(it: Stage) -> None:
    """Also where it is kept in the last minute."""
    async with it.client.pods.lease(it.spec, max_hours=1) as pod:
        await it.clock.sleep(3_500)
        pod.keep()
        await it.clock.sleep(1_000)
    assert it.running() == [pod.id]
