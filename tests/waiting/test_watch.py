"""The changes of pods, iterated: what comes, when it ends, and that leaving leaves nothing."""

import asyncio
import gc
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

import primepods
from primepods import PodChange
from tests.support.clock import settle
from tests.support.server import Hang
from tests.waiting.fleet import Fleet, Stage, next_of, raised, result

Seen = list[tuple[str, str | None]]


def brief(change: PodChange) -> tuple[str, str | None]:
    """A change as a test compares it."""
    return change.pod_id, None if change.after is None else str(change.after.status)


async def collect(changes: AsyncIterator[PodChange], seen: Seen) -> None:
    """Note all changes until they end."""
    async for change in changes:
        seen.append(brief(change))


async def test_watch_yields_first_states_then_changes_to_the_end(stage: Stage, fleet: Fleet) -> None:
    """One pod changes, one does not, one was never there; `after is None` is the last of each."""
    fleet.set("provisioning", "a", "b")
    changes: list[PodChange] = []

    async def watch() -> None:
        changes.extend([change async for change in stage.client().pods.watch(["a", "b", "never"])])

    task = stage.start(watch())
    await stage.advance(11)
    fleet.set("ready", "a")
    await stage.advance(55)
    fleet.set(None, "a")
    await stage.advance(11)
    assert not task.done()
    fleet.set("deleting", "b")
    await stage.advance(11)
    fleet.set("terminated", "b")
    await stage.advance(5)
    result(task)
    assert [brief(change) for change in changes] == [
        ("a", "PROVISIONING"),
        ("b", "PROVISIONING"),
        ("a", "ACTIVE"),
        ("never", None),
        ("a", None),
        ("b", "DELETING"),
        ("b", "TERMINATED"),
        ("b", None),
    ]
    assert changes[-1] == PodChange(pod_id="b", before=changes[-2].after, after=None)
    assert changes[0].before is None
    assert changes[2].before is changes[0].after


async def test_a_slow_consumer_gets_the_newest_state_of_each_pod(stage: Stage, fleet: Fleet) -> None:
    """While it is busy nothing piles up: a pod's next change leads from what was seen to what is now."""
    ids = fleet.add(3)
    seen: list[tuple[str, str | None, str | None]] = []

    async def watch() -> None:
        async for change in stage.client().pods.watch(ids):
            before = None if change.before is None else str(change.before.status)
            seen.append((change.pod_id, before, brief(change)[1]))
            await stage.clock.sleep(30)

    stage.start(watch())
    await stage.advance(1)
    for state in ("installing", "error", "stopped", "deleting") * 3:
        fleet.set(state, *ids)
        await stage.advance(5)
    await stage.advance(100)
    assert seen[0] == (ids[0], None, "PROVISIONING")
    assert seen[1][0] == ids[1]
    assert seen[1][2] != "PROVISIONING"
    last = {pod_id: after for pod_id, _, after in seen}
    assert set(last.values()) == {"DELETING"}
    for pod_id in ids:
        states = [(before, after) for each, before, after in seen if each == pod_id]
        assert all(earlier[1] == later[0] for earlier, later in pairwise(states))
        assert all(before != after for before, after in states)


async def test_leaving_the_block_is_prompt(stage: Stage, fleet: Fleet) -> None:
    """With `async with`, nothing is asked or open when the block is left, whatever refers to the iterator."""
    fleet.add(1)
    kept: list[AsyncIterator[PodChange]] = []

    async def first() -> None:
        async with stage.client().pods.watch(["pod00000"]) as watch:
            kept.append(aiter(watch))
            await anext(kept[0])

    task = stage.start(first())
    await stage.advance(1)
    result(task)
    await stage.check_nothing_left()
    with pytest.raises(primepods.ClientClosedError):
        await anext(kept[0])


async def test_closing_ends_an_iteration_in_another_task(stage: Stage, fleet: Fleet) -> None:
    """The other task is told, for an end without an error means that all pods are gone.

    Also before its first change, and for an iterator that was never used.
    """
    fleet.add(2)
    watch = stage.client().pods.watch(fleet.states)
    seen: Seen = []
    tasks = [stage.start(collect(aiter(watch), seen)) for _ in range(2)]
    unused = aiter(watch)
    await stage.advance(1)
    assert len(seen) == 4
    fleet.next_status(Hang())
    tasks.append(stage.start(collect(aiter(watch), [])))
    await stage.advance(1)
    await watch.aclose()
    await watch.aclose()
    await settle()
    for task in tasks:
        raised(task, primepods.ClientClosedError)
    await stage.check_nothing_left()
    with pytest.raises(primepods.ClientClosedError, match="watch was closed"):
        await anext(unused)


async def test_a_watch_can_be_iterated_again(stage: Stage, fleet: Fleet) -> None:
    """Each iteration begins with the first states, also at the same time."""
    ids = fleet.add(2)
    watch = stage.client().pods.watch(ids)
    one: Seen = []
    two: Seen = []
    stage.start(collect(aiter(watch), one))
    await stage.advance(6)
    stage.start(collect(aiter(watch), two))
    await stage.advance(1)
    assert one == two == [(pod_id, "PROVISIONING") for pod_id in ids]
    assert repr(watch) == "<AsyncWatch of 2 pods, interval=5>"


async def test_a_watch_times_out(stage: Stage, fleet: Fleet) -> None:
    """From the first look on; the error names who is still there."""
    ids = fleet.add(2)
    seen: Seen = []
    watch = stage.client().pods.watch([*ids, "unseen"], timeout=30, interval=2)
    await stage.advance(100)
    task = stage.start(collect(aiter(watch), seen))
    await stage.advance(29.9)
    assert not task.done()
    fleet.set(None, ids[1])
    await stage.advance(0.2)
    error = raised(task, primepods.WaitTimeoutError)
    assert error.pending == (*ids, "unseen")
    assert list(error.statuses) == ids
    assert str(error).startswith("After 30 s 3 of 3 pods are still pending: pod00000 (PROVISIONING)")
    assert seen == [(pod_id, "PROVISIONING") for pod_id in ids]


async def test_a_slow_consumer_is_told_of_the_timeout_later(stage: Stage, fleet: Fleet) -> None:
    """Nothing interrupts the body of its loop."""
    fleet.add(1)
    done: list[float] = []

    async def watch() -> None:
        async for _ in stage.client().pods.watch(["pod00000"], timeout=10):
            await stage.clock.sleep(50)
            done.append(stage.clock.elapsed)

    task = stage.start(watch())
    await stage.advance(60)
    raised(task, primepods.WaitTimeoutError)
    assert done == [50.25]


async def heartbeat(changes: AsyncIterator[PodChange], stage: Stage, seen: Seen, beats: int) -> None:
    """Ask for the next change, for two seconds at a time."""
    for _ in range(beats):
        limit = stage.clock.timeout_at(stage.clock.time() + 2)
        try:
            async with limit:
                seen.append(brief(await anext(changes)))
        except TimeoutError:
            assert limit.expired()


async def test_a_watch_goes_on_after_a_heartbeat(stage: Stage, fleet: Fleet) -> None:
    """A time-out around `anext` neither ends it nor loses a change, whenever it strikes."""
    fleet.set("provisioning", "a", "b")
    seen: Seen = []
    changes = aiter(stage.client().pods.watch(["a", "b"]))
    beating = stage.start(heartbeat(changes, stage, seen, 40))
    await stage.advance(11)
    fleet.set("ready", "a", "b")
    await stage.advance(11)
    fleet.set(None, "a")
    await stage.advance(11)
    assert len(fleet.sizes) == 7
    beating.cancel()
    await asyncio.wait([beating])
    fleet.set(None, "b")
    rest = stage.start(collect(changes, seen))
    await stage.advance(11)
    result(rest)
    first = [(pod_id, state) for state in ("PROVISIONING", "ACTIVE") for pod_id in ("a", "b")]
    assert seen == [*first, ("a", None), ("b", None)]


@pytest.mark.parametrize("turns", range(0, 12, 2))
async def test_a_change_that_meets_a_cancellation_is_not_lost(stage: Stage, fleet: Fleet, turns: int) -> None:
    """The change arrives and the waiting task is cancelled within the same turns of the loop."""
    fleet.add(1)
    changes = aiter(stage.client().pods.watch(fleet.states))
    first = stage.start(next_of(changes))
    await stage.advance(0.2)
    stage.clock.jump(stage.clock.time() + 0.1)
    while not fleet.asked:
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    first.cancel()
    await settle()
    if first.cancelled():
        first = stage.start(next_of(changes))
        await settle()
    assert brief(result(first)) == ("pod00000", "PROVISIONING")


async def test_a_watch_that_failed_raises_its_error_again(stage: Stage, fleet: Fleet) -> None:
    """It never ends normally afterwards, which would mean that all pods are gone."""
    fleet.add(1)
    client = stage.client()
    changes = aiter(client.pods.watch(fleet.states, timeout=10))
    ended = stage.start(collect(changes, []))
    await stage.advance(11)
    error = raised(ended, primepods.WaitTimeoutError)
    for _ in range(3):
        with pytest.raises(primepods.WaitTimeoutError) as caught:
            await anext(changes)
        assert caught.value is error
    await stage.check_nothing_left()


async def test_a_watch_that_ended_stays_ended(stage: Stage, fleet: Fleet) -> None:
    """Asked again when all pods are gone, it says so again, and asks the API nothing."""
    fleet.set("ready", "a")
    changes = aiter(stage.client().pods.watch(["a"]))
    ended = stage.start(collect(changes, []))
    await stage.advance(1)
    fleet.set(None, "a")
    await stage.advance(11)
    result(ended)
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(changes)
    await stage.check_nothing_left()


async def test_a_watch_is_iterated_by_one_task_at_a_time(stage: Stage, fleet: Fleet) -> None:
    """The second task is told so; the first one goes on."""
    fleet.add(1)
    changes = aiter(stage.client().pods.watch(fleet.states))
    first = stage.start(next_of(changes))
    await settle()
    with pytest.raises(RuntimeError, match="one task"):
        await anext(changes)
    await stage.advance(1)
    assert brief(result(first)) == ("pod00000", "PROVISIONING")


async def test_a_dropped_iterator_is_closed_in_its_loop(stage: Stage, fleet: Fleet) -> None:
    """Also where it is collected in another thread, and after a heartbeat has interrupted it."""
    fleet.add(1)
    kept = [aiter(stage.client().pods.watch(fleet.states))]
    first = stage.start(heartbeat(kept[0], stage, [], 2))
    await stage.advance(5)
    result(first)
    stage.tasks.clear()
    del first
    await asyncio.to_thread(kept.clear)
    gc.collect()
    await stage.check_nothing_left()
