"""A leased pod is handed over ready, and deleted and confirmed gone on every way out."""

import asyncio
import contextlib
import logging
import math
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import primepods
from primepods.emulator import Delay, Edit, Status
from tests.renting.stage import Stage, stage


async def test_a_pod_for_a_block(it: Stage) -> None:
    """It is ready in the block, its file says so, and nothing is left behind."""
    async with it.client.pods.lease(it.spec) as pod:
        assert pod.status.is_ready
        assert pod.ssh is not None
        assert it.running() == [pod.id]
        (record,) = it.records()
        assert (record.name, record.pod_id, record.price_hr) == (pod.name, pod.id, pod.price_hr)
        await it.clock.sleep(3600)
        assert f"<td>{pod.name}</td>" in pod._repr_html_()
        assert pod.spent() == pytest.approx(pod.price_hr * it.clock.elapsed / 3600, rel=0.01)
    assert it.records() == []
    assert pod.id not in it.emulator.pods
    cost = await pod.final_cost()
    assert cost == pytest.approx(pod.spent(), rel=0.1)


async def test_a_lease_needs_no_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folder of leases is named: a container's user may have none."""
    monkeypatch.setenv("HOME", "~")
    async with stage(folder) as it:
        async with it.client.pods.lease(it.spec):
            assert it.running()
        assert not it.running()


async def test_a_final_cost_is_the_bill_that_has_settled(it: Stage) -> None:
    """Two responses in a row have the same figure: the first ones are of a bill that still grows."""
    async with it.client.pods.lease(it.spec) as pod:
        pass
    for bill in (1.0, 2.0):
        it.emulator.faults.add(Edit(put={"data.0.totalBilledPrice": bill}), on="history", times=1)
    it.emulator.faults.add(Edit(put={"data.0.totalBilledPrice": 3.0}), on="history")
    assert await pod.final_cost() == 3.0


@pytest.mark.parametrize("bad", [{"timeout": math.nan}, {"interval": 0}])
async def test_a_final_cost_has_an_end_and_pauses(it: Stage, bad: dict[str, float]) -> None:
    """Waiting for a bill that never settles ends, and the API is not asked without a pause."""
    async with it.client.pods.lease(it.spec) as pod:
        pass
    with pytest.raises(ValueError, match=next(iter(bad))):
        await pod.final_cost(**bad)


async def test_a_final_cost_of_a_closed_client_is_not_waited_for(it: Stage) -> None:
    """No later response can tell it, so that the error comes at once and not after the timeout."""
    async with it.client.pods.lease(it.spec) as pod:
        pass
    await it.client.aclose()
    before = it.clock.elapsed
    with pytest.raises(primepods.ClientClosedError):
        await pod.final_cost()
    assert it.clock.elapsed == before


class StopError(BaseException):
    """What is no `Exception`, as what test frameworks raise."""


@pytest.mark.parametrize(("kind", "told"), [(StopError, StopError), (asyncio.CancelledError, RuntimeError)])
@pytest.mark.parametrize("is_async", [False, True])
async def test_whatever_a_callback_raises_ends_the_lease(
    it: Stage, kind: type[BaseException], told: type[BaseException], *, is_async: bool
) -> None:
    """Though it is no `Exception`; what would end the task without an error is told as the callback's."""

    def stop(_: object) -> None:
        raise kind

    async def stop_later(_: object) -> None:
        await asyncio.sleep(0)
        raise kind

    lease = it.client.pods.lease(it.spec, on_change=stop_later if is_async else stop)
    with pytest.raises(told, match=None if kind is told else kind.__name__):
        await lease.__aenter__()
    assert (it.running(), it.records()) == ([], [])


async def test_a_callback_that_is_cancelled_is_not_blamed(it: Stage) -> None:
    """Something cancels all tasks while `on_change` runs: the pod is deleted, and no error says it raised."""
    running: list[asyncio.Task[Any] | None] = []

    async def wait(_: object) -> None:
        running.append(asyncio.current_task())
        await asyncio.Event().wait()

    entering = asyncio.create_task(it.client.pods.lease(it.spec, on_change=wait).__aenter__())
    while not running:
        await it.clock.sleep(1)
    (task,) = running
    assert task is not None
    task.cancel()
    with pytest.raises(primepods.ClientClosedError, match="The lease deletes the pod"):
        await entering
    assert (it.running(), it.records()) == ([], [])


async def test_a_callback_that_ignores_its_cancellation_holds_no_release(it: Stage) -> None:
    """The pod is deleted a minute later."""
    staying: list[asyncio.Task[Any] | None] = []
    may_go = asyncio.Event()

    async def stay(_: object) -> None:
        staying.append(asyncio.current_task())
        while not may_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_go.wait()

    entering = asyncio.create_task(it.client.pods.lease(it.spec, on_change=stay).__aenter__())
    while not staying:
        await it.clock.sleep(1)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert (it.running(), it.records()) == ([], [])
    assert it.clock.elapsed < 120
    may_go.set()
    assert staying[0] is not None
    staying[0].cancel()


async def test_what_is_being_deleted_cannot_be_kept(it: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """When its budget is used up; it says so, and the file stays for a sweep."""
    it.emulator.faults.add(Status(403), on="delete")

    async def use_and_keep(pod: primepods.AsyncLeasedPod) -> None:
        try:
            await it.clock.sleep(7200)
        finally:
            pod.keep()

    with pytest.raises(primepods.BudgetExceededError, match="max_hours"):
        async with it.client.pods.lease(it.spec, max_hours=1, wind_down=0) as pod:
            await use_and_keep(pod)
    assert "is not kept" in caplog.text
    assert [record.pod_id for record in it.records()] == [pod.id]


async def test_an_exception_passes_when_the_pod_is_gone(it: Stage) -> None:
    """As it is."""
    with pytest.raises(ZeroDivisionError) as caught:
        async with it.client.pods.lease(it.spec):
            raise ZeroDivisionError
    assert not hasattr(caught.value, "__notes__")
    assert (len(it.emulator.pods), it.records()) == (0, [])


async def test_an_order_that_was_sent_is_finished_first(folder: Path) -> None:
    """A cancellation waits for its response: the pod, which appears later, is deleted by its id."""
    async with stage(folder, appear_seconds=30.0) as it:
        it.emulator.faults.add(Delay(5.0), on="create")
        entering = asyncio.create_task(it.client.pods.lease(it.spec).__aenter__())
        while not it.records():
            await it.clock.sleep(0.1)
        await it.clock.sleep(1)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await entering
        assert not hasattr(caught.value, "__notes__")
        assert (it.orders(), len(it.emulator.pods), it.records()) == (1, 0, [])


async def test_the_third_interruption_gives_up_and_says_so(
    it: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """In a note, in the log and in the file, by which a sweep finds the pod at once."""

    async def use() -> None:
        async with it.client.pods.lease(it.spec):
            it.emulator.faults.add(Status(503), on="delete")
            await it.clock.sleep(10_000)

    task = asyncio.create_task(use())
    await it.clock.sleep(500)
    for _ in range(3):
        task.cancel()
        await it.clock.sleep(1)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    (pod_id,) = it.running()
    assert pod_id in caught.value.__notes__[0]
    assert any(pod_id in record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert [(record.pod_id, record.given_up) for record in it.records()] == [(pod_id, True)]
    it.emulator.faults.clear()
    assert (await it.client.pods.sweep()).deleted == (pod_id,)
    assert (len(it.emulator.pods), it.records()) == (0, [])


async def test_a_hurried_release_polls_every_second(folder: Path) -> None:
    """A pod that goes within the ten seconds is seen to be gone, though the lease polls every half minute."""
    async with stage(folder, delete_seconds=6.0) as it:

        async def use() -> None:
            async with it.client.pods.lease(it.spec, interval=30.0):
                await it.clock.sleep(10_000)

        task = asyncio.create_task(use())
        await it.clock.sleep(500)
        for _ in range(2):
            task.cancel()
            await it.clock.sleep(1)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert not hasattr(caught.value, "__notes__")
        assert (len(it.emulator.pods), it.records()) == (0, [])


async def test_a_timeout_around_the_block_is_a_timeout(it: Stage) -> None:
    """Asyncio's and anyio's, whose scopes cancel again and again."""
    with pytest.raises(TimeoutError):
        async with it.clock.timeout_at(it.clock.time() + 500), it.client.pods.lease(it.spec):
            await it.clock.sleep(10_000)
    assert (len(it.emulator.pods), it.records()) == (0, [])
    with anyio.CancelScope() as scope:
        async with it.client.pods.lease(it.spec):
            scope.cancel()
            await it.clock.sleep(1)
    assert scope.cancelled_caught
    assert (len(it.emulator.pods), it.records()) == (0, [])


@pytest.mark.parametrize(("budget", "max_price"), [("max_hours", 4), ("max_spend", 4), ("max_hours", 100)])
async def test_a_budget_deletes_and_raises_in_the_block(
    folder: Path, budget: str, max_price: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a wind-down, the pod is gone when the block hears of it; nobody cancels its task in the end.

    Also if the hourly limit has refused the first order.
    """
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "50")
    async with stage(folder) as it:
        gone: dict[str, bool] = {}
        specs = [attrs.evolve(it.spec, max_price=price) for price in (max_price, 4)]

        async def use() -> None:
            budgets: dict[str, Any] = {budget: 1.0}
            async with it.client.pods.lease(specs, wind_down=0, **budgets) as pod:
                try:
                    await it.clock.sleep(1e6)
                finally:
                    gone[pod.id] = pod.id not in it.emulator.pods

        with pytest.raises(primepods.BudgetExceededError, match=rf"{budget}=.* cost about \$\d") as caught:
            await use()
        assert gone == {caught.value.pod_id: True}
        assert caught.value.limit == 1.0
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        assert it.records() == []


async def test_a_program_may_change_its_directory(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the files may be named from where it was when the lease began."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", folder.name)
    async with stage(folder) as it:
        async with it.client.pods.lease(it.spec):
            assert len(it.records()) == 1
            monkeypatch.chdir("/")
        assert it.records() == []


async def test_nothing_is_ordered_without_a_file(folder: Path) -> None:
    """A folder that cannot be written would let a pod be forgotten."""
    await asyncio.to_thread(folder.write_text, "in the way")
    async with stage(folder) as it:
        with pytest.raises(primepods.ConfigError, match="PRIMEPODS_STATE_DIR"):
            async with it.client.pods.lease(it.spec):
                pytest.fail("nothing was rented")
        assert it.orders() == 0


async def test_a_deletion_that_fails_for_minutes_succeeds_in_the_end(it: Stage) -> None:
    """An outage of the API does not leave the pod behind."""
    async with it.client.pods.lease(it.spec):
        it.emulator.faults.add(Status(503), on="delete", times=60)
    assert (it.running(), it.records()) == ([], [])


@pytest.mark.parametrize("fails", [False, True])
async def test_a_pod_that_cannot_be_deleted_is_named(it: Stage, *, fails: bool) -> None:
    """As an error, or as a note on the exception under way."""

    async def use() -> None:
        async with it.client.pods.lease(it.spec, release_timeout=60):
            it.emulator.faults.add(Status(503), on="delete")
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError if fails else primepods.NotReleasedError) as caught:
        await use()
    told = caught.value.__notes__[0] if fails else str(caught.value)
    (pod_id,) = it.running()
    assert pod_id in told
    assert "primepods sweep" in told
    assert [record.pod_id for record in it.records()] == [pod_id]
    it.emulator.faults.clear()


async def test_a_client_that_is_being_closed_leases_nothing(it: Stage) -> None:
    """It could not delete that pod when the others are gone."""
    await it.client.pods.lease(it.spec).__aenter__()
    closing = asyncio.create_task(it.client.aclose())
    await it.clock.sleep(1)
    with pytest.raises(primepods.ClientClosedError):
        async with it.client.pods.lease(it.spec):
            pytest.fail("nothing was rented")
    await closing
    assert (it.orders(), it.running(), it.records()) == (1, [], [])


async def test_open_leases_are_released_together(folder: Path) -> None:
    """Not one after another: the last pod would be billed for all of them."""
    async with stage(folder, delete_seconds=50) as it:
        for _ in range(4):
            await it.client.pods.lease(it.spec).__aenter__()
        before = it.clock.elapsed
        await it.client.aclose()
        assert it.clock.elapsed - before < 100
        assert (it.running(), it.records()) == ([], [])


async def test_interruptions_of_a_close_hurry_all_releases(it: Stage) -> None:
    """Not one after another, each for as long as `release_timeout`."""
    pods = [await it.client.pods.lease(it.spec).__aenter__() for _ in range(3)]
    it.emulator.faults.add(Status(503), on="delete")
    before = it.clock.elapsed
    closing = asyncio.create_task(it.client.aclose())
    for _ in range(3):
        await it.clock.sleep(1)
        closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert it.clock.elapsed - before < 20
    assert {record.pod_id for record in it.records() if record.given_up} == {pod.id for pod in pods}


async def test_a_release_that_fails_is_told_once_a_minute(
    it: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """For as long as it is tried, with what fails."""
    with pytest.raises(primepods.NotReleasedError):
        async with it.client.pods.lease(it.spec, release_timeout=300):
            it.emulator.faults.add(Status(401), on="delete")
    told = [line for line in caplog.messages if "not released yet" in line]
    assert 4 <= len(told) <= 6
    assert "401" in told[-1]
    it.emulator.faults.clear()


async def test_a_lease_is_used_once(it: Stage) -> None:
    """A second block gets another lease."""
    lease = it.client.pods.lease(it.spec)
    async with lease:
        pass
    with pytest.raises(RuntimeError, match="once"):
        async with lease:
            pass
