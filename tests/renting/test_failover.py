"""A lease over several specs: the next one when one brings no pod, and at most one pod at a time."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

import primepods
from primepods import PodSpec
from primepods.emulator import Edit, Fault, Status
from tests.renting.stage import Stage, stage


def specs_of(it: Stage, count: int = 3) -> list[PodSpec]:
    """Orders that differ by their names."""
    return [attrs.evolve(it.spec, name=f"choice-{number}") for number in range(count)]


SOLD_OUT = Status(400, body={"detail": "That machine is sold out"})
TOO_DEAR = Status(400, body={"detail": "The price is above maxPrice"})

FIRST_FAILS: dict[str, Callable[[Stage], object]] = {
    "sold out": lambda it: it.emulator.faults.add(SOLD_OUT, on="create", times=1),
    "too dear": lambda it: it.emulator.faults.add(TOO_DEAR, on="create", times=1),
    "dearer than agreed": lambda it: it.emulator.faults.add(
        Edit(put={"priceHr": 1_000.0}), on="create", times=1
    ),
    "dearer once it runs": lambda it: it.emulator.faults.add(
        Edit(put={"data.0.costPerHr": 1_000.0, "data.0.priceHr": 1_000.0}), on="status", times=1
    ),
    "failed boot": lambda it: it.emulator.faults.add(
        Edit(put={"data.0.status": "ERROR"}), on="status", times=1
    ),
    "no address": lambda it: it.emulator.faults.add(
        Edit(put={"data.0.status": "STOPPED"}), on="status", times=1
    ),
}


@pytest.mark.parametrize("trouble", FIRST_FAILS)
async def test_the_next_spec_is_tried(it: Stage, trouble: str) -> None:
    """When the first is given back; the block gets the second, and nothing is left."""
    FIRST_FAILS[trouble](it)
    async with it.client.pods.lease(specs_of(it)) as pod:
        assert pod.name.startswith("choice-1-")
        assert it.running() == [pod.id]
        assert [record.name for record in it.records()] == [pod.name]
    assert (it.orders(), it.running(), it.records()) == (2, [], [])


async def test_the_last_error_carries_the_others(it: Stage) -> None:
    """As notes, in their order."""
    it.emulator.faults.add(SOLD_OUT, on="create", times=1)
    it.emulator.faults.add(TOO_DEAR, on="create", times=1)
    it.emulator.faults.add(SOLD_OUT, on="create", times=1)
    with pytest.raises(primepods.SoldOutError) as caught:
        await it.client.pods.lease(specs_of(it)).__aenter__()
    first, second = caught.value.__notes__
    assert "sold out" in first
    assert "maxPrice" in second
    assert (it.orders(), it.records()) == (3, [])


async def test_the_error_of_a_wait_says_that_its_pod_is_deleted(folder: Path) -> None:
    """Outside a lease it says that the pod goes on and is billed, and to delete it."""
    async with stage(folder, boot_seconds=900.0) as it:
        with pytest.raises(primepods.WaitTimeoutError) as caught:
            await it.client.pods.lease(specs_of(it)[:2], ready_timeout=60).__aenter__()
        assert it.running() == []
        (first,) = caught.value.__notes__
        assert first.startswith("Before that: After 60 s")
        told = f"{first}\n{caught.value}"
        assert "billed" not in told
        deleted = re.findall("Its lease has deleted pod (.*)[.]", told)
        assert len(set(deleted)) == it.orders() == 2


@pytest.mark.parametrize("error", [Status(402), Status(403), Status(400)])
async def test_other_errors_end_the_lease(it: Stage, error: Fault) -> None:
    """No other machine helps against them."""
    it.emulator.faults.add(error, on="create", times=1)
    with pytest.raises(primepods.PrimePodsError):
        await it.client.pods.lease(specs_of(it)).__aenter__()
    assert it.orders() == 1


@pytest.mark.slow
async def test_orders_wait_for_their_turn(folder: Path) -> None:
    """Ten leases under a rate limit that lets one order through within a call's deadline all end ready."""
    async with stage(folder, options={"deadline": 20}) as it:
        it.emulator.faults.add(Status(429, retry_after=1), on="create", rate_limit=1, window=20)
        async with AsyncExitStack() as leases:
            entered = (leases.enter_async_context(it.client.pods.lease(it.spec)) for _ in range(10))
            pods = await asyncio.gather(*entered)
            assert sorted(pod.id for pod in pods) == sorted(it.running())
            assert it.clock.elapsed > 180
        assert (it.running(), it.records()) == ([], [])


async def test_an_order_waits_as_long_as_the_api_asks(folder: Path) -> None:
    """With jitter on top: no order comes before `Retry-After` has passed."""
    for seed in range(4):
        async with stage(folder, seed=seed) as it:
            it.emulator.faults.add(Status(429, retry_after=60), on="create", times=1)
            async with it.client.pods.lease(it.spec):
                first, second = it.emulator.requests.where(operation="create")
        assert second.time - first.time >= 60


@pytest.mark.slow
@pytest.mark.parametrize(("deadline", "count", "window"), [(10, 20, 0.2), (120, 10, 2)])
async def test_releases_wait_for_their_turn(folder: Path, deadline: int, count: int, window: float) -> None:
    """Under a rate limit, neither a deletion begins anew at its deadline, nor its confirmation for ever."""
    async with stage(folder, options={"deadline": deadline}, boot_seconds=1.0, delete_seconds=0.3) as it:
        it.emulator.faults.add(Status(429, retry_after=1), rate_limit=1, window=window)

        async def use() -> None:
            async with it.client.pods.lease(it.spec, interval=1):
                pass

        await asyncio.gather(*(use() for _ in range(count)))
        assert len(it.emulator.requests.where(method="DELETE", status={200, 404})) == count
        assert it.running() == []
        # A list that got no turn in time leaves files to a sweep.
        it.emulator.faults.clear()
        await it.client.pods.sweep()
        assert it.records() == []


async def test_a_lease_gives_up_an_order_that_gets_no_turn(folder: Path) -> None:
    """After `ready_timeout`, or when it is cancelled; nothing is left."""
    async with stage(folder, options={"deadline": 20}) as it:
        it.emulator.faults.add(Status(429, retry_after=1), on="create")
        with pytest.raises(primepods.RateLimitError):
            await it.client.pods.lease(it.spec, ready_timeout=300).__aenter__()
        assert 200 < it.clock.elapsed < 300
        with pytest.raises(TimeoutError):
            async with it.clock.timeout_at(it.clock.time() + 100):
                await it.client.pods.lease(it.spec).__aenter__()
        assert it.clock.elapsed < 440
        assert (it.running(), it.records()) == ([], [])


async def test_an_uncertain_order_is_followed_by_the_next_spec(folder: Path) -> None:
    """What has appeared under its name by then is deleted beside the block; else its file stays."""
    async with stage(folder, appear_seconds=25.0) as it:
        it.emulator.faults.add(Status(503, acted=True), on="create", times=1)
        async with it.client.pods.lease(specs_of(it)) as pod:
            assert pod.name.startswith("choice-1-")
            await it.clock.sleep(60)
            assert it.running() == [pod.id]
        assert (it.orders(), len(it.emulator.pods), it.records()) == (2, 0, [])
        it.emulator.faults.add(Status(503), on="create", times=1)
        async with it.client.pods.lease(specs_of(it)):
            pass
        (record,) = it.records()
        assert (record.name[:9], record.pod_id, record.given_up) == ("choice-0-", None, True)
        it.emulator.faults.add(Status(503), on="create", times=1)
        with pytest.raises(primepods.CreateUncertainError):
            await it.client.pods.lease(specs_of(it)[:1]).__aenter__()


async def test_the_pod_of_an_uncertain_order_that_appears_late_goes_with_the_lease(it: Stage) -> None:
    """The list shows it after the block has begun, and before its own pod is gone; it has cost money, too."""
    it.emulator.faults.add(Status(503), on="create", times=1)
    lease = it.client.pods.lease(specs_of(it))
    async with lease as pod:
        (uncertain,) = {record.name for record in it.records()} - {pod.name}
        it.emulator.add_pod(uncertain, boot_seconds=0)
        await it.clock.sleep(300)
        assert len(it.running()) == 2
    assert (len(it.emulator.pods), it.records()) == (0, [])
    assert lease.supervisor.budget.spent > 1.9 * pod.spent()


async def test_a_pod_that_cannot_be_given_back_is_the_last(folder: Path) -> None:
    """There is at most one at a time: the error says which is left."""
    async with stage(folder, failure_rate=1.0) as it:
        it.emulator.faults.add(Status(503), on="delete")
        with pytest.raises(primepods.PodFailedError) as caught:
            await it.client.pods.lease(specs_of(it), release_timeout=30).__aenter__()
        (pod_id,) = it.running()
        assert sum(pod_id in note for note in caught.value.__notes__) == 1
        assert it.orders() == 1
        it.emulator.faults.clear()


@pytest.mark.parametrize("after", [70.0, 75.0])
async def test_an_interruption_while_one_is_given_back_ends_it(folder: Path, after: float) -> None:
    """Nothing else is ordered."""
    async with stage(folder, failure_rate=1.0) as it:
        entering = asyncio.create_task(it.client.pods.lease(specs_of(it)).__aenter__())
        await it.clock.sleep(after)
        entering.cancel()
        with pytest.raises((asyncio.CancelledError, primepods.PodFailedError)):
            await entering
        assert (it.running(), it.records()) == ([], [])
        assert it.orders() <= 2


@pytest.mark.parametrize(("budget", "orders"), [({"max_hours": 1}, 4), ({"max_spend": 2.5}, 3)], ids=str)
async def test_the_budget_is_that_of_the_lease(folder: Path, budget: Any, orders: int) -> None:
    """What the first pods have cost, and their time, count."""
    async with stage(folder, boot_seconds=5_000) as it:
        # One in a thousand seconds.
        it.emulator.set_price(it.spec.cloud_id, 3.6)
        limits = {"ready_timeout": 1_000, "interval": 50, **budget}
        with pytest.raises(primepods.BudgetExceededError, match=next(iter(budget))) as caught:
            await it.client.pods.lease(specs_of(it, 9), **limits).__aenter__()
        assert it.orders() == orders
        assert caught.value.spent == pytest.approx(2.5 if "max_spend" in budget else 3.6, abs=0.1)
        assert (it.running(), it.records()) == ([], [])
