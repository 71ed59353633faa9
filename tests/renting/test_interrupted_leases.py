"""Leases interrupted at random moments, while the API fails: no pod is left that nobody knows of."""

import asyncio
from pathlib import Path
from random import Random

import attrs
import pytest

import primepods
from primepods import AsyncClient, RetryPolicy
from primepods.emulator import Cut, Delay, Emulator, Fault, Html, Reset, Status
from tests.renting.stage import Stage, lease_files, spec_of, stage

FAULTS: tuple[Fault, ...] = (
    Reset(),
    Reset(acted=True),
    Cut(),
    Status(500),
    Status(500, acted=True),
    Status(503),
    Status(429),
    Status(504, acted=True),
    Html(),
    Html(acted=True),
    Delay(3.0),
    Delay(45.0),
)
HANGS = 20.0
"""Real seconds after which a run has hung."""
BATCH = 20


async def run(it: Stage, rng: Random) -> tuple[BaseException | None, str | None]:
    """Use one lease, and interrupt it; returns how it ended, and the id of a kept pod."""
    kept: list[str] = []

    async def use() -> None:
        async with it.client.pods.lease(
            it.spec,
            ready_timeout=rng.choice([30.0, 600.0]),
            release_timeout=rng.choice([30.0, 600.0]),
            max_hours=rng.choice([None, None, 0.02]),
        ) as pod:
            await it.clock.sleep(rng.choice([0.0, rng.uniform(0, 300)]))
            if rng.random() < 0.1:
                pod.keep()
                kept.append(pod.id)
            if rng.random() < 0.2:
                raise ZeroDivisionError

    async def maybe_limited() -> None:
        if rng.random() < 0.3:
            async with it.clock.timeout_at(it.clock.time() + rng.uniform(0, 200)):
                await use()
        else:
            await use()

    task = asyncio.create_task(maybe_limited())
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        await it.clock.sleep(rng.choice([0.0, rng.uniform(0, 2), rng.uniform(0, 100)]))
        task.cancel()
    await asyncio.wait({task})
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    return error, kept[0] if kept else None


def told_of(it: Stage, error: BaseException | None) -> str:
    """All that the user can read afterwards."""
    notes = " ".join(getattr(error, "__notes__", ()))
    records = " ".join(f"{record.pod_id} {record.name}" for record in it.records())
    return f"{error!r} {notes} {records}"


async def one(folder: Path, seed: int) -> None:
    """One seed: the emulator holds no pod that is neither kept nor named, and made one at most."""
    rng = Random(f"lease {seed}")
    appear = rng.choice([0.0, 0.0, 3.0, 30.0])
    failing = rng.choice([0.0, 0.0, 0.5])
    options = {"retry": RetryPolicy(attempts=rng.choice([1, 5])), "timeout": 30.0}
    async with stage(folder, seed=seed, options=options, appear_seconds=appear, failure_rate=failing) as it:
        for fault in FAULTS:
            it.emulator.faults.add(fault, probability=0.3 / len(FAULTS))
        error, kept_id = await run(it, rng)
        it.emulator.faults.clear()
        await it.clock.sleep(60)
        told = told_of(it, error)
        pods = {pod_id: pod for pod_id, pod in it.emulator.pods.items() if pod_id in it.running()}
        assert len(it.emulator.pods) <= 1
        for pod_id, pod in pods.items():
            assert pod_id == kept_id or pod_id in told or str(pod.name) in told, (
                f"{pod_id} is forgotten: {told}"
            )
        await it.clock.sleep(3600)
        sweep = await it.client.pods.sweep()
        assert not sweep.errors
        assert set(it.running()) <= {kept_id}
        # What stays is told: nothing has ever shown that these pods were made.
        assert [record.name for record in it.records()] == [skipped.name for skipped in sweep.skipped]
        made = it.emulator.snapshot()
        assert not [record for record in it.records() if record.pod_id or record.name in str(made)]


@pytest.mark.parametrize("batch", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_no_interruption_leaves_an_unknown_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Exceptions, cancellations, time-outs and budgets at any moment, with 30 % of the requests failing."""
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        folder = tmp_path / str(seed)
        monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(folder))
        try:
            async with asyncio.timeout(HANGS):
                await one(folder, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_the_pods_of_an_interrupted_order_are_searched(it: Stage, count: int) -> None:
    """Something cancels the lease's tasks while it orders: what has its name is deleted, or it is told."""
    it.emulator.faults.add(Delay(1_000.0), on="create")
    entering = asyncio.create_task(it.client.pods.lease(it.spec).__aenter__())
    await it.clock.sleep(1)
    (record,) = it.records()
    for _ in range(count):
        it.emulator.add_pod(record.name)
    for task in asyncio.all_tasks():
        if "LeaseSupervisor" in getattr(task.get_coro(), "__qualname__", ""):
            task.cancel()
    with pytest.raises(primepods.PrimePodsError) as caught:
        await entering
    assert len(it.emulator.pods) == 0
    if count:
        assert (type(caught.value), it.records()) == (primepods.ClientClosedError, [])
    else:
        assert isinstance(caught.value, primepods.NotReleasedError)
        assert "its order was interrupted (no pod with this name was found)" in str(caught.value)
        assert [(each.name, each.given_up) for each in it.records()] == [(record.name, True)]


def test_an_order_that_was_not_sent_takes_no_pod(folder: Path) -> None:
    """The event loop ends before it is: the pod of that name is another caller's."""

    async def main(emulator: Emulator) -> None:
        client = AsyncClient(emulator.api_key, base_url=emulator.url)
        spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
        spec = attrs.evolve(spec, name="mine")
        await client.pods.create(spec)
        task = asyncio.create_task(client.pods.lease(spec, interval=0.05).__aenter__())
        await asyncio.sleep(0)
        assert not task.done()

    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        asyncio.run(main(emulator))
        assert (len(emulator.pods), list(lease_files(folder))) == (1, [])
