"""The runs: one seed, one job, a fleet that may change meanwhile, and faults in 30 % of all answers.

``python -m tests.chaos.runs SEED`` repeats one and prints every request and what struck it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import primepods
from primepods import Pod, PodState
from tests.chaos.stage import Deck, Run, guarded, is_patient, stage
from tests.support.server import Server

UNKNOWN = "no-such-pod"
"""An id that no pod has."""


async def listing_under_churn(elsewhere: str, seed: int, note: Note) -> Counter[str]:
    """Each pod that is there throughout exactly once, whatever else comes and goes."""
    async with stage(seed, elsewhere, pods=10 + seed * 11 % 37, boot_seconds=0.0) as run:
        note(run)
        throughout = set(run.emulator.pods)
        ever = set(throughout)

        def change() -> None:
            """Before each of the first answers, some go and some come."""
            if len(run.deck.dealt) > 60:
                return
            pods = list(run.emulator.pods)
            for pod_id in run.rng.sample(pods, min(len(pods), run.rng.choice([0, 0, 0, 1, 1, 5]))):
                run.emulator.delete_pod(pod_id)
                throughout.discard(pod_id)
            ever.update(run.emulator.add_pod() for _ in range(run.rng.choice([0, 0, 0, 0, 1, 3])))

        run.deck.before = change
        run.begin()
        listed: list[Pod] = []
        whole = await run.attempt(collect(run.client.pods.list(page_size=run.rng.randint(1, 20)), listed))
        check_each_once(listed, throughout if whole else set(), ever)
    return outcome(run)


async def statuses(elsewhere: str, seed: int, note: Note) -> Counter[str]:
    """The rows of all pods that there are, and no others; and the same asked for one by one."""
    count = 130 if seed % 10 == 0 else 1 + seed * 3 % 17
    async with stage(seed, elsewhere, pods=count, boot_seconds=0.0) as run:
        note(run)
        pods = run.client.pods
        ids = [*run.emulator.pods, *(f"{UNKNOWN}{n}" for n in range(run.rng.randint(0, 3)))]
        run.rng.shuffle(ids)
        before = await pods.statuses(ids)
        known = await pods.get(next(iter(run.emulator.pods)))
        run.begin()
        after = await run.attempt(pods.statuses(ids))
        if after is not None:
            for error in after.errors.values():
                run.excuse(error)
            rest = {pod_id: row for pod_id, row in before.items() if pod_id not in after.errors}
            assert list(after.items()) == list(rest.items())
            assert after.missing == tuple(one for one in before.missing if one not in after.errors)
        some = run.rng.sample(ids, min(len(ids), 3))
        for pod_id, row in zip(some, await asyncio.gather(*map(asked(run, pods.status), some)), strict=True):
            assert row in (before.get(pod_id), None)
        assert await asked(run, pods.get)(known.id) in (known, None)
        assert await asked(run, pods.get)(UNKNOWN) is None
    return outcome(run)


async def deletions(elsewhere: str, seed: int, note: Note) -> Counter[str]:
    """What is reported as deleted is; what is there is never reported as unknown."""
    slow = seed % 4 * 5.0
    async with stage(seed, elsewhere, pods=1 + seed % 12, boot_seconds=0.0, delete_seconds=slow) as run:
        note(run)
        ids = list(run.emulator.pods)
        kept, single, doomed = ids[:2], ids[2:4], ids[4:]
        run.begin()
        for pod_id in single:
            state = await run.attempt(run.client.pods.delete(pod_id))
            assert state is None or is_going(run, pod_id), f"{pod_id} was not deleted"
        answer = await run.client.pods.delete_many([*doomed, *doomed[:1]])
        assert set(answer) | set(answer.errors) == set(doomed)
        assert not set(answer) & set(answer.errors)
        for error in answer.errors.values():
            run.excuse(error)
        for pod_id, state in answer.items():
            assert state in {PodState.DELETING, PodState.TERMINATED}
            assert is_going(run, pod_id), f"{pod_id} was not deleted"
        assert all(not is_going(run, pod_id) for pod_id in kept), "a pod was deleted that nobody named"
        await unknown_is_not_deleted(run)
    return outcome(run)


async def unknown_is_not_deleted(run: Run) -> None:
    """A mistyped id is not found; where a response was lost, the error says that nothing proves it."""
    before = len(run.deck.dealt)
    with pytest.raises(primepods.PrimePodsError) as caught:
        await run.client.pods.delete(UNKNOWN)
    if isinstance(caught.value, primepods.NotFoundError):
        return
    if "the list does not show the pod, and its end is not confirmed" in str(caught.value):
        assert len(run.deck.dealt) > before, "a response was doubted without a reason"
        return
    run.excuse(caught.value)


Note = Callable[[Run], None]
Job = Callable[[str, int, Note], Awaitable[Counter[str]]]

JOBS: tuple[Job, ...] = (listing_under_churn, statuses, deletions)


def job_of(seed: int) -> Job:
    """What a seed does: one job after the other, patiently and not."""
    return JOBS[seed // 2 % len(JOBS)]


def outcome(run: Run) -> Counter[str]:
    """What is counted of a run."""
    struck = sum(1 for line in run.deck.dealt if line.rstrip().endswith(")"))
    return Counter(
        {"runs": 1, "whole": not run.errors, "requests": len(run.deck.dealt), "faults": struck}
    ) + Counter(run.errors)


async def collect(pager: AsyncIterator[Pod] | primepods.AsyncPager[Pod], into: list[Pod]) -> bool:
    """Read a listing to its end."""
    async for item in pager:
        into.append(item)
    return True


def check_each_once(listed: list[Pod], throughout: set[str], ever: set[str]) -> None:
    """All of ``throughout``, none twice, none that never was."""
    ids = [item.id for item in listed]
    assert len(ids) == len(set(ids)), f"listed twice: {[one for one, n in Counter(ids).items() if n > 1]}"
    assert throughout <= set(ids), f"lost: {throughout - set(ids)}"
    assert set(ids) <= ever, f"made up: {set(ids) - ever}"


def asked(run: Run, call: Callable[[str], Awaitable[Any]]) -> Callable[[str], Awaitable[Any]]:
    """A call about one pod, of which only the unknown ones are not found."""

    async def ask(pod_id: str) -> Any:
        try:
            return await call(pod_id)
        except primepods.NotFoundError:
            assert pod_id.startswith(UNKNOWN), f"{pod_id} is there"
        except primepods.PrimePodsError as error:
            run.excuse(error)
        return None

    return ask


def is_going(run: Run, pod_id: str) -> bool:
    """Whether a pod is deleted, or is being."""
    pod = run.emulator.pods.get(pod_id)
    return pod is None or pod.status == "DELETING"


async def run_seeds(seeds: range) -> Counter[str]:
    """Run them all, and sum up."""
    total: Counter[str] = Counter()
    async with Server() as elsewhere:

        async def one(seed: int) -> Counter[str]:
            decks: list[Deck] = []
            work = job_of(seed)(elsewhere.url, seed, lambda run: decks.append(run.deck))
            return await guarded(seed, work, lambda: decks[0] if decks else None)

        for seed in seeds:
            total += await one(seed)
        assert elsewhere.connections == 0, "a redirect to another origin was followed"
    return total


def main() -> None:
    """Repeat one run, and show it."""
    seed = int(sys.argv[1])
    kind = "patient" if is_patient(seed) else "with the usual limits"
    print(f"seed {seed}: {getattr(job_of(seed), '__name__', '')}, {kind}")

    async def show() -> None:
        async with Server() as elsewhere:
            runs: list[Run] = []
            try:
                print(await job_of(seed)(elsewhere.url, seed, runs.append))
            finally:
                print("\n".join(runs[0].deck.dealt))

    asyncio.run(show())


if __name__ == "__main__":
    main()
