"""What a wait waits for, whom it tells of changes, and what it says when time runs out."""

import asyncio
import logging
import re
from collections.abc import Awaitable
from functools import partial
from typing import Any

import pytest

import primepods
from primepods import PodChange, PodStatus
from tests.support.clock import settle
from tests.support.server import Answer, Hang, Held, Reply, Reset, reply
from tests.waiting.fleet import POD, Fleet, Stage, raised, result, row

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
    wait = stage.start(stage.client().pods.wait(["a"], until=lambda _: awaitable(None)))
    await stage.advance(1)
    assert "plain function" in str(raised(wait, TypeError))


# on_change.


async def test_on_change_is_called_with_each_change(
    stage: Stage, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """First the state found, then each new one with the one before it; nothing else is said."""
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
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


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


async def test_a_pod_that_is_done_is_told_of_no_more(stage: Stage, fleet: Fleet) -> None:
    """Though it has changed once more while `on_change` took its time, and another is waited for."""
    fleet.set("ready", "a")
    fleet.set("provisioning", "b")
    seen: list[str] = []

    async def slowly(change: PodChange) -> None:
        seen.append(change.pod_id)
        await stage.clock.sleep(8)

    wait = stage.start(stage.client().pods.wait(["a", "b"], on_change=slowly))
    await stage.advance(1)
    fleet.set("error", "a")
    await stage.advance(20)
    fleet.set("ready", "b")
    await stage.advance(20)
    assert result(wait)["a"].is_ready
    assert seen == ["a", "b", "b"]


class MineError(Exception):
    """Raised by the user's own code."""


@pytest.mark.parametrize("where", ["until", "on_change", "awaited on_change"])
@pytest.mark.parametrize("error", [MineError("stop"), TimeoutError("mine"), primepods.PrimePodsError("x")])
async def test_what_a_callback_raises_ends_that_wait_only(
    stage: Stage, fleet: Fleet, where: str, error: Exception
) -> None:
    """The very exception, `TimeoutError` included; neighbours on the same pod go on."""
    fleet.add(1)

    def plain(_: object) -> bool:
        raise error

    async def awaited(_: PodChange) -> None:
        await asyncio.sleep(0)
        raise error

    client = stage.client()
    options: dict[str, Any] = {
        where.rsplit(maxsplit=1)[-1]: plain if where in {"until", "on_change"} else awaited
    }
    bad = stage.start(client.pods.wait(["pod00000"], **options))
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
    assert "They cost at least $8.75 an hour while they run." in text
    assert text.endswith(
        "The pods that were seen may still be billed: wait again with the same ids, or delete them."
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
        "After 3 s 1 of 1 pods are still pending: a (PROVISIONING). They may still be billed: "
        "wait again with the same ids, or delete them."
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
    assert re.match(r"The last requests failed: GET /api/v1/pods/|The API asked for a pause", str(error))
    assert any(word in str(error) for word in named.split("|"))
    assert ("billed" in str(error)) == (on == "get")


async def test_a_timeout_does_not_name_what_failed_and_passed(stage: Stage, fleet: Fleet) -> None:
    """Neither of status nor of `get`, whether it has answered since or is not needed any more."""
    fleet.set("bare", "a", "b")
    fleet.got["a"] = {"ip": None}
    fleet.next_status(Reply(503))
    fleet.next_status(Reply(503), times=2, on=POD)
    wait = stage.start(stage.client().pods.wait(["a", "b"], until=lambda _: False, timeout=60))
    await stage.advance(8)
    fleet.set("ready", "b")
    await stage.advance(52)
    assert "requests failed" not in str(raised(wait, primepods.WaitTimeoutError))


async def test_a_timeout_says_if_nothing_was_answered_at_all(stage: Stage, fleet: Fleet) -> None:
    """The first request is still under way."""
    fleet.add(1)
    fleet.next_status(Hang())
    wait = stage.start(stage.client().pods.wait_ready("pod00000", timeout=10))
    await stage.advance(10)
    text = str(raised(wait, primepods.WaitTimeoutError))
    assert "pod00000 (not seen)" in text
    assert text.startswith("The API has not responded yet. After 10 s")
    assert text.endswith("None of them was seen: wait again with the same ids.")


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
