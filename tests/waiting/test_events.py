"""What `on_event` is told about waits, watches and the polls that they share."""

from collections.abc import Callable

import pytest

import primepods
from primepods.events import (
    Event,
    OperationEnded,
    OperationStarted,
    PollingPaused,
    RequestEnded,
    WaitEnded,
    WaitStarted,
)
from tests.support.server import reply
from tests.waiting.fleet import Fleet, Stage


async def test_a_poll_belongs_to_all_waits_that_share_it(stage: Stage, fleet: Fleet) -> None:
    """Clients with the same function hear of it once, with all their waits; others with theirs; those
    without one cost nothing: there is one poller for all of them.
    """
    ours: list[Event] = []
    theirs: list[Event] = []
    ids = fleet.add(4)
    tell: list[Callable[[Event], None] | None] = [ours.append, ours.append, theirs.append, None]
    waits = [
        stage.start(stage.client(on_event=on_event).pods.wait_ready(pod_id))
        for on_event, pod_id in zip(tell, ids, strict=True)
    ]
    await stage.advance(1)
    assert fleet.sizes == [4]
    fleet.set("ready", *ids)
    await stage.advance(5)
    assert all(wait.done() for wait in waits)
    for heard, count in ((ours, 2), (theirs, 1)):
        numbers = {event.operations[0] for event in heard if isinstance(event, OperationStarted)}
        polls = [event for event in heard if isinstance(event, RequestEnded)]
        assert [set(poll.operations) for poll in polls] == [numbers] * 2
        assert len(numbers) == count
        assert [event.pods for event in heard if isinstance(event, WaitStarted)] == [1] * count
        ends = [event for event in heard if isinstance(event, WaitEnded)]
        assert [(end.pods, end.pending, end.seconds) for end in ends] == [(1, 0, 5.25)] * count


async def test_a_poll_belongs_only_to_waits_for_its_pods(stage: Stage, fleet: Fleet) -> None:
    """Each of two full requests of one tick serves one of two waits."""
    events: list[Event] = []
    ids = fleet.add(200)
    client = stage.client(on_event=events.append)
    waits = [stage.start(client.pods.wait(half)) for half in (ids[:100], ids[100:])]
    await stage.advance(1)
    assert fleet.sizes == [100, 100]
    polls = [event.operations for event in events if isinstance(event, RequestEnded)]
    starts = [event.operations for event in events if isinstance(event, OperationStarted)]
    assert sorted(polls) == sorted(starts)
    for wait in waits:
        wait.cancel()


async def test_a_pause_is_told_to_all_who_wait(
    stage: Stage, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """The API asks for a pause in one response: every wait and watch is paused, and told so."""
    events: list[Event] = []
    ids = fleet.add(2)
    client = stage.client(on_event=events.append)
    waits = [stage.start(client.pods.wait([pod_id], timeout=20)) for pod_id in ids]
    fleet.next_status(reply({"detail": "slow down"}, 429, headers={"Retry-After": "10"}))
    await stage.advance(30)
    assert all(isinstance(wait.exception(), primepods.WaitTimeoutError) for wait in waits)
    [paused] = [event for event in events if isinstance(event, PollingPaused)]
    assert paused.seconds >= 10
    assert vars(caplog.records[0])["seconds"] == paused.seconds
    assert len(paused.operations) == 2
    ends = [event for event in events if isinstance(event, OperationEnded)]
    assert [(end.name, end.error) for end in ends] == [("pods.wait", "WaitTimeoutError")] * 2


async def test_a_watch_is_an_operation_from_its_first_change_on(stage: Stage, fleet: Fleet) -> None:
    """It ends when its iterator is left and thrown away."""
    events: list[Event] = []
    ids = fleet.add(2)
    watch = stage.client(on_event=events.append).pods.watch(ids)
    assert events == []

    async def leave() -> None:
        async for _ in watch:
            break

    left = stage.start(leave())
    await stage.advance(1)
    assert left.done()
    kinds = [type(event) for event in events]
    assert kinds == [OperationStarted, WaitStarted, RequestEnded, WaitEnded, OperationEnded]
    assert len({event.operations for event in events}) == 1
