"""What fails while many wait: who is hurt by it, who is told, and when it is believed."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import primepods
from tests.support.clock import settle
from tests.support.server import Answer, Close, Hang, Held, Reply, reply
from tests.waiting.fleet import POD, Asked, Fleet, Stage, raised, result, row

TICK = 5.0
FIRST = 0.25
"""When newcomers are asked for."""


def html(status: int) -> Answer:
    """A gateway's page."""
    return Reply(status, b"<html><title>No</title></html>", headers={"Content-Type": "text/html"})


def refusal(status: int) -> Answer:
    """The API's own no."""
    return reply({"detail": "no"}, status)


def poison(fleet: Fleet, answer: Answer, *pod_ids: str) -> None:
    """Let every status request that names one of these pods fail."""
    bad = set(pod_ids)
    fleet.faults.append(lambda asked: answer if asked.is_status and bad & set(asked.ids) else None)


def requests_a_tick(fleet: Fleet) -> Counter[float]:
    """How many status requests there were at each time, lookups aside."""
    return Counter(int((asked.time - FIRST) / TICK) for asked in fleet.status_requests)


def wait_each(stage: Stage, ids: list[str], **options: Any) -> dict[str, asyncio.Task[primepods.PodStatus]]:
    """A wait of its own for each, on two clients."""
    clients = stage.client(), stage.client()
    return {
        pod_id: stage.start(clients[number % 2].pods.wait_ready(pod_id, **options))
        for number, pod_id in enumerate(ids)
    }


# A pod that spoils its batch.

SPOILS: dict[str, Answer] = {
    "500": refusal(500),
    "not JSON": Reply(200, b'{"data": [{"podId": NaN'),
    "closed": Close(),
    "hang": Hang(),
}


@pytest.mark.parametrize(
    ("position", "kind"), [*((42, kind) for kind in SPOILS), *((at, "500") for at in (0, 77, 99, 120, 149))]
)
async def test_one_poison_pod_starves_nobody(stage: Stage, fleet: Fleet, position: int, kind: str) -> None:
    """Of 150 ready pods 149 are seen within three ticks, one of which has 16 requests, the others two."""
    ids, spoils = fleet.add(150, "ready"), SPOILS[kind]
    poison(fleet, spoils, ids[position])
    timeout = 0.4 if isinstance(spoils, Hang) else 30.0
    client = stage.client(timeout=timeout)
    waits = [stage.start(client.pods.wait_ready(pod_id, timeout=600)) for pod_id in ids]
    await stage.advance(FIRST + 3 * TICK + 1.5)
    assert [n for n, wait in enumerate(waits) if not wait.done()] == [position]
    # Its batch, a pod alone, and both halves seven times; aiohttp sends a request twice whose connection was
    # closed.
    requests = [count / (1 + isinstance(spoils, Close)) for count in requests_a_tick(fleet).values()]
    assert max(requests) <= 16
    assert sum(count > 2 for count in requests) == 1
    await stage.advance(100)
    assert not waits[position].done()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "bad", "ready_at"),
    [
        (150, (0, 99), 200),
        (150, (3, 140), 200),
        (150, (97, 98, 99, 149), 200),
        (60, (7,), 200),
        (60, (0, 20, 40, 59), 200),
        *((150, (99,), ready_at) for ready_at in (3, 8, 13, 18, 23, 28, 33, 38, 48, 63)),
    ],
)
async def test_several_poison_pods_starve_nobody(
    stage: Stage, fleet: Fleet, count: int, bad: tuple[int, ...], ready_at: float
) -> None:
    """In one batch or in two, whenever others become ready: three ticks later they are seen, at few requests.

    Where there is one batch, nothing is answered at all until it is searched: that is told from an outage.
    """
    ids = fleet.add(count)
    poison(fleet, refusal(500), *(ids[n] for n in bad))
    waits = wait_each(stage, ids)
    await stage.advance(ready_at)
    fleet.set("ready", *ids)
    await stage.advance(3 * TICK + 0.5)
    assert [n for n, pod_id in enumerate(ids) if not waits[pod_id].done()] == list(bad)
    # Once they are known, their batch and three of them a tick.
    assert sum(count > 2 + 4 for count in requests_a_tick(fleet).values()) <= 3
    before = len(fleet.asked)
    await stage.advance(10 * TICK)
    assert {pod_id for asked in fleet.asked[before:] for pod_id in asked.ids} == {ids[n] for n in bad}
    assert len(fleet.asked) - before <= 4 * 10


@pytest.mark.parametrize("bad", [range(8), range(12, 200, 25), (7, 65, 91, 135, 159, 166, 176, 189)])
async def test_eight_poison_pods_starve_nobody(stage: Stage, fleet: Fleet, bad: Sequence[int]) -> None:
    """The others are seen within five ticks, of at most 36 requests each; then a tick has six."""
    ids = fleet.add(200, "ready")
    poison(fleet, refusal(500), *(ids[n] for n in bad))
    waits = wait_each(stage, ids)
    await stage.advance(FIRST + 4 * TICK + 0.5)
    assert [n for n, pod_id in enumerate(ids) if not waits[pod_id].done()] == list(bad)
    assert max(requests_a_tick(fleet).values()) <= 36
    others = fleet.add(200, prefix="other")
    wait_each(stage, others)
    await stage.advance(5)
    before = len(fleet.asked)
    await stage.advance(10 * TICK)
    assert len(fleet.asked) - before <= 6 * 10


async def test_a_search_that_hangs_does_not_delay_others(stage: Stage, fleet: Fleet) -> None:
    """Of one batch nine pods make requests hang for half a minute each, of another only one: it is found."""
    ids = fleet.add(200, "ready")
    poison(fleet, Hang(), *ids[:100:12], ids[150])
    waits = wait_each(stage, ids)
    await stage.advance(250)
    assert [pod_id for pod_id in ids[100:] if not waits[pod_id].done()] == [ids[150]]


async def test_pods_that_fail_are_polled_after_the_others(stage: Stage, fleet: Fleet) -> None:
    """By then it is known whether the API works."""
    ids = fleet.add(50)
    poison(fleet, refusal(500), *ids[:2])
    wait_each(stage, ids)
    await stage.advance(FIRST + 2 * TICK + 1)
    held, before = fleet.hold(), len(fleet.sizes)
    await stage.advance(TICK)
    assert fleet.sizes[before:] == [48]
    held.set()
    await settle()
    assert fleet.sizes[before:] == [48, 2, 1, 1]


@pytest.mark.parametrize("recovered", [{3, 4, 5, 6, 7}, {1}, {4}])
async def test_many_poison_pods_that_recover_are_seen(
    stage: Stage, fleet: Fleet, recovered: set[int]
) -> None:
    """There are too many to ask for each of them alone at each tick, so they take turns."""
    ids = fleet.add(60)
    bad = ids[::8]
    poison(fleet, refusal(500), *bad)
    waits = wait_each(stage, ids)
    await stage.advance(80 * TICK)
    fleet.faults.clear()
    still_bad = [pod_id for n, pod_id in enumerate(bad) if n not in recovered]
    poison(fleet, refusal(500), *still_bad)
    fleet.set("ready", *ids)
    await stage.advance(5 * TICK)
    assert [pod_id for pod_id in ids if not waits[pod_id].done()] == still_bad


async def test_a_poison_pod_that_recovers_is_seen(stage: Stage, fleet: Fleet) -> None:
    """It shares requests with the others again."""
    ids = fleet.add(150)
    poison(fleet, refusal(500), ids[5])
    waits = wait_each(stage, ids)
    await stage.advance(60)
    fleet.faults.clear()
    await stage.advance(10)
    before = len(fleet.asked)
    await stage.advance(TICK)
    assert sorted(fleet.sizes[before:]) == [50, 100]
    fleet.set("ready", *ids)
    await stage.advance(TICK)
    assert all(wait.done() for wait in waits.values())


@pytest.mark.parametrize("count", [60, 1_000])
async def test_an_outage_is_no_poison(stage: Stage, fleet: Fleet, count: int) -> None:
    """While nothing is answered there are hardly more requests; afterwards one tick sees all pods."""
    ids = fleet.add(count, "ready")
    fleet.next_status(refusal(503), times=10_000)
    waits = wait_each(stage, ids)
    await stage.advance(90)
    assert not any(wait.done() for wait in waits.values())
    assert max(requests_a_tick(fleet).values()) <= -(-count // 100) + 3
    fleet.faults.clear()
    await stage.advance(TICK + 0.5)
    assert all(wait.done() for wait in waits.values())


async def test_a_poison_pod_after_an_outage_starves_nobody(stage: Stage, fleet: Fleet) -> None:
    """In the outage each pod has failed alone; when it ends for all but one, the others are seen at once."""
    ids = fleet.add(60, "ready")
    poison(fleet, refusal(500), ids[5])
    fleet.faults.insert(0, lambda _: refusal(503))
    waits = wait_each(stage, ids)
    await stage.advance(50 * TICK)
    del fleet.faults[0]
    await stage.advance(TICK)
    assert [pod_id for pod_id in ids if not waits[pod_id].done()] == [ids[5]]


@pytest.mark.slow
async def test_an_outage_leaves_a_poison_pod_alone(stage: Stage, fleet: Fleet) -> None:
    """What is known of it before is known afterwards; those whose search it interrupted are seen, too."""
    ids = fleet.add(150)
    poison(fleet, refusal(500), ids[5])
    waits = wait_each(stage, ids, timeout=3_000)
    for seconds, outage in ((7, 1_500), (40, 60)):
        await stage.advance(seconds)
        fleet.faults.insert(0, lambda _: refusal(503))
        await stage.advance(outage)
        del fleet.faults[0]
    fleet.set("ready", *ids)
    await stage.advance(3 * TICK)
    assert [pod_id for pod_id in ids if not waits[pod_id].done()] == [ids[5]]


@pytest.mark.parametrize(
    "broken", [{"podId": None}, {"installationProgress": {}}], ids=["no id", "no number"]
)
async def test_a_row_that_cannot_be_read_hurts_nobody_else(
    stage: Stage, fleet: Fleet, broken: dict[str, Any]
) -> None:
    """It is trouble of its own pod, which is neither missing nor gone, and recovers."""
    ids = fleet.add(150, "ready")
    fleet.fields[ids[7]] = broken
    waits = wait_each(stage, ids, appear_grace=1, timeout=90)
    gone = stage.start(stage.client().pods.wait_gone(ids[7], timeout=90))
    await stage.advance(1)
    assert [pod_id for pod_id in ids if not waits[pod_id].done()] == [ids[7]]
    await stage.advance(40)
    assert not fleet.lookups
    fleet.fields.clear()
    await stage.advance(TICK)
    assert result(waits[ids[7]]).is_ready
    assert not gone.done()
    fleet.fields[ids[7]] = broken
    await stage.advance(90)
    text = str(raised(gone, primepods.WaitTimeoutError))
    assert text.startswith(
        "The last requests failed: GET /api/v1/pods/status: the API's response is invalid at data[0]."
    )


async def test_a_batch_that_hangs_does_not_delay_a_search(stage: Stage, fleet: Fleet) -> None:
    """One batch has a poison pod, another gets no answer for half a minute: each is for itself."""
    ids = fleet.add(250, "ready")
    poison(fleet, refusal(500), ids[5])
    poison(fleet, Hang(), ids[245])
    waits = wait_each(stage, ids)
    await stage.advance(4 * TICK)
    assert [pod_id for pod_id in ids[:200] if not waits[pod_id].done()] == [ids[5]]


async def test_who_leaves_while_a_batch_is_searched_is_forgotten(stage: Stage, fleet: Fleet) -> None:
    """The poison pod itself, or any other: nothing is asked for them any more."""
    ids = fleet.add(150)
    poison(fleet, refusal(500), ids[5])
    waits = wait_each(stage, ids)
    await stage.advance(7)
    for pod_id in ids[::2]:
        waits[pod_id].cancel()
    await settle()
    before = len(fleet.asked)
    await stage.advance(40)
    assert {pod_id for asked in fleet.asked[before:] for pod_id in asked.ids} == set(ids[1::2])
    waits[ids[5]].cancel()
    await settle()
    before = len(fleet.asked)
    await stage.advance(4 * TICK)
    assert {pod_id for asked in fleet.asked[before:] for pod_id in asked.ids} == set(ids[1::2]) - {ids[5]}


@pytest.mark.parametrize("status", [403, 429])
async def test_who_leaves_before_a_refusal_comes_hurts_nobody(
    stage: Stage, fleet: Fleet, status: int
) -> None:
    """A wait is cancelled while the request for its pod is under way: refused then, it is not repeated."""
    fleet.add(2)
    pods, refused = stage.client().pods, asyncio.Event()
    stays = stage.start(pods.wait_ready("pod00000"))
    await stage.advance(1)
    fleet.next_status(Held(refused, refusal(status)))
    leaves = stage.start(pods.wait_ready("pod00001"))
    await stage.advance(1)
    leaves.cancel()
    await settle()
    refused.set()
    await stage.advance(2 * TICK)
    assert sum("pod00001" in asked.ids for asked in fleet.asked) == 1
    fleet.set("ready", "pod00000")
    await stage.advance(TICK)
    assert result(stays).is_ready


# Refusals: of an id, of the key, or nobody's.

STRAY: dict[str, Answer] = {
    "401": refusal(401),
    "403": refusal(403),
    "404": refusal(404),
    "402": refusal(402),
    "422": refusal(422),
    "401 page": html(401),
    "403 page": html(403),
    "404 text": Reply(404, b"404 page not found", headers={"Content-Type": "text/plain"}),
    "408": refusal(408),
    "421": refusal(421),
    "425": refusal(425),
    "501": refusal(501),
}


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("on", ["status", "get"])
@pytest.mark.parametrize("answer", STRAY.values(), ids=STRAY)
async def test_a_single_stray_answer_ends_nobodys_wait(
    stage: Stage, fleet: Fleet, answer: Answer, on: str, count: int
) -> None:
    """Whatever it says, and whether one waits or many: said once it proves nothing."""
    ids = fleet.add(count, "bare")
    fleet.got = {pod_id: {"ip": None} for pod_id in ids}
    waits = wait_each(stage, ids)
    fleet.next_status(answer, on=POD if on == "get" else "/api/v1/pods/status")
    await stage.advance(7)
    fleet.next_status(answer, on=POD if on == "get" else "/api/v1/pods/status")
    await stage.advance(10)
    assert not any(wait.done() for wait in waits.values())
    fleet.set("ready", *ids)
    await stage.advance(2 * TICK)
    assert all(result(wait).is_ready for wait in waits.values())


@pytest.mark.parametrize("count", [1, 1_000])
@pytest.mark.parametrize("status", [401, 403, 501, 505])
@pytest.mark.parametrize("begins", ["first", "later"])
async def test_a_key_that_is_refused_ends_all_waits_soon(
    stage: Stage, fleet: Fleet, status: int, begins: str, count: int
) -> None:
    """Two seconds after the first refusal it is repeated, and believed; no storm of requests."""
    ids = fleet.add(count)
    waits = wait_each(stage, ids)
    if begins == "later":
        await stage.advance(TICK)
    before = len(fleet.asked)
    fleet.next_status(refusal(status), times=10_000)
    await stage.advance(1)
    assert not any(wait.done() for wait in waits.values())
    await stage.advance(1.5)
    errors = [wait.exception() for wait in waits.values()]
    assert {getattr(error, "status_code", None) for error in errors} == {status}
    assert len({id(error) for error in errors}) == count
    batches = -(-count // 100)
    assert len(fleet.asked) - before <= 2 * batches + min(8 * batches, 60)


@pytest.mark.parametrize(
    ("on", "gap", "ends"),
    [
        ("/api/v1/pods/status", 8, True),
        ("/api/v1/pods/status", 600, False),
        (POD, 40, True),
        (POD, 600, False),
    ],
)
async def test_refusals_far_apart_are_no_repetition(
    stage: Stage, fleet: Fleet, on: str, gap: float, *, ends: bool
) -> None:
    """With nothing but 503 between them, two refusals count only when they are a few intervals apart."""
    interval = 5 if on != POD else 30
    fleet.add(1, "bare")
    fleet.got["pod00000"] = {"ip": None}
    wait = stage.start(stage.client().pods.wait_ready("pod00000"))
    await stage.advance(1)
    fleet.next_status(refusal(403), on=on)
    fleet.next_status(refusal(503), times=10_000, on=on)
    await stage.advance(interval + 5)
    assert not wait.done()
    await stage.advance(gap - 5)
    fleet.faults.clear()
    fleet.next_status(refusal(403), on=on)
    await stage.advance(interval + 6)
    assert wait.done() == ends


async def test_a_refusal_is_confirmed_at_the_shortest_interval(stage: Stage, fleet: Fleet) -> None:
    """Polled twenty times a second, a refused pod has still to wait for two seconds, and no longer."""
    fleet.add(1)
    wait = stage.start(stage.client().pods.wait_ready("pod00000", interval=0.05))
    await stage.advance(1)
    fleet.next_status(refusal(403), times=10_000)
    await stage.advance(1.9)
    assert not wait.done()
    await stage.advance(0.3)
    raised(wait, primepods.PermissionDeniedError)


async def test_the_poller_sleeps_while_a_confirmation_is_queued(stage: Stage, fleet: Fleet) -> None:
    """What is to confirm a refusal waits for its turn behind a request that hangs: that is no busy loop."""
    ids = fleet.add(150)
    client = stage.client(max_concurrency=1, timeout=10.0)
    fleet.next_status(refusal(401), times=20)
    wait = stage.start(client.pods.wait(ids))
    await stage.advance(1)
    fleet.faults.clear()
    fleet.next_status(Hang())
    before = len(fleet.sizes)
    await asyncio.wait_for(stage.advance(10), 40)
    assert len(fleet.sizes) == before + 1
    assert not wait.done()


@pytest.mark.parametrize(
    ("status", "foreign"),
    [
        *((status, (120,)) for status in (400, 401, 403, 404, 413, 422, 501)),
        *((403, foreign) for foreign in ((57,), (3, 4), (1, 30, 60, 99))),
    ],
)
async def test_a_pod_of_another_team_ends_its_own_waits_only(
    stage: Stage, fleet: Fleet, status: int, foreign: tuple[int, ...]
) -> None:
    """Its batch is refused, and passes without it: then it is about that id."""
    ids = fleet.add(150)
    bad = [ids[n] for n in foreign]
    poison(fleet, refusal(status), *bad)
    waits = wait_each(stage, ids)

    async def watch() -> None:
        async for _ in stage.client().pods.watch(bad):
            pass

    watched = stage.start(watch())
    await stage.advance(3)
    for pod_id in bad:
        error = waits[pod_id].exception()
        assert isinstance(error, primepods.APIError)
        assert error.status_code == status
    assert isinstance(watched.exception(), primepods.APIError)
    # Both halves of a hundred are asked for, seven times.
    assert len(fleet.asked) <= 20 * len(bad)
    await stage.advance(20)
    assert set(fleet.sizes[-2:]) == {100, 50 - len(bad)}
    fleet.set("ready", *ids)
    await stage.advance(TICK)
    assert all(result(waits[pod_id]).is_ready for pod_id in ids if pod_id not in bad)


async def test_pods_of_another_team_that_come_in_turn_end_no_other_wait(stage: Stage, fleet: Fleet) -> None:
    """Each comes before the refusal of the one before is confirmed: neighbours are not refused with them."""
    ids = fleet.add(60)
    poison(fleet, refusal(403), *ids[:5])
    waits = wait_each(stage, ids[5:], interval=1.0)
    for pod_id in ids[:5]:
        waits |= wait_each(stage, [pod_id], interval=1.0)
        await stage.advance(0.9)
    await stage.advance(10)
    assert [pod_id for pod_id in ids if waits[pod_id].done()] == ids[:5]


async def test_many_pods_of_another_team_do_not_end_other_waits(stage: Stage, fleet: Fleet) -> None:
    """Somebody waits for 120 pods that are not theirs; those of others in the same batches go on."""
    ids = fleet.add(200)
    poison(fleet, refusal(403), *ids[:120])
    waits = wait_each(stage, ids)
    await stage.advance(7.5)
    assert all(waits[pod_id].done() for pod_id in ids[:120])
    fleet.set("ready", *ids)
    await stage.advance(2 * TICK)
    assert all(result(waits[pod_id]).is_ready for pod_id in ids[120:])


async def test_a_slow_response_counts_before_a_whole_batch_is_refused(stage: Stage, fleet: Fleet) -> None:
    """99 of 100 pods are of another team: whether the API refuses all, the other batch shows, though late."""
    ids = fleet.add(150)
    poison(fleet, refusal(403), ids[0], *ids[2:100])
    held = fleet.hold()
    waits = wait_each(stage, ids)
    await stage.advance(3)
    held.set()
    await stage.advance(40)
    assert [pod_id for pod_id in ids if not waits[pod_id].done()] == [ids[1], *ids[100:]]


async def test_refused_pods_share_requests_with_each_other_only(stage: Stage, fleet: Fleet) -> None:
    """Until they are refused again, they need one request a tick, also beside a poison pod."""
    ids = fleet.add(60)
    poison(fleet, refusal(403), *ids[:10])
    poison(fleet, refusal(500), ids[20])
    wait_each(stage, ids, interval=1.0)
    await stage.advance(1)
    before = len(fleet.asked)
    await stage.advance(1)
    assert fleet.sizes[before:] == [49, 10, 1]


async def test_other_searches_do_not_delay_that_of_a_refused_batch(stage: Stage, fleet: Fleet) -> None:
    """One batch has a poison pod, the other a pod of another team, which is found within one tick."""
    ids = fleet.add(300)
    poison(fleet, refusal(500), ids[5])
    poison(fleet, refusal(403), ids[157])
    waits = wait_each(stage, ids)
    await stage.advance(3)
    assert [pod_id for pod_id in ids if waits[pod_id].done()] == [ids[157]]
    raised(waits[ids[157]], primepods.PermissionDeniedError)


async def test_an_api_that_refuses_everything_is_asked_little(stage: Stage, fleet: Fleet) -> None:
    """Nine requests, and one to confirm it: then it is not about an id, and ends all waits."""
    ids = fleet.add(100)
    fleet.next_status(reply({"detail": "bad team"}, 400), times=1_000)
    waits = wait_each(stage, ids)
    await stage.advance(3)
    assert len(fleet.asked) == 9
    for wait in waits.values():
        assert "bad team" in str(raised(wait, primepods.BadRequestError))


async def test_a_slow_search_does_not_confirm_its_own_refusals(stage: Stage, fleet: Fleet) -> None:
    """All of its requests are refused, within nine seconds; the next one works, and the wait goes on."""
    ids = fleet.add(100)
    held: list[asyncio.Event] = []

    def refuse_slowly(_: Asked) -> Held:
        held.append(asyncio.Event())
        return Held(held[-1], refusal(403))

    fleet.next_status(refuse_slowly, times=8)
    wait = stage.start(stage.client().pods.wait(ids))
    await stage.advance(1)
    while held:
        held.pop().set()
        await stage.advance(1)
    fleet.set("ready", *ids)
    await stage.advance(2 * TICK)
    assert len(result(wait)) == 100


@pytest.mark.parametrize(("status", "interval"), [(401, TICK), (403, 100.0), (422, TICK)])
async def test_a_refusal_by_get_is_about_its_pod(
    stage: Stage, fleet: Fleet, status: int, interval: float
) -> None:
    """Repeated with the next tick it ends the waits for that pod, and no others."""
    fleet.set("bare", "theirs")
    fleet.set("provisioning", "ours")
    pods = stage.client().pods
    theirs = stage.start(pods.wait_ready("theirs", interval=interval))
    ours = stage.start(pods.wait_ready("ours"))
    fleet.next_status(refusal(status), on=POD, times=2)
    await stage.advance(1)
    assert not theirs.done()
    await stage.advance(interval * 1.2)
    assert theirs.done()
    assert getattr(theirs.exception(), "status_code", None) == status
    assert not ours.done()


async def test_refusals_by_get_with_an_answer_between_end_no_wait(stage: Stage, fleet: Fleet) -> None:
    """A 404 is an answer, too: the refusal after it is again a first one."""
    fleet.set("bare", "a")
    fleet.got["a"] = None
    wait = stage.start(stage.client().pods.wait_ready("a"))
    for _ in range(2):
        fleet.next_status(refusal(403), on=POD)
        await stage.advance(35)
    assert len(fleet.lookups) == 4
    assert not wait.done()


# Waiting is not silent.


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings so far."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "named"),
    [(refusal(503), "503"), (html(200), "HTML"), (reply({"no": "data"}), "data"), (Close(), "Server")],
    ids=["503", "login page", "no data", "closed"],
)
async def test_an_outage_is_said_at_once_and_once_a_minute(
    stage: Stage, fleet: Fleet, caplog: pytest.LogCaptureFixture, answer: Answer, named: str
) -> None:
    """By one line for all who wait, however many they are."""
    ids = fleet.add(300)
    fleet.next_status(answer, times=10_000)
    waits = wait_each(stage, ids, timeout=200)
    await stage.advance(1)
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith(
        "Still waiting, but a request for 100 of 300 pods failed: GET /api/v1/pods"
    )
    assert named in lines(caplog)[0]
    assert caplog.records[-1].name == "primepods.poller"
    await stage.advance(178)
    assert len(lines(caplog)) == 3
    await stage.advance(30)
    text = str(raised(waits[ids[0]], primepods.WaitTimeoutError))
    assert text.startswith("The last requests failed: GET /api/v1/pods/status")
    assert "billed" not in text


async def test_a_lookup_that_fails_is_said_too(
    stage: Stage, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """What only `get` can tell is not waited for in silence."""
    fleet.set("bare", "a")
    fleet.next_status(refusal(503), times=100, on=POD)
    stage.start(stage.client().pods.wait_ready("a"))
    await stage.advance(1)
    assert [line for line in lines(caplog) if "GET /api/v1/pods/a: 503" in line]


async def test_a_pause_is_said_also_to_those_who_come_later(
    stage: Stage, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins, once for those who begin to wait in it, and once a minute while it lasts."""
    fleet.add(300)
    fleet.next_status(reply({}, 429, headers={"Retry-After": "200"}))
    stage.start(stage.client().pods.wait_ready("pod00000"))
    await stage.advance(1)
    assert len(lines(caplog)) == 1
    assert "asked for a pause, and polling continues in 250 s. GET" in lines(caplog)[0]
    for pod_id in list(fleet.states):
        stage.start(stage.client().pods.wait_ready(pod_id, timeout=50))
    late = stage.tasks[-1]
    await settle()
    assert len(lines(caplog)) == 2
    assert "continues in 249 s" in lines(caplog)[1]
    await stage.advance(50)
    text = str(raised(late, primepods.WaitTimeoutError))
    assert text.startswith("The API asked for a pause in requests: GET /api/v1/pods/status: 429")
    assert "billed" not in text
    await stage.advance(100)
    assert len(lines(caplog)) == 4
    assert len(fleet.asked) == 1


# Pods that had ended before anybody waited.


@pytest.mark.parametrize("until", [primepods.ready, primepods.settled, lambda status: status is None])
async def test_a_pod_of_the_history_is_gone_at_once(
    stage: Stage, fleet: Fleet, until: Callable[[primepods.PodStatus | None], bool]
) -> None:
    """A wait is resumed for pods that have ended meanwhile: nobody waits for them to appear."""
    fleet.set("ready", "here")
    fleet.ended = [f"old{n}" for n in range(5)]
    waits = [stage.start(stage.client().pods.wait([pod_id, "here"], until=until)) for pod_id in fleet.ended]
    await stage.advance(FIRST + TICK + 0.5)
    for wait in waits:
        if until is primepods.settled:
            assert result(wait).missing
        elif until is primepods.ready:
            error = raised(wait, primepods.PodFailedError)
            assert error.last is None
            assert "is gone" in str(error)
    assert len([asked for asked in fleet.asked if asked.is_history]) == 1


async def test_the_history_is_asked_rarely(stage: Stage, fleet: Fleet) -> None:
    """Once in half a minute for all pods that never appeared; what fails there changes nothing."""
    ids = [f"never{n}" for n in range(20)]
    fleet.faults.append(lambda asked: refusal(403) if asked.is_history else None)
    waits = wait_each(stage, ids)
    await stage.advance(59)
    assert not any(wait.done() for wait in waits.values())
    assert len([asked for asked in fleet.asked if asked.is_history]) <= 2
    await stage.advance(2)
    for wait in waits.values():
        raised(wait, primepods.NotFoundError)


@pytest.mark.parametrize(("ids", "pods"), [(["never0", "never1", "never2"], "3 of 4"), ([], "1 of 1")])
async def test_a_failed_request_for_the_history_names_the_pods_that_need_it(
    stage: Stage, fleet: Fleet, caplog: pytest.LogCaptureFixture, ids: list[str], pods: str
) -> None:
    """One page is for all pods that were never found, also if a wait has ended with `get`'s 404 meanwhile."""
    fleet.add(1)
    # It fails after the other requests of its tick.
    slow = Reply(503, b'{"detail": "no"}', drip=0.1, clock=stage.clock)
    fleet.faults.append(lambda asked: slow if asked.is_history else None)
    wait_each(stage, ["pod00000", *ids])
    gone = stage.start(stage.client().pods.wait_gone("never3"))
    await stage.advance(35)
    assert gone.done()
    (line,) = lines(caplog)
    assert line.startswith(f"Still waiting, but a request for {pods} pods failed: GET /api/v1/pods/history")


async def test_a_running_pod_in_the_history_is_not_gone(stage: Stage, fleet: Fleet) -> None:
    """Only what ended, and what neither status nor `get` has, is gone."""
    fleet.set("provisioning", "a")
    fleet.ended = ["a"]
    fleet.faults.append(
        lambda asked: reply({"data": [row("b", "ready")]}) if asked.is_status and asked.time < 8 else None
    )
    wait = stage.start(stage.client().pods.wait_ready("a"))
    await stage.advance(12)
    fleet.set("ready", "a")
    await stage.advance(TICK)
    assert result(wait).is_ready
