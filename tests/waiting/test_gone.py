"""What proves that a pod is gone, or that it never was there."""

from collections.abc import Callable

import pytest

import primepods
from primepods import PodChange, PodStatus
from tests.support.server import Answer, Hang, Reply, reply
from tests.waiting.fleet import POD, Fleet, Stage, anything, raised, result

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
    assert str(error).startswith("Pod a is gone: a user, a process or the provider")
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


@pytest.mark.parametrize("way", ["404", "says so", "404 later", "behind", "looked up before"])
async def test_terminated_and_get_confirm_each_other(stage: Stage, fleet: Fleet, way: str) -> None:
    """A row that says TERMINATED is gone once `get` has a 404 or says TERMINATED, too."""
    fleet.set("bare" if way == "looked up before" else "installing", "a")
    fleet.got["a"] = {"ip": None}
    wait = stage.start(stage.client().pods.wait_gone("a"))
    await stage.advance(1)
    fleet.set("terminated", "a")
    if way in {"404", "looked up before"}:
        fleet.got["a"] = None
    elif way == "404 later":
        fleet.next_status(Reply(503), times=2, on=POD)
        fleet.got["a"] = None
    elif way == "behind":
        fleet.got["a"] = {"status": "ACTIVE"}
    await stage.advance(4.5)
    assert wait.done() == (way in {"404", "says so", "looked up before"})
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
    """Let the poller know that a pod is gone, and somebody who has not taken notice yet still ask for it."""
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
