"""What a wait waits for, how it ends, and what it says then."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

import primepods
from primepods import PodChange, PodStatus
from tests.support.clock import settle
from tests.support.server import Answer, Hang, Held, Reply, Reset, reply
from tests.waiting.fleet import POD, Fleet, Stage, raised, result, row

pytestmark = pytest.mark.anyio


def anything(status: PodStatus | None) -> bool:
    """Any state at all."""
    return status is not None


# Ready.


async def test_active_is_not_ready(stage: Stage, fleet: Fleet) -> None:
    """A pod boots: PROVISIONING, ACTIVE and installing, installed without an address, ready."""
    fleet.set("provisioning", "a")
    fleet.got["a"] = {"ip": None}
    wait = stage.start(stage.client().pods.wait_ready("a"))
    for state in ("provisioning", "installing", "bare"):
        fleet.set(state, "a")
        await stage.advance(11)
        assert not wait.done()
    fleet.set("ready", "a")
    await stage.advance(5.5)
    status = result(wait)
    assert status.is_ready
    assert status.ip == "1.2.3.4"


@pytest.mark.parametrize(
    ("fields", "is_ready"),
    [
        ({}, True),
        ({"installationProgress": None}, True),
        ({"installationStatus": "ACTIVE"}, True),
        ({"installationStatus": None, "installationProgress": None}, True),
        ({"installationStatus": None, "installationProgress": 99}, False),
        ({"installationStatus": "TERMINATED"}, False),
        ({"ip": ["1.1.1.1", "1.1.1.2"], "sshConnection": None}, True),
        ({"ip": ["1.1.1.1", None], "sshConnection": [None, "root@1.1.1.2"]}, True),
        ({"ip": ["1.1.1.1", None], "sshConnection": ["root@1.1.1.1", None]}, False),
        ({"status": "UNKNOWN"}, False),
        ({"status": "HIBERNATING"}, False),
    ],
)
async def test_ready_means_installed_and_an_address_for_every_node(
    stage: Stage,
    fleet: Fleet,
    fields: dict[str, Any],
    is_ready: bool,  # noqa: FBT001
) -> None:
    """As the row says it, in any of the ways in which it can be said."""
    fleet.set("ready", "a")
    fleet.fields["a"] = fields
    fleet.got["a"] = {"ip": None, "sshConnection": None}
    wait = stage.start(stage.client().pods.wait_ready("a", timeout=20))
    await stage.advance(21)
    assert (wait.exception() is None) == is_ready


async def test_a_pod_that_is_done_is_asked_for_no_longer(stage: Stage, fleet: Fleet) -> None:
    """The result has each pod's status of the moment when it was done, in the order asked."""
    ids = fleet.add(4)
    wait = stage.start(stage.client().pods.wait([*reversed(ids), ids[0]]))
    for n, pod_id in enumerate(ids):
        fleet.set("ready", pod_id)
        fleet.fields[pod_id] = {"costPerHr": n}
        await stage.advance(5 if n else 1)
        fleet.set("error", pod_id)
    statuses = result(wait)
    assert list(statuses) == ids[::-1]
    assert [status.cost_per_hr for status in statuses.values()] == [3, 2, 1, 0]
    assert statuses.missing == ()
    assert [len(asked.ids) for asked in fleet.asked] == [4, 3, 2, 1]


async def test_nothing_to_wait_for_asks_nothing(stage: Stage, fleet: Fleet) -> None:
    """No ids: an empty result, without a hub."""
    assert dict(await stage.client().pods.wait([])) == {}
    assert [change async for change in stage.client().pods.watch([])] == []
    assert fleet.asked == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"pod_ids": "one"}, TypeError),
        ({"pod_ids": ["a", ""]}, ValueError),
        ({"interval": 0.01}, ValueError),
        ({"interval": float("nan")}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": None}, TypeError),
        ({"appear_grace": -1}, ValueError),
        ({"install_grace": float("inf")}, ValueError),
        ({"until": "ready"}, TypeError),
        ({"on_change": 1}, TypeError),
    ],
)
async def test_arguments_are_checked_before_anything_is_asked(
    stage: Stage, fleet: Fleet, arguments: dict[str, Any], error: type[Exception]
) -> None:
    """A mistake is an exception at once, and no hub."""
    with pytest.raises(error):
        await stage.client().pods.wait(**{"pod_ids": ["a"], **arguments})
    assert fleet.asked == []


# Addresses that only `get` has.


async def test_get_is_asked_for_an_address_that_the_status_lacks(stage: Stage, fleet: Fleet) -> None:
    """The status has everything but an address, `get` has it: the wait's result has both."""
    fleet.set("bare", "a")
    fleet.fields["a"] = {"costPerHr": 7.5, "newField": 1}
    fleet.got["a"] = {"ip": "9.9.9.9", "sshConnection": "ubuntu@9.9.9.9 -p 2222", "status": "ACTIVE"}
    wait = stage.start(stage.client().pods.wait_ready("a"))
    await stage.advance(1)
    status = result(wait)
    assert (status.ip, status.cost_per_hr, dict(status.extra)) == ("9.9.9.9", 7.5, {"newField": 1})
    assert status.ssh is not None
    assert status.ssh.argv() == ["ssh", "-p", "2222", "--", "ubuntu@9.9.9.9"]
    assert len(fleet.lookups) == 1


@pytest.mark.parametrize(
    "answer",
    [None, Reply(503), Reset(), reply({"detail": "not found"}, 404), reply({"no": "pod"})],
    ids=["no address", "503", "reset", "404", "broken"],
)
async def test_get_is_asked_at_most_every_30_seconds_for_an_address(
    stage: Stage, fleet: Fleet, answer: Answer | None
) -> None:
    """Whatever it answers; then it has the address."""
    fleet.set("bare", "a")
    fleet.got["a"] = {"ip": None, "sshConnection": "ubuntu@"}
    if answer is not None:
        fleet.next_status(answer, times=1_000, on=POD)
    wait = stage.start(stage.client().pods.wait_ready("a", interval=1))
    await stage.advance(100)
    times = [asked.time for asked in fleet.lookups]
    # aiohttp sends a GET again whose connection was reset.
    distinct = sorted(set(times))
    assert len(distinct) == 4
    assert min(after - before for before, after in pairwise(distinct)) >= 30
    assert len(fleet.status_requests) >= 99
    fleet.faults.clear()
    fleet.got["a"] = {"ip": "9.9.9.9"}
    await stage.advance(31)
    assert result(wait).ip == "9.9.9.9"


@pytest.mark.parametrize("state", ["provisioning", "installing", "hiccup", "stopped"])
async def test_get_is_not_asked_for_an_address_while_more_is_missing(
    stage: Stage, fleet: Fleet, state: str
) -> None:
    """Only when all but the address is there."""
    fleet.set(state, "a")
    fleet.fields["a"] = {"ip": None, "sshConnection": None}
    stage.start(stage.client().pods.wait(["a"], until=lambda _: False, timeout=100, install_grace=900))
    await stage.advance(90)
    assert fleet.lookups == []


async def test_an_address_of_before_a_stop_is_forgotten(stage: Stage, fleet: Fleet) -> None:
    """A pod that was stopped and comes back elsewhere is not ready at its old address."""
    seen: list[Any] = []
    fleet.set("bare", "a")
    fleet.got["a"] = {"ip": "9.9.9.9"}
    pods = stage.client().pods
    stage.start(pods.wait(["a"], until=lambda s: bool(seen.append(s and s.ip)), timeout=500))  # type: ignore[func-returns-value]
    await stage.advance(6)
    assert seen[-1] == "9.9.9.9"
    # A state that is no failure and no readiness.
    fleet.set("provisioning", "a")
    await stage.advance(5)
    fleet.set("bare", "a")
    fleet.got["a"] = {"ip": "7.7.7.7"}
    await stage.advance(50)
    assert seen == [None, "9.9.9.9", None, None, "7.7.7.7"]


async def test_lookups_are_few_at_a_time(stage: Stage, fleet: Fleet) -> None:
    """A hundred pods without an address do not mean a hundred requests at once."""
    ids = fleet.add(100, "bare")
    fleet.got = {pod_id: {"ip": "9.9.9.9"} for pod_id in ids}
    wait = stage.start(stage.client().pods.wait(ids))
    await stage.advance(1)
    assert len(result(wait)) == 100
    assert len(fleet.lookups) == 100
    assert stage.server.most_in_flight <= 4


async def test_lookups_that_wait_their_turn_are_not_queued_again(stage: Stage, fleet: Fleet) -> None:
    """While the first ones take their time, ticks pass: each pod is looked up once all the same."""
    ids = fleet.add(20, "bare")
    fleet.got = {pod_id: {"ip": None} for pod_id in ids}
    held = [fleet.hold(POD) for _ in range(4)]
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(16)
    assert len(fleet.lookups) == 4
    for event in held:
        event.set()
    await stage.advance(1)
    assert sorted(asked.ids[0] for asked in fleet.lookups) == ids


async def test_pods_that_nobody_wants_are_not_looked_up(stage: Stage, fleet: Fleet) -> None:
    """Their turn comes after those who wanted them have left."""
    ids = fleet.add(20, "bare")
    held = [fleet.hold(POD) for _ in range(4)]
    client = stage.client()
    waits = [stage.start(client.pods.wait_ready(pod_id)) for pod_id in ids]
    await stage.advance(1)
    assert len(fleet.lookups) == 4
    for wait in waits[1:]:
        wait.cancel()
    await settle()
    for event in held:
        event.set()
    await stage.advance(1)
    assert len(fleet.lookups) == 4


# Failed.


async def test_a_failed_pod_ends_the_wait_at_once(stage: Stage, fleet: Fleet) -> None:
    """With everything that is known: the pod, its last status, why, and all the others."""
    ids = fleet.add(3)
    fleet.set("ready", ids[0])
    wait = stage.start(stage.client().pods.wait([*ids, "unseen"]))
    await stage.advance(1)
    fleet.set("error", ids[1])
    await stage.advance(5)
    error = raised(wait, primepods.PodFailedError)
    assert issubclass(primepods.PodFailedError, primepods.WaitError)
    assert error.pod_id == ids[1]
    assert error.last is not None
    assert error.last == error.statuses[ids[1]]
    assert isinstance(error.statuses, primepods.PodStatuses)
    assert error.reason == "status ERROR: no image"
    assert list(error.statuses) == ids
    assert error.statuses.missing == ("unseen",)
    assert error.pending == (ids[1], ids[2], "unseen")
    assert str(error) == (
        f"Pod {ids[1]} has failed: status ERROR: no image. It may still be billed: look at `pods.get()` and "
        "`pods.logs()`, and delete it. 2 other pods were still waited for."
    )


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("stopped", "It can be started again"),
        ("deleting", "pods.wait_gone()"),
        ("terminated", "pods.history()"),
    ],
)
@pytest.mark.parametrize("until", [primepods.ready, primepods.failed, lambda _: False])
async def test_a_pod_that_was_stopped_ends_the_wait(
    stage: Stage, fleet: Fleet, until: Callable[[PodStatus | None], bool], state: str, remedy: str
) -> None:
    """Nor one on its way out: it is no failure, yet no wait outlives it, and nobody is told to delete it."""
    fleet.set("installing", "a")
    wait = stage.start(stage.client().pods.wait(["a"], until=until))
    await stage.advance(1)
    fleet.set(state, "a")
    await stage.advance(5)
    error = raised(wait, primepods.PodFailedError)
    assert error.last is not None
    assert not error.last.has_failed
    assert state.upper() in error.reason
    assert "has failed" not in str(error)
    assert "delete it" not in str(error)
    assert remedy in str(error)


async def test_an_installation_failure_alone_is_a_retry_in_progress(stage: Stage, fleet: Fleet) -> None:
    """`installationFailure` on a pod that installs is not the end."""
    fleet.set("installing", "a")
    fleet.fields["a"] = {"installationFailure": "apt is locked"}
    wait = stage.start(stage.client().pods.wait_ready("a"))
    await stage.advance(300)
    fleet.set("ready", "a")
    await stage.advance(6)
    assert result(wait).is_ready


@pytest.mark.parametrize("grace", [0.0, 30.0, 120.0])
async def test_a_failed_installation_has_install_grace_to_recover(
    stage: Stage, fleet: Fleet, grace: float
) -> None:
    """Until then it is waited for; then the next answer that still says so is believed."""
    fleet.set("hiccup", "a")
    wait = stage.start(stage.client().pods.wait_ready("a", install_grace=grace))
    await stage.advance(grace + 0.2)
    assert not wait.done()
    await stage.advance(5.5)
    error = raised(wait, primepods.PodFailedError)
    assert error.reason == "installation ERROR: apt is locked"


async def test_each_failed_installation_has_its_own_grace(stage: Stage, fleet: Fleet) -> None:
    """Each failure has a grace of its own."""
    fleet.set("hiccup", "a")
    wait = stage.start(stage.client().pods.wait_ready("a", install_grace=30))
    for state in ("installing", "hiccup", "installing", "hiccup", "ready"):
        await stage.advance(25)
        assert not wait.done()
        fleet.set(state, "a")
    await stage.advance(6)
    assert result(wait).is_ready


@pytest.mark.parametrize("trouble", ["outage", "pause"])
async def test_an_installation_is_not_given_up_while_nobody_knows(
    stage: Stage, fleet: Fleet, trouble: str
) -> None:
    """The API is out of reach when the grace ends: only an answer from after it can be the end."""
    fleet.set("hiccup", "a")
    wait = stage.start(stage.client().pods.wait_ready("a", install_grace=30))
    await stage.advance(10)
    if trouble == "outage":
        fleet.next_status(Reply(503), times=1_000)
    else:
        fleet.next_status(reply({}, 429, headers={"Retry-After": "60"}))
    await stage.advance(50)
    assert not wait.done()
    fleet.faults.clear()
    fleet.set("ready", "a")
    await stage.advance(60)
    assert result(wait).is_ready


async def test_a_waiter_who_comes_later_counts_his_own_grace(stage: Stage, fleet: Fleet) -> None:
    """Grace counts from what this wait has seen: another may have waited for long."""
    fleet.set("hiccup", "a")
    pods = stage.client().pods
    first = stage.start(pods.wait_ready("a", install_grace=30))
    await stage.advance(20)
    second = stage.start(pods.wait_ready("a", install_grace=30))
    await stage.advance(17)
    assert first.done()
    assert not second.done()
    await stage.advance(20)
    for wait in (first, second):
        raised(wait, primepods.PodFailedError)


# Gone.


async def test_a_pod_that_vanishes_has_failed(stage: Stage, fleet: Fleet) -> None:
    """Two ticks without a row, and a 404: then it is gone; the error has its last status."""
    fleet.set("installing", "a")
    fleet.set("ready", "b")
    wait = stage.start(stage.client().pods.wait(["a", "b", "c"], appear_grace=90))
    await stage.advance(1)
    fleet.set(None, "a")
    await stage.advance(5)
    assert [asked.ids for asked in fleet.lookups] == [("c",)]
    await stage.advance(5)
    error = raised(wait, primepods.PodFailedError)
    assert [asked.ids for asked in fleet.lookups] == [("c",), ("a",)]
    assert error.last is not None
    assert isinstance(error.statuses, primepods.PodStatuses)
    assert "it is gone" in error.reason
    assert str(error).startswith("Pod a is gone: somebody, or the provider")
    assert "pods.history()" in str(error)
    assert error.last.installation_progress == 40
    assert list(error.statuses) == ["b"]
    assert error.statuses.missing == ("a", "c")


@pytest.mark.parametrize(
    "answer",
    [reply({"data": []}), Reply(503), reply({}, 429), Hang(), reply({})],
    ids=["empty", "503", "429", "hang", "no data"],
)
async def test_an_empty_or_failed_answer_is_never_gone(stage: Stage, fleet: Fleet, answer: Answer) -> None:
    """Status says nothing for minutes; as long as `get` has the pod, it is there."""
    fleet.set("installing", "a")
    pods = stage.client().pods
    ready, gone = stage.start(pods.wait_ready("a")), stage.start(pods.wait_gone("a", timeout=1_500))
    await stage.advance(1)
    fleet.next_status(answer, times=10_000)
    await stage.advance(300)
    assert not ready.done()
    assert not gone.done()
    assert len(fleet.lookups) <= 300 / 30 + 2
    fleet.faults.clear()
    fleet.set("ready", "a")
    await stage.advance(130)
    assert result(ready).is_ready
    assert not gone.done()


async def test_get_tells_what_status_has_no_row_for(stage: Stage, fleet: Fleet) -> None:
    """A pod that status does not list, and `get` has, becomes ready all the same; newcomers are told, too."""
    fleet.set("installing", "a")
    fleet.unlisted.add("a")
    pods = stage.client().pods
    seen: list[PodChange] = []
    wait = stage.start(pods.wait_ready("a", on_change=seen.append))
    await stage.advance(11)
    assert [change.after and change.after.installation_progress for change in seen] == [40]
    late = stage.start(pods.wait(["a"], until=anything))
    await stage.advance(0.5)
    assert result(late)["a"].installation_progress == 40
    fleet.set("ready", "a")
    await stage.advance(36)
    assert result(wait).is_ready


async def test_a_fleet_without_status_rows_costs_few_lookups(stage: Stage, fleet: Fleet) -> None:
    """A replica that answers with empty lists for minutes: each pod is looked up every 30 seconds."""
    ids = fleet.add(50)
    stage.start(stage.client().pods.wait(ids, timeout=500))
    await stage.advance(1)
    fleet.unlisted.update(ids)
    await stage.advance(100)
    assert len(fleet.lookups) <= 50 * 4


async def test_looks_of_newcomers_are_no_second_tick(stage: Stage, fleet: Fleet) -> None:
    """Many who come within a second make many looks without a row; a tick is still a tick."""
    fleet.set("installing", "a")
    pods = stage.client().pods
    first = stage.start(pods.wait_ready("a"))
    await stage.advance(1)
    fleet.set(None, "a")
    for _ in range(4):
        stage.start(pods.wait_ready("a", appear_grace=900))
        await stage.advance(0.5)
    assert len(fleet.asked) == 5
    assert fleet.lookups == []
    fleet.set("ready", "a")
    await stage.advance(3)
    assert result(first).is_ready


@pytest.mark.parametrize("way", ["404", "says so", "404 later", "behind"])
async def test_terminated_and_get_confirm_each_other(stage: Stage, fleet: Fleet, way: str) -> None:
    """A row that says TERMINATED is gone once `get` has a 404 or says TERMINATED, too."""
    fleet.set("installing", "a")
    wait = stage.start(stage.client().pods.wait_gone("a"))
    await stage.advance(1)
    fleet.set("terminated", "a")
    if way == "404":
        fleet.got["a"] = None
    elif way == "404 later":
        fleet.next_status(Reply(503), times=2, on=POD)
        fleet.got["a"] = None
    elif way == "behind":
        fleet.got["a"] = {"status": "ACTIVE"}
    await stage.advance(4.5)
    assert wait.done() == (way in {"404", "says so"})
    await stage.advance(10)
    assert wait.done() == (way != "behind")
    fleet.got["a"] = None
    await stage.advance(30)
    result(wait)


async def test_a_row_that_comes_back_during_the_lookup_wins(stage: Stage, fleet: Fleet) -> None:
    """`get` was asked while rows were missing; its 404 arrives after a row has come: the pod is there."""
    fleet.set("installing", "a")
    wait = stage.start(stage.client().pods.wait_gone("a"))
    await stage.advance(1)
    fleet.set(None, "a")
    held = fleet.hold(POD)
    await stage.advance(10)
    assert len(fleet.lookups) == 1
    fleet.set("installing", "a")
    await stage.advance(5)
    held.set()
    await stage.advance(20)
    assert not wait.done()
    fleet.set(None, "a")
    await stage.advance(11)
    assert wait.done()


async def see_it_go(stage: Stage, fleet: Fleet, pod_id: str) -> None:
    """Let the hub know that a pod is gone, and somebody who has not taken notice yet still ask for it."""
    fleet.set("installing", pod_id)
    changes = aiter(stage.client().pods.watch([pod_id]))

    async def begin() -> None:
        await anext(changes)
        await stage.clock.sleep(10_000)
        await anext(changes)

    stage.start(begin())
    await stage.advance(1)
    fleet.set(None, pod_id)
    await stage.advance(11)
    assert [asked.ids for asked in fleet.lookups] == [(pod_id,)]


@pytest.mark.parametrize("state", ["installing", "ready"])
async def test_a_pod_that_was_gone_and_is_back_is_back(stage: Stage, fleet: Fleet, state: str) -> None:
    """Somebody has seen it go; for who comes later, what the API says then counts, new or as before."""
    await see_it_go(stage, fleet, "a")
    fleet.set(state, "a")
    wait = stage.start(stage.client().pods.wait(["a"], until=anything))
    await stage.advance(1)
    assert result(wait)["a"].is_ready == (state == "ready")


async def test_a_gone_pod_still_listed_as_terminated_is_gone(stage: Stage, fleet: Fleet) -> None:
    """A row that says TERMINATED does not bring it back, and needs no proof any more."""
    await see_it_go(stage, fleet, "a")
    fleet.set("terminated", "a")
    seen: list[PodChange] = []
    wait = stage.start(stage.client().pods.wait_gone("a", on_change=seen.append))
    await stage.advance(1)
    result(wait)
    assert seen == [PodChange(pod_id="a", before=None, after=None)]
    await stage.advance(100)
    assert len(fleet.lookups) == 1


async def test_a_row_that_comes_back_replaces_what_get_said(stage: Stage, fleet: Fleet) -> None:
    """Status loses its row for a while and has the same again: with all its fields, which `get` has not."""
    fleet.set("installing", "a")
    fleet.fields["a"] = {"newField": 1}
    seen: list[PodChange] = []
    stage.start(stage.client().pods.wait_ready("a", on_change=seen.append))
    await stage.advance(1)
    fleet.unlisted.add("a")
    await stage.advance(10)
    fleet.unlisted.clear()
    await stage.advance(5)
    assert [dict(change.after.extra) for change in seen if change.after] == [
        {"newField": 1},
        {},
        {"newField": 1},
    ]


async def test_a_row_between_two_looks_without_one_counts(stage: Stage, fleet: Fleet) -> None:
    """Also when its answer is the last one to the byte."""
    fleet.set("installing", "a")
    pods = stage.client().pods
    stage.start(pods.wait_ready("a"))
    await stage.advance(11)
    for _ in range(3):
        fleet.next_status(reply({"data": []}))
        stage.start(pods.wait_ready("a"))
        await stage.advance(5)
    assert len(fleet.asked) == 3 + 6
    assert fleet.lookups == []


@pytest.mark.parametrize("until", [primepods.ready, primepods.gone, primepods.settled])
async def test_who_comes_when_a_pod_is_gone_is_told_at_once(
    stage: Stage, fleet: Fleet, until: Callable[[PodStatus | None], bool]
) -> None:
    """One look without a row is enough for a newcomer where gone has been proved already."""
    await see_it_go(stage, fleet, "a")
    late = stage.start(stage.client().pods.wait(["a"], until=until))
    await stage.advance(0.3)
    if until is primepods.ready:
        last = raised(late, primepods.PodFailedError).last
        assert last is not None
        assert last.installation_progress == 40
    else:
        assert result(late).missing == ("a",)


async def test_wait_gone_wants_proof_or_confirmed_absence(stage: Stage, fleet: Fleet) -> None:
    """A pod in any state is waited for until it is gone; one that was never there is gone."""
    ids = [f"pod-{state}" for state in ("ready", "error", "deleting", "hiccup", "stopped")]
    for pod_id in ids:
        fleet.set(pod_id.removeprefix("pod-"), pod_id)
    pods = stage.client().pods
    never = stage.start(pods.wait_gone("never"))
    waits = [stage.start(pods.wait_gone(pod_id)) for pod_id in ids]
    await stage.advance(5)
    assert not never.done()
    await stage.advance(1)
    assert never.done()
    await stage.advance(200)
    assert not any(wait.done() for wait in waits)
    fleet.set(None, *ids)
    await stage.advance(11)
    for wait in waits:
        result(wait)


async def test_wait_gone_for_a_failed_installation_does_not_spin(stage: Stage, fleet: Fleet) -> None:
    """What ends other waits after `install_grace` means nothing to this one."""
    fleet.set("hiccup", "a")
    wait = stage.start(stage.client().pods.wait(["a"], until=primepods.gone, install_grace=10))
    await stage.advance(1)
    turns = 0
    loop = asyncio.get_running_loop()
    original = stage.clock.timeout_at

    def counted(when: float) -> Any:
        nonlocal turns
        turns += 1
        return original(when)

    stage.clock.timeout_at = counted  # type: ignore[method-assign]
    await asyncio.wait_for(stage.advance(100), 20)
    assert loop.is_running()
    assert turns < 200
    fleet.set(None, "a")
    await stage.advance(11)
    assert result(wait).missing == ("a",)


# Appearing.


@pytest.mark.parametrize("grace", [0.0, 10.0, 60.0])
async def test_a_pod_that_never_appears_is_not_found(stage: Stage, fleet: Fleet, grace: float) -> None:
    """After the grace, and never before it is confirmed."""
    fleet.set("provisioning", "b")
    wait = stage.start(stage.client().pods.wait(["a", "b"], appear_grace=grace))
    await stage.advance(max(grace, 5))
    assert not wait.done()
    await stage.advance(6)
    error = raised(wait, primepods.NotFoundError)
    assert error.status_code == 404
    assert "'a'" in str(error)
    assert "pods.history()" in str(error)
    assert {asked.ids for asked in fleet.lookups} == {("a",)}
    assert len(fleet.lookups) <= 1 + (grace + 6) / 30


async def test_an_outage_is_no_proof_that_a_pod_never_appeared(stage: Stage, fleet: Fleet) -> None:
    """The grace ends while the API is out of reach; the pod has appeared in the meantime."""
    wait = stage.start(stage.client().pods.wait_ready("a"))
    await stage.advance(20)
    fleet.next_status(Reply(503), times=10_000)
    await stage.advance(100)
    assert not wait.done()
    fleet.faults.clear()
    fleet.set("ready", "a")
    await stage.advance(6)
    assert result(wait).is_ready


# Settled, failed, and other wishes.


async def test_settled_waits_for_the_whole_fleet(stage: Stage, fleet: Fleet) -> None:
    """Ready, failed, gone or never there: each ends it for that pod only, and no grace is cut short."""
    ids = ["ready", "error", "hiccup", "vanishes", "never", "recovers", "stopped", "deleting"]
    fleet.set("ready", "ready")
    fleet.set("error", "error")
    fleet.set("hiccup", "hiccup", "recovers")
    fleet.set("installing", "vanishes")
    fleet.set("stopped", "stopped")
    fleet.set("deleting", "deleting")
    seen: list[str] = []
    wait = stage.start(
        stage.client().pods.wait(
            ids, until=primepods.settled, on_change=lambda change: seen.append(change.pod_id)
        )
    )
    await stage.advance(30)
    fleet.set(None, "vanishes")
    fleet.set("ready", "recovers")
    await stage.advance(60)
    assert not wait.done()
    await stage.advance(36)
    statuses = result(wait)
    assert {pod_id: str(status.status) for pod_id, status in statuses.items()} == {
        "ready": "ACTIVE",
        "error": "ERROR",
        "hiccup": "ACTIVE",
        "recovers": "ACTIVE",
        "stopped": "STOPPED",
        "deleting": "DELETING",
    }
    assert statuses["hiccup"].has_failed
    assert statuses["recovers"].is_ready
    assert statuses.missing == ("vanishes", "never")
    assert seen.count("vanishes") == 2
    assert seen.count("never") == 1


async def test_until_failed_waits_for_failures(stage: Stage, fleet: Fleet) -> None:
    """A pod that is ready is not failed; one in ERROR, or whose installation stays in ERROR, is."""
    fleet.set("ready", "a")
    fleet.set("hiccup", "b")
    wait = stage.start(stage.client().pods.wait(["a", "b"], until=primepods.failed))
    await stage.advance(130)
    assert not wait.done()
    fleet.set("error", "a")
    await stage.advance(6)
    assert {pod_id: status.failure for pod_id, status in result(wait).items()} == {
        "a": "status ERROR: no image",
        "b": "installation ERROR: apt is locked",
    }


async def test_until_can_be_any_function(stage: Stage, fleet: Fleet) -> None:
    """It is asked about each new state; what has failed without it holding ends the wait."""
    asked: list[str | None] = []

    def half(status: PodStatus | None) -> bool:
        asked.append(None if status is None else status.status)
        return status is not None and (status.installation_progress or 0) >= 40

    ids = fleet.add(2)
    pods = stage.client().pods
    wait = stage.start(pods.wait(ids, until=half))
    await stage.advance(11)
    fleet.set("installing", *ids)
    await stage.advance(5)
    assert list(result(wait)) == ids
    assert asked == ["PROVISIONING"] * 2 + ["ACTIVE"] * 2


async def test_until_that_holds_for_a_failing_pod_is_no_failure(stage: Stage, fleet: Fleet) -> None:
    """A function that wants ERROR or a failed installation gets it, without any grace."""
    fleet.set("error", "a")
    fleet.set("hiccup", "b")
    wait = stage.start(
        stage.client().pods.wait(["a", "b"], until=lambda status: bool(status and status.has_failed))
    )
    await stage.advance(1)
    assert list(result(wait)) == ["a", "b"]


async def test_until_may_hold_for_a_pod_that_never_appeared(stage: Stage, fleet: Fleet) -> None:
    """After `appear_grace`, as for any other."""
    wait = stage.start(stage.client().pods.wait(["a"], until=lambda status: status is None))
    await stage.advance(59)
    assert not wait.done()
    await stage.advance(10)
    assert result(wait).missing == ("a",)


async def coroutine(_: PodStatus | None) -> bool:
    """What a user might pass by mistake: its result is true at once."""
    return False


class Asynchronous:
    """A callable that is to be awaited, as an object."""

    async def __call__(self, _: PodStatus | None) -> bool:
        """Never true."""
        return False


@pytest.mark.parametrize("until", [coroutine, partial(coroutine), Asynchronous()])
async def test_until_must_be_a_plain_function(stage: Stage, fleet: Fleet, until: Any) -> None:
    """A coroutine function would be true at once: it is refused before anything is asked."""
    with pytest.raises(TypeError, match="plain function"):
        await stage.client().pods.wait(["a"], until=until)
    assert fleet.asked == []


@pytest.mark.parametrize("awaitable", [coroutine, lambda _: asyncio.get_running_loop().create_future()])
async def test_until_must_not_return_an_awaitable(stage: Stage, fleet: Fleet, awaitable: Any) -> None:
    """Found out with the first status: that wait ends, without a coroutine that was never awaited."""
    fleet.set("provisioning", "a")
    wait = stage.start(stage.client().pods.wait(["a"], until=lambda status: awaitable(status)))  # noqa: PLW0108 - hides what it is
    await stage.advance(1)
    assert "plain function" in str(raised(wait, TypeError))


async def test_what_until_raises_ends_that_wait_only(stage: Stage, fleet: Fleet) -> None:
    """As it is."""
    fleet.add(1)

    def broken(_: PodStatus | None) -> bool:
        raise LookupError("mine")

    pods = stage.client().pods
    bad = stage.start(pods.wait(["pod00000"], until=broken))
    good = stage.start(pods.wait(["pod00000"], until=anything))
    await stage.advance(1)
    raised(bad, LookupError)
    assert list(result(good)) == ["pod00000"]


# on_change.


async def test_on_change_is_called_with_each_change(stage: Stage, fleet: Fleet) -> None:
    """First the state found, then each new one with the one before it; unchanged answers are no changes."""
    ids = fleet.add(2)
    seen: list[PodChange] = []
    wait = stage.start(stage.client().pods.wait(ids, on_change=seen.append))
    await stage.advance(11)
    fleet.set("installing", ids[0])
    await stage.advance(11)
    fleet.set("ready", *ids)
    await stage.advance(6)
    result(wait)
    states = [
        (change.pod_id, change.before and change.before.status, change.after and change.after.status)
        for change in seen
    ]
    assert states == [
        (ids[0], None, "PROVISIONING"),
        (ids[1], None, "PROVISIONING"),
        (ids[0], "PROVISIONING", "ACTIVE"),
        (ids[0], "ACTIVE", "ACTIVE"),
        (ids[1], "PROVISIONING", "ACTIVE"),
    ]
    assert seen[3].before is seen[2].after


async def test_on_change_can_be_async(stage: Stage, fleet: Fleet) -> None:
    """It is awaited, one change after the other, also where a plain function returns something awaitable."""
    ids = fleet.add(2, "ready")
    running = 0
    seen: list[str] = []

    async def slowly(change: PodChange) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await stage.clock.sleep(3)
        seen.append(change.pod_id)
        running -= 1

    def plain(change: PodChange) -> Awaitable[None]:
        return slowly(change)

    pods = stage.client().pods
    for on_change in (slowly, plain):
        wait = stage.start(pods.wait(ids, on_change=on_change))
        await stage.advance(7)
        result(wait)
    assert seen == ids * 2


class MineError(Exception):
    """Raised by the user's own code."""


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", [MineError("stop"), TimeoutError("mine"), primepods.PrimePodsError("x")])
async def test_what_on_change_raises_ends_that_wait_only(
    stage: Stage,
    fleet: Fleet,
    is_async: bool,  # noqa: FBT001
    error: Exception,
) -> None:
    """The very exception, `TimeoutError` included; neighbours on the same pod go on."""
    fleet.add(1)

    def plain(_: PodChange) -> None:
        raise error

    async def awaited(_: PodChange) -> None:
        await asyncio.sleep(0)
        raise error

    client = stage.client()
    bad = stage.start(client.pods.wait(["pod00000"], on_change=awaited if is_async else plain))
    good = stage.start(client.pods.wait_ready("pod00000"))
    await stage.advance(1)
    assert bad.exception() is error
    fleet.set("ready", "pod00000")
    await stage.advance(6)
    assert result(good).is_ready


async def test_on_change_may_close_the_client(stage: Stage, fleet: Fleet) -> None:
    """Its own wait then ends with `ClientClosedError`, as all others of that client."""
    fleet.add(2)
    client = stage.client()
    wait = stage.start(client.pods.wait(fleet.states, on_change=lambda _: client.aclose()))
    other = stage.start(client.pods.wait_ready("pod00001"))
    await stage.advance(1)
    for each in (wait, other):
        raised(each, primepods.ClientClosedError)


# Time running out.


async def test_a_timeout_says_who_is_pending_and_what_they_cost(stage: Stage, fleet: Fleet) -> None:
    """Five names with their states, the number of all, the price per hour, and what to do."""
    ids = fleet.add(8, "installing")
    fleet.set("ready", ids[0])
    wait = stage.start(stage.client().pods.wait([*ids, "unseen"], timeout=42))
    await stage.advance(41.9)
    assert not wait.done()
    await stage.advance(0.2)
    error = raised(wait, primepods.WaitTimeoutError)
    assert issubclass(primepods.WaitTimeoutError, TimeoutError)
    text = str(error)
    assert text.startswith(
        f"After 42 s 8 of 9 pods are still pending: {ids[1]} (ACTIVE, installation 40 %), {ids[2]}"
    )
    assert all(pod_id in text for pod_id in ids[1:6])
    assert ids[6] not in text
    assert "and 3 more." in text
    assert "They cost at least 8.75 an hour." in text
    assert text.endswith(
        "Those that were seen go on and are billed: wait again with the same ids, or delete them."
    )
    assert error.pending == (*ids[1:], "unseen")
    assert list(error.statuses) == ids
    assert isinstance(error.statuses, primepods.PodStatuses)
    assert error.statuses.missing == ("unseen",)
    assert all(isinstance(status, PodStatus) for status in error.statuses.values())


async def test_a_timeout_of_a_single_pod_is_short(stage: Stage, fleet: Fleet) -> None:
    """No numbers that say nothing."""
    fleet.set("provisioning", "a")
    fleet.fields["a"] = {"costPerHr": None}
    wait = stage.start(stage.client().pods.wait_ready("a", timeout=3))
    await stage.advance(3)
    text = str(raised(wait, primepods.WaitTimeoutError))
    assert text == (
        "After 3 s 1 of 1 pods are still pending: a (PROVISIONING). They go on and are billed: wait again "
        "with the same ids, or delete them."
    )


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (Reply(503), "503"),
        (reply({"message": "Too many requests"}, 429), "429"),
        (reply({}, 429, headers={"Retry-After": "50"}), "429"),
        (Reset(), "ServerDisconnectedError|reset"),
        (Reply(200, b"<html>"), "HTML"),
        (reply({"data": 3}), "data|missing"),
        (Hang(), "timeout of 30 s"),
    ],
    ids=["503", "429", "429 with a long pause", "reset", "html", "shape", "hang"],
)
@pytest.mark.parametrize("on", ["status", "get"])
async def test_a_timeout_names_what_kept_failing(
    stage: Stage, fleet: Fleet, answer: Answer, named: str, on: str
) -> None:
    """Passing failures are waited out inside the deadline, which then says what they were."""
    fleet.set("bare", "a")
    fleet.next_status(answer, times=1_000, on=POD if on == "get" else "/api/v1/pods/status")
    wait = stage.start(stage.client().pods.wait_ready("a", timeout=58))
    await stage.advance(58)
    error = raised(wait, primepods.WaitTimeoutError)
    assert re.match(r"Asking kept failing: GET /api/v1/pods/|The API asked for a pause", str(error))
    assert any(word in str(error) for word in named.split("|"))
    assert ("billed" in str(error)) == (on == "get")


async def test_a_timeout_does_not_name_what_failed_and_passed(stage: Stage, fleet: Fleet) -> None:
    """Neither of status nor of `get`."""
    fleet.set("bare", "a")
    fleet.got["a"] = {"ip": None}
    fleet.next_status(Reply(503))
    fleet.next_status(Reply(503), on=POD)
    wait = stage.start(stage.client().pods.wait_ready("a", timeout=60))
    await stage.advance(60)
    assert "kept failing" not in str(raised(wait, primepods.WaitTimeoutError))


async def test_a_timeout_says_if_nothing_was_answered_at_all(stage: Stage, fleet: Fleet) -> None:
    """The first request is still under way."""
    fleet.add(1)
    fleet.next_status(Hang())
    wait = stage.start(stage.client().pods.wait_ready("pod00000", timeout=10))
    await stage.advance(10)
    text = str(raised(wait, primepods.WaitTimeoutError))
    assert "pod00000 (not seen)" in text
    assert text.startswith("The API has not answered yet. After 10 s")
    assert text.endswith("Nothing was seen of any of them: wait again with the same ids.")


async def test_time_runs_out_also_in_on_change(stage: Stage, fleet: Fleet) -> None:
    """The timeout is for the whole wait."""
    fleet.set("ready", "a")
    cancelled: list[bool] = []

    async def hang(_: PodChange) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    wait = stage.start(stage.client().pods.wait_ready("a", timeout=20, on_change=hang))
    await stage.advance(20)
    error = raised(wait, primepods.WaitTimeoutError)
    assert cancelled == [True]
    assert error.pending == ("a",)
    assert error.statuses["a"].is_ready


async def test_a_change_at_the_last_moment_counts(stage: Stage, fleet: Fleet) -> None:
    """An answer that came before the deadline is not thrown away."""
    fleet.set("ready", "a")
    held = asyncio.Event()
    fleet.next_status(Held(held, reply({"data": [row("a", "ready")]})))
    wait = stage.start(stage.client().pods.wait_ready("a", timeout=10))
    await stage.advance(9.99)
    held.set()
    await settle()
    await stage.advance(1)
    assert result(wait).is_ready
