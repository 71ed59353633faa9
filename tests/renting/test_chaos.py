"""Many seeded runs of orders with 30 % of all answers failing: no pod is made that nobody was told of."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import primepods
from primepods import CreateUncertainError, Pod, PodSpec, PrimePodsError
from primepods.emulator.clock import MANUAL_EPOCH
from tests.chaos.stage import AGE, Deck, Run, guarded, stage
from tests.renting.api import unique_name
from tests.support.server import refused_url

ORDINARY = 100
ENDURANCE = 1_000


def spec_of(row: dict[str, Any], name: str | None) -> PodSpec:
    """An order of an offer, without looking at its amounts."""
    return PodSpec(
        cloud_id=row["cloudId"],
        gpu_type=row["gpuType"],
        socket=row["socket"],
        gpu_count=row["gpuCount"],
        provider=row["provider"],
        max_price=1_000,
        name=name,
    )


async def order(client: primepods.AsyncClient, spec: PodSpec) -> Pod | PrimePodsError:
    """Create a pod, or fail to."""
    try:
        return await client.pods.create(spec)
    except PrimePodsError as exc:
        return exc


async def play(run: Run) -> Counter[str]:
    """Order several pods at once, under new names, names of their own, a shared one, and an older pod's."""
    # Here the client's wall clock is the API's, and so pods of the same name are told apart by their age.
    run.clock._wall = MANUAL_EPOCH.timestamp() + AGE
    client, rng = run.client, run.rng
    old = {pod.id: pod.name async for pod in client.pods.list()}
    offers = (await client.request("GET", "/api/v1/availability/gpus"))["items"][:3]
    shared = unique_name()
    names = [rng.choice([None, None, unique_name(), shared, *old.values()]) for _ in range(rng.randint(1, 6))]
    run.begin()
    ends = await asyncio.gather(*[order(client, spec_of(rng.choice(offers), name)) for name in names])
    run.deck.share = 0
    # Whatever appears late has appeared then.
    await run.clock.advance(120)
    made = {pod_id: pod.name for pod_id, pod in run.emulator.pods.items() if pod_id not in old}
    check(made, ends)
    return Counter(type(end).__name__ for end in ends) + Counter(
        unseen=len(made) - sum(isinstance(end, Pod) for end in ends)
    )


def check(made: dict[str, str], ends: list[Pod | PrimePodsError]) -> None:
    """Every pod that was made is one caller's, or its name stands in an error that says so."""
    pods = [end for end in ends if isinstance(end, Pod)]
    given = [pod.id for pod in pods]
    assert len(given) == len(set(given)), "two callers were given the same pod"
    assert {pod.id: pod.name for pod in pods}.items() <= made.items(), "a pod was given that was not made"
    left = Counter(name for pod_id, name in made.items() if pod_id not in given)
    told = Counter(end.name for end in ends if isinstance(end, CreateUncertainError))
    assert left <= told, "a pod was made that no error names"


async def run_seeds(seeds: range) -> Counter[str]:
    """Run them one after the other, and count how orders ended."""
    total: Counter[str] = Counter()
    elsewhere = refused_url()
    for seed in seeds:
        total += await guarded(seed, one_run(seed, elsewhere), lambda: deck)
    return total


deck: Deck | None = None


async def one_run(seed: int, elsewhere: str) -> Counter[str]:
    """One seed."""
    global deck  # noqa: PLW0603 - for the message of a run that fails
    fleet: dict[str, Any] = {
        "pods": 3,
        "boot_seconds": 1e6,
        "spot_seconds": 1e12,
        "appear_seconds": [0.0, 0.0, 8.0, 40.0][seed % 4],
        "stock": [None, 2][seed % 2],
    }
    async with stage(seed, elsewhere, **fleet) as run:
        deck = run.deck
        return await play(run)


def judge(total: Counter[str]) -> None:
    """Were the runs worth it?"""
    print(dict(total))  # noqa: T201 - pytest shows it where something fails
    assert total["Pod"] > sum(total.values()) // 2
    assert total["CreateUncertainError"]
    assert total["unseen"]
    assert total["SoldOutError"]


def test_no_pod_is_made_that_nobody_is_told_of() -> None:
    """A hundred runs."""
    judge(asyncio.run(run_seeds(range(ORDINARY))))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_times_no_pod_is_made_unseen() -> None:
    """As above, for minutes."""
    judge(asyncio.run(run_seeds(range(10_000, 10_000 + ENDURANCE))))
