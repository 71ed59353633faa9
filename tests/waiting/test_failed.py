"""Pods that fail or are stopped while somebody waits until they are ready."""

from collections.abc import Callable

import pytest

import primepods
from primepods import PodChange, PodStatus
from tests.support.server import Reply, reply
from tests.waiting.fleet import Fleet, Stage, raised, result

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
        f"Pod {ids[1]} has failed: status ERROR: no image. 2 other pods were still waited for. It may still "
        "be billed: look at `pods.get()` and `pods.logs()`, and delete it."
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


@pytest.mark.parametrize("grace", [0.0, 30.0, 120.0])
async def test_a_failed_installation_has_install_grace_to_recover(
    stage: Stage, fleet: Fleet, grace: float
) -> None:
    """Until then it is waited for, and told once; then the next answer that still says so is believed."""
    fleet.set("hiccup", "a")
    seen: list[PodChange] = []
    wait = stage.start(stage.client().pods.wait_ready("a", install_grace=grace, on_change=seen.append))
    await stage.advance(grace + 0.2)
    assert not wait.done()
    await stage.advance(5.5)
    error = raised(wait, primepods.PodFailedError)
    assert error.reason == "installation ERROR: apt is locked"
    assert len(seen) == 1


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
