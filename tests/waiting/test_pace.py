"""How often the API is asked, when, and for how much at a time: ticks, newcomers, batches, pauses."""

import asyncio
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

import primepods
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Hang, Raw, Reply, reply
from tests.waiting.fleet import POD, Asked, Fleet, Stage, raised, result
from tests.waiting.fleet import stage as set_up

GATHER = 0.25
"""Seconds for which newcomers are gathered at the default interval of 5 s, and at most at any."""


def limited(retry_after: float | str | None = None) -> Answer:
    """A 429."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return reply({"message": "Too many requests"}, 429, headers=headers)


# The numbers of requests.


@pytest.mark.parametrize(
    ("waiters", "most"), [(1_000, 11), pytest.param(10_000, 101, marks=pytest.mark.slow)]
)
async def test_many_waiters_cost_few_requests(stage: Stage, fleet: Fleet, waiters: int, most: int) -> None:
    """A thousand waits on a thousand clients cost at most 11 requests a tick, ten thousand at most 101."""
    ids = fleet.add(waiters)
    waits = [stage.start(stage.client().pods.wait_ready(pod_id)) for pod_id in ids]
    await stage.advance(1)
    fleet.set("installing", *ids)
    await stage.advance(10)
    fleet.set("ready", *ids)
    await stage.advance(5)
    a_tick = Counter(fleet.times)
    assert list(a_tick) == [0.25, 5.25, 10.25, 15.25]
    assert max(a_tick.values()) <= most
    assert stage.server.connections <= 16
    assert stage.server.most_in_flight <= 16
    assert [result(wait).pod_id for wait in waits] == ids


async def test_a_slow_answer_does_not_scatter_newcomers(stage: Stage, fleet: Fleet) -> None:
    """While one newcomer's pod is being asked for, and is owed another request, the others are gathered."""
    ids = fleet.add(40)
    fleet.next_status(Hang())
    stage.start(stage.client().pods.wait_ready(ids[0]))
    await stage.advance(1)
    for pod_id in ids:
        stage.start(stage.client().pods.wait_ready(pod_id))
        await stage.advance(0.01)
    await stage.advance(0.5)
    assert len(fleet.asked) <= 3


# Ticks.


@pytest.mark.slow
@pytest.mark.parametrize("interval", [0.05, 1.0, 5.0, 7.3])
async def test_ticks_are_jittered_as_one_and_never_drift(interval: float) -> None:
    """Tick n comes within a tenth of an interval after n intervals, for all pods at once, for any n."""
    async with set_up(ManualClock(chance=Random(3))) as stage:
        ids = stage.fleet.add(150)
        for pod_id in ids:
            stage.start(stage.client().pods.wait_ready(pod_id, interval=interval))
        await stage.advance(60.5 * interval)
        times = sorted(set(stage.fleet.times))
        assert len(times) == 61
        late = [time / interval - n for n, time in enumerate(times)]
        assert times[0] == pytest.approx(min(0.05 * interval, GATHER))
        assert all(-1e-6 <= each <= 0.1 + 1e-6 for each in late[1:])
        assert len({round(each, 3) for each in late}) > 20
        assert set(Counter(stage.fleet.times).values()) == {2}


@pytest.mark.parametrize("chance", [0.0, 0.999_999])
async def test_extremes_of_chance_keep_the_ticks(chance: float) -> None:
    """Also where floating point puts a tick a hair before its time."""
    async with set_up(ManualClock(chance=chance, start=1_000.3)) as stage:
        stage.fleet.add(1)
        stage.start(stage.client().pods.wait_ready("pod00000", interval=0.1))
        await asyncio.wait_for(stage.advance(10.05), 40)
        assert len(stage.fleet.times) == 101 if chance == 0.0 else 100
        assert len(set(stage.fleet.times)) == len(stage.fleet.times)


async def test_slow_answers_do_not_move_the_ticks(stage: Stage, fleet: Fleet) -> None:
    """The next tick does not count from the last answer."""
    fleet.add(1)
    fleet.faults.append(lambda asked: Reply(200, b'{"data": []}', drip=0.1, clock=stage.clock))
    stage.start(stage.client().pods.wait_ready("pod00000"))
    await stage.advance(54)
    assert fleet.times == [0.25, *(5.25 + 5 * n for n in range(10))]


async def test_ticks_that_were_missed_are_skipped(stage: Stage, fleet: Fleet) -> None:
    """A loop that was blocked for 23 seconds, or a machine that slept, makes up with one tick."""
    fleet.add(1)
    stage.start(stage.client().pods.wait_ready("pod00000"))
    await stage.advance(6)
    stage.clock.jump(stage.clock.time() + 23)
    await settle()
    await stage.advance(6)
    assert fleet.times == [0.25, 5.25, 29.0, 30.25, 35.0 + 0.25][: len(fleet.times)]
    assert len(fleet.times) in {4, 5}


async def test_a_newcomer_is_asked_for_promptly(stage: Stage, fleet: Fleet) -> None:
    """Also for a pod that others wait for already; with an answer asked for after it came."""
    fleet.add(2)
    seen: list[float] = []
    stage.start(stage.client().pods.wait_ready("pod00000"))
    await stage.advance(2)
    for pod_id in ("pod00000", "pod00001"):
        stage.start(
            stage.client().pods.wait_ready(pod_id, on_change=lambda _: seen.append(stage.clock.elapsed))
        )
    await stage.advance(9)
    assert [(asked.time, asked.ids) for asked in fleet.asked] == [
        (0.25, ("pod00000",)),
        (2.25, ("pod00000", "pod00001")),
        (5.25, ("pod00000", "pod00001")),
        (10.25, ("pod00000", "pod00001")),
    ]
    assert seen == [2.25, 2.25]


async def test_newcomers_ride_along_with_a_tick(stage: Stage, fleet: Fleet) -> None:
    """Who comes while a tick is near is part of it, and is not asked for once more right after."""
    fleet.add(2)
    stage.start(stage.client().pods.wait_ready("pod00000"))
    await stage.advance(5.1)
    stage.start(stage.client().pods.wait_ready("pod00001", interval=20))
    await stage.advance(4)
    assert fleet.times == [0.25, 5.25]
    assert fleet.sizes == [1, 2]


async def test_a_newcomer_is_owed_a_request_of_its_own(stage: Stage, fleet: Fleet) -> None:
    """A request waits for its turn; who wanted it leaves, another comes for its pod, then it goes out."""
    ids = fleet.add(101, "ready")
    held = fleet.hold()
    client = stage.client(max_concurrency=1)
    stage.start(client.pods.wait(ids[:100]))
    leaves = stage.start(client.pods.wait_ready(ids[100]))
    await stage.advance(1)
    assert fleet.sizes == [100]
    leaves.cancel()
    await settle()
    comes = stage.start(client.pods.wait_gone(ids[100]))
    change = stage.start(client.pods.wait([ids[100]], until=lambda status: status is not None))
    held.set()
    await stage.advance(0.3)
    assert fleet.sizes == [100, 1, 1]
    assert result(change)[ids[100]].is_ready
    assert not comes.done()


async def test_an_answer_asked_for_before_a_wait_is_not_its_own(stage: Stage, fleet: Fleet) -> None:
    """A request is under way when somebody comes: its answer is for those before, the next one for all."""
    fleet.set("ready", "a")
    held = fleet.hold()
    before = stage.start(stage.client().pods.wait(["a"], until=lambda status: status is not None))
    await stage.advance(1)
    fleet.set("installing", "a")
    after = stage.start(stage.client().pods.wait(["a"], until=lambda status: status is not None))
    await stage.advance(0.5)
    assert len(fleet.asked) == 1
    held.set()
    await settle()
    assert result(before)["a"].is_ready
    assert not result(after)["a"].is_ready
    assert fleet.times == [0.25, 1.5]


async def test_a_lookup_made_before_a_wait_is_not_its_proof(stage: Stage, fleet: Fleet) -> None:
    """A 404 that was asked for before somebody came is not yet his proof."""
    fleet.set("ready", "a")
    pods = stage.client().pods
    before = stage.start(pods.wait_gone("a"))
    await stage.advance(1)
    fleet.set(None, "a")
    held = fleet.hold(POD)
    await stage.advance(10)
    assert len(fleet.lookups) == 1
    after = stage.start(pods.wait_gone("a"))
    await stage.advance(0.1)
    held.set()
    await settle()
    assert before.done()
    assert not after.done()
    await stage.advance(0.2)
    assert after.done()


async def test_a_pod_is_asked_for_once_a_tick_in_full_batches(stage: Stage, fleet: Fleet) -> None:
    """Whoever and however many wait for it."""
    ids = fleet.add(250)
    for n in range(0, 250, 25):
        stage.start(stage.client().pods.wait(ids[n:]))
        stage.start(stage.client().pods.wait(ids[: n + 1]))
    await stage.advance(11)
    for time in (0.25, 5.25, 10.25):
        asked = [one for one in fleet.asked if one.time == time]
        assert sorted(len(one.ids) for one in asked) == [50, 100, 100]
        assert sorted(pod_id for one in asked for pod_id in one.ids) == ids


async def test_different_intervals_share_requests(stage: Stage, fleet: Fleet) -> None:
    """Who is nearly due rides along with who is due."""
    ids = fleet.add(60)
    for n, pod_id in enumerate(ids):
        stage.start(stage.client().pods.wait_ready(pod_id, interval=(1.0, 2.0, 5.0)[n % 3]))
    await stage.advance(1)
    before = len(fleet.asked)
    await stage.advance(20)
    asked = fleet.asked[before:]
    # Twenty ticks at 1 s carry those at 2 s; a tick at 5 s has a jitter of its own and may come alone.
    assert len(asked) <= 20 + 4
    counts = Counter(pod_id for one in asked for pod_id in one.ids)
    assert {round(counts[pod_id]) for pod_id in ids[::3]} <= {20, 21}
    assert {counts[pod_id] for pod_id in ids[1::3]} <= {10, 11}
    assert {counts[pod_id] for pod_id in ids[2::3]} <= {4, 5}


async def test_the_shortest_interval_for_a_pod_counts(stage: Stage, fleet: Fleet) -> None:
    """When the impatient one leaves, the pod goes back to the other's ticks."""
    fleet.add(1)
    stage.start(stage.client().pods.wait_ready("pod00000", interval=10))
    impatient = stage.start(stage.client().pods.wait_ready("pod00000", interval=1))
    await stage.advance(9)
    assert len(fleet.asked) in {9, 10}
    impatient.cancel()
    await stage.advance(0.9)
    before = len(fleet.asked)
    await stage.advance(30)
    assert len(fleet.asked) - before == 3


async def test_what_is_under_way_is_not_asked_for_again(stage: Stage, fleet: Fleet) -> None:
    """A slow answer makes its pods sit out a tick, and nobody else's."""
    ids = fleet.add(150)
    held = fleet.hold()
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(6)
    assert fleet.sizes == [100, 50, 50]
    held.set()
    await stage.advance(5)
    assert sorted(fleet.sizes[3:]) == [50, 100]


FAILURES: dict[str, Answer] = {
    "500": reply({"detail": "oops"}, 500),
    "503": Reply(503),
    "gateway": Reply(502, b"<html>Bad Gateway</html>", headers={"Content-Type": "text/html"}),
    "login page": Reply(200, b"<!doctype html>", headers={"Content-Type": "text/html"}),
    "no JSON": Reply(200, b'{"data": ['),
    "wrong shape": reply({"data": {"a": 1}}),
    "cut": Reply(200, b'{"data": []}', cut=5),
    "garbage": Raw(b"garbage\r\n\r\n"),
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES.keys())
async def test_the_next_tick_is_the_retry(stage: Stage, fleet: Fleet, answer: Answer) -> None:
    """A failed request is not repeated inside its tick; failed twice, its pods are polled in two halves, in
    case a single pod makes it fail.
    """
    ids = fleet.add(150, "ready")
    fleet.next_status(answer, times=3)
    first = stage.start(stage.client(retry=primepods.RetryPolicy(attempts=9)).pods.wait(ids))
    await stage.advance(20)
    # Where tasks start at once, the search sends one request more.
    assert fleet.times.count(0.25) == 2
    assert 4 <= fleet.times.count(5.25) == len(fleet.times) - 2 <= 5
    assert len(result(first)) == 150


# Pauses.


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("seconds", [1, 90, 3_600, 2_000_000_000])
async def test_a_429_pauses_the_whole_poller(chance: float, seconds: float) -> None:
    """By `Retry-After`, at most five minutes, and some chance; every pod, interval, lookup and newcomer."""
    clock = ManualClock(chance=chance)
    async with set_up(clock) as stage:
        fleet = stage.fleet
        fleet.add(3)
        fleet.set("bare", "pod00000")
        fleet.next_status(limited(seconds))
        for n, interval in enumerate((1.0, 5.0)):
            stage.start(stage.client().pods.wait_ready(f"pod0000{n}", interval=interval))
        await stage.advance(0.1)
        assert len(fleet.asked) == 1
        began = fleet.asked[0].time
        longest = min(seconds, 300)
        ends = began + longest + max(1.0, longest / 2) * chance
        await stage.advance(0.5)
        stage.start(stage.client().pods.wait_ready("pod00002", interval=0.05))
        await stage.advance(ends - 0.01 - clock.elapsed)
        assert len(fleet.asked) == 1
        await stage.advance(0.02 + 0.05 * (seconds == 1))
        assert {pod_id for asked in fleet.asked[1:] for pod_id in asked.ids} >= {"pod00002", "pod00000"}


@pytest.mark.slow
async def test_processes_do_not_come_back_in_step() -> None:
    """Sixteen pollers, refused at the same moment by ten answers each, return at sixteen moments."""
    returned = []
    for seed in range(16):
        async with set_up(ManualClock(chance=Random(seed))) as stage:
            ids = stage.fleet.add(1_000)
            stage.fleet.next_status(limited(10), times=10)
            stage.start(stage.client().pods.wait(ids))
            await stage.advance(17)
            returned.append(stage.fleet.times[10] - stage.fleet.times[0])
    assert all(10 <= seconds <= 15 for seconds in returned)
    assert len({round(seconds, 1) for seconds in returned}) >= 12
    # Not crowded at the end, as the longest of ten jitters would be.
    assert sum(seconds < 12.5 for seconds in returned) >= 4


async def test_pauses_grow_once_a_burst_until_a_success() -> None:
    """One second, two, four, up to a minute: however many answers of a tick say 429."""
    async with set_up(ManualClock(chance=0.0)) as stage:
        ids = stage.fleet.add(1_000)
        stage.fleet.next_status(limited(), times=1_000_000)
        stage.start(stage.client().pods.wait(ids, interval=0.9))
        await stage.advance(300)
        pauses = [round(after - before, 3) for before, after in pairwise(sorted(set(stage.fleet.times)))]
        assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
        stage.fleet.faults.clear()
        await stage.advance(65)
        stage.fleet.next_status(limited())
        await stage.advance(0.9)
        refused = max(stage.fleet.times)
        await stage.advance(1.8)
        assert min(time for time in stage.fleet.times if time > refused) == pytest.approx(
            refused + 1, abs=0.2
        )


async def test_a_shorter_retry_after_shortens_no_pause(stage: Stage, fleet: Fleet) -> None:
    """Of several answers the most patient one counts."""
    ids = fleet.add(300)
    for seconds in (30, 1, 0):
        fleet.next_status(limited(seconds))
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(30)
    assert len(fleet.asked) == 3
    await stage.advance(10)
    assert len(fleet.asked) == 6


@pytest.mark.slow
async def test_a_pause_holds_what_was_about_to_go_out(stage: Stage, fleet: Fleet) -> None:
    """Of a hundred batches sixteen are under way when the first 429 comes: the others stay at home."""
    ids = fleet.add(10_000)
    fleet.next_status(limited(5), times=100)
    wait = stage.start(stage.client().pods.wait(ids, timeout=500))
    await stage.advance(5)
    assert len(fleet.asked) <= 16
    fleet.faults.clear()
    fleet.set("ready", *ids)
    await stage.advance(10)
    assert len(result(wait)) == 10_000
    assert len(fleet.asked) <= 16 + 100


async def test_lookups_of_a_tick_end_with_the_first_429(stage: Stage, fleet: Fleet) -> None:
    """What they were to ask is asked after the pause."""
    ids = fleet.add(40, "bare")
    fleet.got = {pod_id: {"ip": "9.9.9.9"} for pod_id in ids}
    fleet.next_status(limited(10), on=POD)
    wait = stage.start(stage.client().pods.wait(ids))
    await stage.advance(10)
    assert len(fleet.lookups) <= 4
    await stage.advance(40)
    assert len(result(wait)) == 40


async def test_a_pause_holds_the_history(stage: Stage, fleet: Fleet) -> None:
    """A 429 comes before `get` says that a pod is missing: whether it had ended is asked after the pause."""
    fleet.ended = ["old"]
    missing = Reply(404, b'{"detail": "no"}', drip=0.1, clock=stage.clock)
    fleet.faults.append(lambda asked: missing if asked.received.path == POD + "old" else None)
    wait = stage.start(stage.client().pods.wait_ready("old"))
    await stage.advance(5.5)
    fleet.next_status(limited(10))
    stage.start(stage.client().pods.wait_ready("here"))
    await stage.advance(10)
    assert len(fleet.asked) == 4
    await stage.advance(40)
    raised(wait, primepods.PodFailedError)


async def test_a_rate_limit_starves_nobody(stage: Stage, fleet: Fleet) -> None:
    """Five requests a second are let through where a tick needs ten: the rest is sent after the pause."""
    ids = fleet.add(1_000)
    recent: list[float] = []

    def limit(asked: Asked) -> Answer | None:
        recent[:] = [time for time in recent if time > asked.time - 1]
        if len(recent) >= 5:
            return limited()
        recent.append(asked.time)
        return None

    fleet.faults.append(limit)
    seen: set[str] = set()
    stage.start(stage.client().pods.wait(ids, on_change=lambda change: seen.add(change.pod_id)))
    await stage.advance(4)
    assert len(seen) == 1_000


async def test_calls_keep_to_the_rate_that_a_wait_has_learned() -> None:
    """Also those of another client: the API limits all that have the key together."""
    async with set_up(ManualClock(chance=0.5)) as stage:
        ids = stage.fleet.add(1)
        stage.fleet.next_status(limited(1), times=2)
        stage.start(stage.client().pods.wait(ids, interval=60))
        await stage.advance(10)
        calls = [stage.start(stage.client().pods.get(pod_id)) for pod_id in ids * 5]
        await stage.advance(1)
        assert 1 <= sum(call.done() for call in calls) <= 3
        await stage.advance(10)
        assert all(call.done() for call in calls)


@pytest.mark.slow
async def test_pollers_that_know_nothing_of_each_other_share_a_limit() -> None:
    """Sixteen want three requests a second, two are let through: most of them are used, and by all."""
    async with set_up(ManualClock(chance=Random(1))) as stage:
        ids = stage.fleet.add(16)
        answered: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        recent: list[float] = []

        def limit(asked: Asked) -> Answer | None:
            recent[:] = [time for time in recent if time > asked.time - 1]
            counts = refused if len(recent) >= 2 else answered
            counts.update(asked.ids)
            if counts is refused:
                return limited(1)
            recent.append(asked.time)
            return None

        stage.fleet.faults.append(limit)
        for number, pod_id in enumerate(ids):
            # Clients of one address and key keep to one rate.
            stage.start(stage.client(path=f"/process/{number}").pods.wait([pod_id]))
        await stage.advance(120)
        at_first = set(answered)
        answered.clear()
        refused.clear()
        await stage.advance(120)
        assert refused.total() < answered.total()
        assert answered.total() > 120
        # Chance decides whose turn it is: one in sixty runs had a client without an answer for two minutes.
        for _ in range(10):
            if at_first | set(answered) == set(ids):
                break
            await stage.advance(60)
        assert at_first | set(answered) == set(ids)
