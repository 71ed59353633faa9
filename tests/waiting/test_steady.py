"""When nothing changes: the same row stays the same object, and nobody is woken."""

from __future__ import annotations

import pytest

import primepods
from primepods import PodStatus
from tests.support.server import Reply
from tests.waiting.fleet import Fleet, Stage, body, row

pytestmark = pytest.mark.anyio


async def rows(stage: Stage) -> dict[str, PodStatus | None]:
    """What the hub shows of each pod."""
    hub = await stage.hub()
    return {pod_id: pod.status for pod_id, pod in hub._state.pods.items()}


async def test_a_row_that_did_not_change_keeps_its_object(stage: Stage, fleet: Fleet) -> None:
    """Though its neighbours change at each tick, rows change places, and the JSON is spelt another way."""
    ids = fleet.add(3)
    seen: list[primepods.PodChange] = []
    stage.start(stage.client().pods.wait(ids, on_change=seen.append))
    await stage.advance(1)
    first = await rows(stage)
    for n in range(1, 6):
        answers = [row(ids[2], "provisioning"), row(ids[1], "installing", installationProgress=n)]
        answers.append(row(ids[0], "provisioning"))
        fleet.next_status(Reply(200, body(answers).replace(b", ", b" ,\n" * (n % 2) or b", ")))
        await stage.advance(5)
        again = await rows(stage)
        assert again[ids[0]] is first[ids[0]]
        assert again[ids[2]] is first[ids[2]]
    assert [change.pod_id for change in seen] == [*ids, *[ids[1]] * 5]


async def test_waiters_are_not_woken_by_unchanged_answers(
    stage: Stage, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred ticks without news call nobody."""
    ids = fleet.add(20)
    for pod_id in ids:
        stage.start(stage.client().pods.wait_ready(pod_id))
    await stage.advance(6)
    woken: list[str] = []
    hub = await stage.hub()
    for subscription in hub._subscriptions:
        monkeypatch.setattr(subscription, "notify", woken.append)
    await stage.advance(500)
    assert woken == []


async def test_an_unchanged_answer_is_told_to_newcomers(stage: Stage, fleet: Fleet) -> None:
    """The tick brings nothing new, but the first news for one who has just come."""
    ids = fleet.add(2)
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(10.1)
    late = stage.start(stage.client().pods.wait(ids, until=lambda status: status is not None))
    await stage.advance(0.3)
    assert fleet.times[-1] == 10.25
    assert len(late.result()) == 2


async def test_a_failure_in_between_changes_nothing(stage: Stage, fleet: Fleet) -> None:
    """After an error, or an answer that could not be decoded, the same answer as before is no news."""
    ids = fleet.add(2)
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(6)
    first = await rows(stage)
    fleet.next_status(Reply(503))
    await stage.advance(10)
    fleet.next_status(Reply(200, b'{"data": [{"podId": []}]}'), times=2)
    await stage.advance(20)
    assert await rows(stage) == first
    assert all(again is first[pod_id] for pod_id, again in (await rows(stage)).items())
