"""Pools: every item has one result, pods are used again and replaced, and none is left."""

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from random import Random

import attrs
import pytest

import primepods
from primepods import AsyncLeasedPod, PoolProgress
from primepods.emulator import Status
from primepods.leasing.pool import LeaseArguments
from tests.renting.stage import Stage, stage
from tests.renting.test_wind_down import cancel_lease


def doubling(it: Stage) -> Callable[[AsyncLeasedPod, int], Awaitable[int]]:
    """Work that takes five minutes, longer than a boot."""

    async def work(_: AsyncLeasedPod, item: int) -> int:
        await it.clock.sleep(300)
        return 2 * item

    return work


async def test_every_item_has_a_result_and_pods_are_used_again(it: Stage) -> None:
    """Twelve items on at most three pods; no pod is left."""
    async with it.client.pods.pool(it.spec, size=3) as pool:
        results = [result async for result in pool.map(doubling(it), range(12))]
        assert len(it.running()) == 3
    assert sorted(result.get() for result in results) == [2 * item for item in range(12)]
    assert {result.attempts for result in results} == {1}
    assert len(it.emulator.requests.where(method="POST")) == 3
    assert it.running() == []
    assert it.records() == []


async def test_no_more_pods_than_work(it: Stage) -> None:
    """Two items rent two pods, whatever the size; a pool without work rents none."""
    async with it.client.pods.pool(it.spec, size=10):
        pass
    assert not it.emulator.requests.where(method="POST")
    async with it.client.pods.pool(it.spec, size=10) as pool:
        assert len([result async for result in pool.map(doubling(it), [1, 2])]) == 2
    assert len(it.emulator.requests.where(method="POST")) == 2


async def test_a_failure_of_the_work_is_its_items_result(folder: Path) -> None:
    """The other items go on, on the same pod, and the failed one is not tried again."""

    async def work(_: AsyncLeasedPod, item: int) -> int:
        return 6 // item

    async with stage(folder) as it, it.client.pods.pool(it.spec, size=1) as pool:
        results = {result.item: result async for result in pool.map(work, [0, 1, 2])}
        assert isinstance(results[0].error, ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            results[0].get()
        assert (results[0].attempts, results[1].value, results[2].value) == (1, 6, 3)
        assert len(it.running()) == 1


@pytest.mark.parametrize("retries", [0, 1])
async def test_the_item_of_a_lost_pod_is_tried_on_another(it: Stage, retries: int) -> None:
    """As often as `retries` says; then the loss is its result. The lost pod is replaced."""
    seen: list[str] = []

    async def work(pod: AsyncLeasedPod, _: str) -> str:
        seen.append(pod.id)
        if len(seen) == 1:
            it.emulator.delete_pod(pod.id)
            await it.clock.sleep(1e6)
        return pod.id

    async with it.client.pods.pool(it.spec, size=1, retries=retries) as pool:
        first, second = [result async for result in pool.map(work, ["one", "two"])]
    if retries:
        assert (first.value, first.attempts, first.error) == (seen[1], 2, None)
    else:
        assert isinstance(first.error, primepods.PodFailedError)
        assert first.error.pod_id == seen[0]
    assert second.value == seen[-1]
    assert len(set(seen)) == 2
    assert it.running() == []


@pytest.mark.parametrize(
    "error",
    [primepods.ConnectionLostError("cut", pod_id="a"), primepods.LoginError("refused", pod_id="a", said="")],
)
async def test_a_pod_that_loses_an_item_is_not_used_again(it: Stage, error: Exception) -> None:
    """The API shows it as active, but a command that it may still run would disturb the next one."""
    used: list[str] = []

    async def work(pod: AsyncLeasedPod, item: int) -> int:
        used.append(pod.id)
        if len(used) == 1:
            raise error
        return item

    async with it.client.pods.pool(it.spec, size=1) as pool:
        results = [result async for result in pool.map(work, range(4))]
    assert sorted(result.get() for result in results) == [0, 1, 2, 3]
    assert used.count(used[0]) == 1
    assert it.orders() == 2


async def test_the_item_of_a_lost_pod_does_not_wait_for_its_deletion(folder: Path) -> None:
    """Another pod is rented for it at once, if there is room; the block's end waits for the deletion."""
    async with stage(folder, delete_seconds=500.0) as it:

        async def work(pod: AsyncLeasedPod, item: int) -> float:
            if it.orders() == 1:
                raise primepods.ConnectionLostError("cut", pod_id=pod.id)
            return it.clock.time()

        async with it.client.pods.pool(it.spec, size=2) as pool:
            began_at = it.clock.time()
            [result] = [result async for result in pool.map(work, [1])]
            assert result.get() - began_at < 500.0


async def test_a_pool_grows_again_after_a_refusal(it: Stage) -> None:
    """A minute after an order was refused, the waiting items get more pods, though none has ended."""

    async def work(_: AsyncLeasedPod, item: int) -> int:
        await it.clock.sleep(3600)
        return item

    with it.emulator.faults.add(Status(402), on="create", skip=1, times=3):
        async with it.client.pods.pool(it.spec, size=4) as pool:
            results = pool.map(work, range(8))
            reading = asyncio.create_task(anext(results))
            await it.clock.sleep(1800)
            assert len(it.running()) == 4
            await reading


async def test_a_market_without_a_usable_pod_ends_the_work(folder: Path) -> None:
    """Pods that fail at different times are not replaced for ever while none can be used."""
    async with stage(folder, boot_seconds=1e6) as it:
        it.emulator.faults.add(Status(402), on="create", times=1)
        async with it.client.pods.pool(it.spec, size=2, ready_timeout=300.0) as pool:
            with pytest.raises(primepods.WaitTimeoutError):
                async with it.clock.timeout_at(it.clock.time() + 3600):
                    await anext(pool.map(doubling(it), range(4)))
        assert (it.orders(), it.running()) == (2, [])


@pytest.mark.parametrize("is_booting", [True, False])
async def test_waiting_for_a_pod_can_be_cancelled(folder: Path, is_booting: bool) -> None:
    """At once, while the pod boots and while other work has it; the pool is usable after it."""
    async with stage(folder) as it, it.client.pods.pool(it.spec, size=1) as pool:
        results = pool.map(doubling(it), [7])
        reading = asyncio.create_task(anext(results))
        if not is_booting:
            while not it.running():
                await it.clock.sleep(1)
            await it.clock.sleep(150)
        began_at = it.clock.time()
        with pytest.raises(TimeoutError):
            async with it.clock.timeout_at(began_at + 5), pool.pod():
                pass
        assert it.clock.time() - began_at < 6
        assert (await reading).get() == 14
        async with pool.pod():
            pass


async def test_a_failed_setup_of_a_later_pod_is_that_pods(it: Stage) -> None:
    """The work on the pods that are set up goes on; the pod is given back, and another is tried later."""
    calls = itertools.count()

    async def setup(_: AsyncLeasedPod) -> None:
        if next(calls) == 1:
            raise OSError("no space")

    async with it.client.pods.pool(it.spec, size=2, setup=setup) as pool:
        results = [result async for result in pool.map(doubling(it), range(6))]
    assert sorted(result.get() for result in results) == [2 * item for item in range(6)]
    assert (it.orders(), it.running()) == (3, [])


async def test_an_endless_source_is_read_as_far_as_there_is_room(folder: Path) -> None:
    """Twice as many items as pods are begun or unread; also of an async iterator."""
    taken = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    async with stage(folder) as it, it.client.pods.pool(it.spec, size=2) as pool:
        results = pool.map(doubling(it), endless())
        for _ in range(10):
            await anext(results)
            await it.clock.sleep(60)
        assert taken == 10 + 4
        await results.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_an_empty_market_is_an_error_without_any_pod_only(it: Stage) -> None:
    """While one pod works, the others' refusals are no matter; without a pod, the refusal is raised."""
    with it.emulator.faults.add(Status(402), on="create"):
        async with it.client.pods.pool(it.spec) as pool:
            with pytest.raises(primepods.PaymentRequiredError):
                await anext(pool.map(doubling(it), [1]))
    async with it.client.pods.pool(it.spec, size=3) as pool:
        async with pool.pod() as pod:
            it.emulator.faults.add(Status(402), on="create")
            results = pool.map(doubling(it), range(5))
            await it.clock.sleep(600)
            assert it.running() == [pod.id]
        assert len([result async for result in results]) == 5
    assert it.running() == []


async def test_the_hourly_cap_is_no_limit_of_the_pool(it: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that PRIMEPODS_MAX_HOURLY does not allow is not rented; the others do all the work."""
    spec = attrs.evolve(it.spec, max_price=0.3)
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "0.7")
    async with it.client.pods.pool(spec, size=4) as pool:
        results = [result async for result in pool.map(doubling(it), range(8))]
    assert sorted(result.get() for result in results) == [2 * item for item in range(8)]
    assert it.orders() == 2


async def test_the_item_of_a_lease_that_is_cancelled_is_done(it: Stage) -> None:
    """Something cancels the lease of a pod at work: its item is begun again on another pod."""
    begun: list[str] = []

    async def work(pod: AsyncLeasedPod, item: int) -> int:
        begun.append(pod.id)
        if len(begun) == 1:
            cancel_lease()
        await it.clock.sleep(300)
        return item

    async with it.client.pods.pool(it.spec, size=1) as pool:
        [result] = [result async for result in pool.map(work, [7])]
    assert (result.get(), len(set(begun)), it.running()) == (7, 2, [])


async def test_setup_is_done_once_a_pod_and_its_failure_ends_the_work(it: Stage) -> None:
    """Before a pod's first item; what fails there would fail on each pod."""
    set_up: list[str] = []

    async def setup(pod: AsyncLeasedPod) -> None:
        set_up.append(pod.id)

    async with it.client.pods.pool(it.spec, size=2, setup=setup) as pool:
        assert len([result async for result in pool.map(doubling(it), range(6))]) == 6
    assert len(set_up) == len(set(set_up)) == 2

    async def bad(_: AsyncLeasedPod) -> None:
        raise OSError("no space")

    async with it.client.pods.pool(it.spec, setup=bad) as pool:
        with pytest.raises(OSError, match="no space"):
            await anext(pool.map(doubling(it), range(6)))
    assert it.running() == []


@pytest.mark.parametrize("limit", [{"max_hours": 1.0}, {"max_spend": 1.0}])
async def test_the_limits_are_the_pools(it: Stage, limit: dict[str, float]) -> None:
    """All pods together: at the limit all are deleted, and the work ends with the error."""

    async def work(_: AsyncLeasedPod, item: int) -> int:
        await it.clock.sleep(3600 * 30)
        return item

    async with it.client.pods.pool(it.spec, size=4, **limit) as pool:  # type: ignore[arg-type]  # a limit of either kind
        results = pool.map(work, range(8))
        with pytest.raises(primepods.BudgetExceededError):
            await anext(results)
        await it.clock.sleep(300)
        assert it.running() == []
        assert pool.spent() <= limit.get("max_spend", 1e9) * 1.05


async def test_a_pod_that_is_soon_lost_brings_the_limit_of_the_others_closer(folder: Path) -> None:
    """They know at once, not when they look at the budget again, up to a minute later."""
    async with stage(folder, delete_seconds=0.0, boot_seconds=20.0) as it:
        offers = await it.client.availability.find(gpu_type="*", max_price=99.0)
        [price_hr] = [offer.price_hr or 0.0 for offer in offers if offer.cloud_id == it.spec.cloud_id]
        limit = price_hr * 125 / 3600

        async def work(_: AsyncLeasedPod, __: int) -> None:
            await it.clock.sleep(1e5)

        async def items() -> AsyncIterator[int]:
            yield 0
            await it.clock.sleep(100.0)
            yield 1
            await it.clock.sleep(10.0)
            it.emulator.delete_pod(it.running()[1])
            await it.clock.sleep(1e5)

        async with it.client.pods.pool(it.spec, size=2, max_spend=limit) as pool:
            with pytest.raises(primepods.BudgetExceededError):
                await anext(pool.map(work, items()))
            await it.clock.sleep(300.0)
            assert 0.9 * limit < pool.spent() < limit


async def test_a_cancellation_ends_the_work_and_deletes_the_pods(it: Stage) -> None:
    """The work is cancelled, and the pods are gone when the cancellation is raised."""
    ended: list[int] = []

    async def work(_: AsyncLeasedPod, item: int) -> None:
        try:
            await it.clock.sleep(1e6)
        finally:
            ended.append(item)

    async def main() -> None:
        async with it.client.pods.pool(it.spec, size=2) as pool:
            async for _ in pool.map(work, range(9)):
                pass

    task = asyncio.create_task(main())
    while len(it.running()) < 2:
        await it.clock.sleep(1)
    await it.clock.sleep(60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1]
    assert it.running() == []


async def test_two_hundred_items_on_eight_pods(it: Stage) -> None:
    """While pods are lost and items fail, 5 % of each, every item has one result, and no pod is left."""
    chance = Random("pool").random

    async def work(pod: AsyncLeasedPod, item: int) -> int:
        if chance() < 0.05:
            it.emulator.delete_pod(pod.id)
        await it.clock.sleep(120)
        return 1 // (item % 20)

    async with it.client.pods.pool(it.spec, size=8, retries=5) as pool:
        results = [result async for result in pool.map(work, range(200))]
    assert sorted(result.item for result in results) == list(range(200))
    assert [result.item for result in results if result.error is not None and result.item % 20] == []
    assert sum(result.error is not None for result in results) == 10
    assert len(it.emulator.requests.where(method="POST")) > 8
    assert (it.running(), it.records()) == ([], [])


async def test_a_source_that_fails_ends_the_results(folder: Path) -> None:
    """What was begun has its results first."""

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("row 2")

    async with stage(folder) as it, it.client.pods.pool(it.spec) as pool:
        results = pool.map(doubling(it), broken())
        assert (await anext(results)).value == 2
        with pytest.raises(LookupError, match="row 2"):
            await anext(results)


async def test_a_callback_is_told_the_progress(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each change of it, to the end, and what it costs; a callback that raises breaks no work."""
    seen: list[PoolProgress] = []

    def note(progress: PoolProgress) -> None:
        seen.append(progress)
        raise LookupError

    async def work(_: AsyncLeasedPod, item: int) -> int:
        await it.clock.sleep(300)
        return 6 // item

    async with stage(folder) as it:
        async with it.client.pods.pool(it.spec, size=2, on_progress=note) as pool:
            assert len([result async for result in pool.map(work, [0, 1, 2])]) == 3
            busiest = next(progress for progress in seen if progress.running == 2)
            assert (busiest.done, busiest.failed, busiest.pods) == (0, 0, 2)
            assert busiest.price_hr == sum(pod.price_hr for pod in it.emulator.pods.values())
        last = seen[-1]
        assert (last.done, last.failed, last.running, last.pods, last.price_hr) == (2, 1, 0, 0, 0)
        assert last.spent == pool.spent() > busiest.spent
    assert caplog.text.count("on_progress raised an exception") == 1


def test_a_pool_takes_the_options_of_a_lease() -> None:
    """By the same names and types, so that an editor shows them."""
    lease = inspect.signature(primepods.AsyncPods.lease).parameters
    assert LeaseArguments.__annotations__.keys() == lease.keys() - {"self", "spec"}
    for name, kind in LeaseArguments.__annotations__.items():
        assert kind.__forward_arg__ == lease[name].annotation
