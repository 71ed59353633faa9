"""A block can save its work: before a limit, and after it was cancelled."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

import primepods
from tests.renting.stage import Stage, stage


def deleted_at(it: Stage) -> list[float]:
    """When the deletion of each pod was requested."""
    return [request.time for request in it.emulator.requests.where(method="DELETE")]


async def save(it: Stage, seconds: float, **options: Any) -> float | None:
    """Work in a lease for ever, save that work for some seconds; returns how many the limit leaves for it."""
    left: float | None = None

    async def use() -> None:
        nonlocal left
        async with it.client.pods.lease(it.spec, **options) as pod:
            try:
                await it.clock.sleep(1e6)
            finally:
                left = pod.seconds_left
                await it.clock.sleep(seconds)
                if pod.id in it.running():
                    pod._check_usable()
                else:
                    with pytest.raises(primepods.PrimePodsError, match="has reached max_"):
                        await pod.run("true")

    with pytest.raises(primepods.BudgetExceededError, match=r"reaches max_\w+=.* cost about \$\d"):
        await use()
    assert (it.running(), it.records()) == ([], [])
    return left


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ({"max_hours": 1.0}, 60),
        ({"max_spend": 0.5}, 60),
        ({"max_hours": 0.1}, 36),
        ({"max_spend": 0.01}, 14.4),
        ({"max_hours": 1.0, "wind_down": 5}, 5),
    ],
    ids=str,
)
async def test_a_block_winds_down_before_its_limit(
    folder: Path, limit: dict[str, Any], seconds: float
) -> None:
    """For a minute, at most a tenth of the limit: its `finally` still uses the pod."""
    async with stage(folder, boot_seconds=0) as it:
        assert await save(it, 1, **limit) == pytest.approx(seconds, abs=0.5)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


@pytest.mark.parametrize("limit", [{"max_hours": 1.0}, {"max_spend": 0.25}], ids=str)
async def test_a_limit_is_never_passed(folder: Path, limit: dict[str, Any]) -> None:
    """A `finally` that needs longer finds the pod deleted."""
    async with stage(folder, boot_seconds=0) as it:
        await save(it, 200, **limit)
        assert deleted_at(it)[0] == pytest.approx(3600, abs=1)


async def test_a_block_that_is_saving_its_work_is_not_cancelled_again(folder: Path) -> None:
    """It was cancelled a minute before its wind-down begins."""
    saved: list[float] = []

    async def work() -> None:
        async with it.client.pods.lease(it.spec, max_hours=1):
            try:
                await it.clock.sleep(1e6)
            finally:
                await it.clock.sleep(90)
                saved.append(it.clock.elapsed)

    async with stage(folder, boot_seconds=0) as it:
        task = asyncio.create_task(work())
        await it.clock.sleep(3_480)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert saved == [pytest.approx(3_570)]


def cancel_lease() -> None:
    """Cancel the tasks of leases, as the end of a loop does, and `exit_on_sigterm` without a main task."""
    for task in asyncio.all_tasks():
        name = getattr(task.get_coro(), "__qualname__", "")
        if "LeaseSupervisor" in name or "_wait_for_cancellation" in name:
            task.cancel()


async def work(it: Stage, steps: list[str], *, is_stubborn: bool = False) -> None:
    """Work in a lease until a cancellation, then save that work with the pod for a minute."""
    async with it.client.pods.lease(it.spec, max_hours=1) as pod:
        try:
            await it.clock.sleep(1e6)
        finally:
            while is_stubborn and it.running():
                with contextlib.suppress(asyncio.CancelledError):
                    await it.clock.sleep(10)
            await it.clock.sleep(60)
            steps.append("saved" if it.running() == [pod.id] else "lost")


@pytest.mark.parametrize("how", ["task", "all", "lease", "group", "timeout"])
async def test_a_cancelled_block_can_save_its_work(folder: Path, how: str) -> None:
    """Whoever cancels it, or the tasks of its lease, or both: the pod is deleted at the end of the block."""
    steps: list[str] = []

    async def fail() -> None:
        await it.clock.sleep(100)
        raise ZeroDivisionError

    async def run() -> None:
        if how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await work(it, steps)
        else:
            async with it.clock.timeout_at(it.clock.time() + (100 if how == "timeout" else 1e6)):
                await work(it, steps)

    async with stage(folder, boot_seconds=0) as it:
        task = asyncio.create_task(run())
        await it.clock.sleep(100)
        if how in {"task", "all"}:
            task.cancel()
        if how in {"lease", "all"}:
            cancel_lease()
        await asyncio.wait({task})
        error = None if task.cancelled() else task.exception()
        assert type(error) is {"group": ExceptionGroup, "timeout": TimeoutError}.get(how, type(None))
        assert (steps, it.running(), it.records()) == (["saved"], [], [])


@pytest.mark.parametrize("times", [1, 2])
async def test_a_block_that_does_not_end_loses_its_pod(folder: Path, times: int) -> None:
    """It ignores each cancellation: the second one of its lease, or the limit, deletes the pod."""
    async with stage(folder, boot_seconds=0) as it:
        steps: list[str] = []
        task = asyncio.create_task(work(it, steps, is_stubborn=True))
        for _ in range(times):
            await it.clock.sleep(100)
            cancel_lease()
        await asyncio.wait({task})
        assert steps == ["lost"]
        assert deleted_at(it)[0] == pytest.approx(3_600 if times == 1 else 200, abs=1)
        assert it.records() == []


@pytest.mark.parametrize("is_entered_here", [False, True])
async def test_a_lease_without_a_block_does_not_wait_for_one(folder: Path, *, is_entered_here: bool) -> None:
    """The task that entered it has ended, or ends without leaving it: a cancellation deletes the pod."""

    async def enter() -> None:
        await it.client.pods.lease(it.spec).__aenter__()
        if is_entered_here:
            await it.clock.sleep(1e6)

    async with stage(folder, boot_seconds=0) as it:
        task = asyncio.create_task(enter())
        await it.clock.sleep(100)
        assert task.done() is not is_entered_here
        cancel_lease()
        await asyncio.wait({task})
        await it.clock.sleep(60)
        assert (it.running(), it.records()) == ([], [])
