"""When nothing changes: the same answer is not decoded again, the same row stays the same object."""

from __future__ import annotations

from typing import Any

import pytest

import primepods
from primepods import PodStatus
from primepods import _status_reader as _statuses
from primepods._decoding.rows import DecodedRows, decode_statuses
from tests.support.server import Reply, reply
from tests.waiting.fleet import Fleet, Stage, body, row

pytestmark = pytest.mark.anyio


class Decoded:
    """Counts how often good status answers are decoded, and into how many rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []

        def counted(data: Any) -> DecodedRows[PodStatus]:
            decoded = decode_statuses(data)
            if not decoded.errors:
                self.rows.append(len(decoded.rows))
            return decoded

        monkeypatch.setattr(_statuses, "decode_statuses", counted)

    def take(self) -> list[int]:
        """What was decoded since the last look."""
        rows, self.rows = self.rows, []
        return rows


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Decoded:
    """See there."""
    return Decoded(monkeypatch)


async def rows(stage: Stage) -> dict[str, PodStatus | None]:
    """What the hub shows of each pod."""
    hub = await stage.hub()
    return {pod_id: pod.status for pod_id, pod in hub._state.pods.items()}


async def test_an_unchanged_answer_is_not_decoded_again(stage: Stage, fleet: Fleet, decoded: Decoded) -> None:
    """Two chunks, twenty ticks: decoded when they are first seen, and when they change, each for itself."""
    ids = fleet.add(150)
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(6)
    assert decoded.take() == [100, 50]
    first = await rows(stage)
    await stage.advance(100)
    assert len(fleet.asked) == 44
    assert decoded.take() == []
    fleet.set("installing", ids[120])
    await stage.advance(5)
    assert decoded.take() == [50]
    await stage.advance(50)
    assert decoded.take() == []
    again = await rows(stage)
    assert [pod_id for pod_id in ids if again[pod_id] is not first[pod_id]] == [ids[120]]


async def test_a_row_that_did_not_change_keeps_its_object(
    stage: Stage, fleet: Fleet, decoded: Decoded
) -> None:
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
    assert len(decoded.take()) == 6
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


async def test_an_answer_that_is_remembered_is_still_told_to_newcomers(
    stage: Stage, fleet: Fleet, decoded: Decoded
) -> None:
    """The tick brings nothing new, but the first news for one who has just come."""
    ids = fleet.add(2)
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(10.1)
    decoded.take()
    late = stage.start(stage.client().pods.wait(ids, until=lambda status: status is not None))
    await stage.advance(0.3)
    assert fleet.times[-1] == 10.25
    assert len(late.result()) == 2
    assert decoded.take() == []


async def test_a_failure_in_between_changes_nothing(stage: Stage, fleet: Fleet, decoded: Decoded) -> None:
    """After an error, or an answer that could not be decoded, the same answer as before is no news."""
    ids = fleet.add(2)
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(6)
    first = await rows(stage)
    decoded.take()
    fleet.next_status(Reply(503))
    await stage.advance(10)
    assert decoded.take() == []
    fleet.next_status(Reply(200, b'{"data": [{"podId": []}]}'), times=2)
    await stage.advance(20)
    assert await rows(stage) == first
    assert all(again is first[pod_id] for pod_id, again in (await rows(stage)).items())


async def test_a_refused_batch_is_not_remembered_as_an_answer(
    stage: Stage, fleet: Fleet, decoded: Decoded
) -> None:
    """Its parts are no answer to the whole."""
    ids = fleet.add(4)
    stage.start(stage.client().pods.wait(ids, timeout=500))
    await stage.advance(6)
    fleet.next_status(reply({"detail": "too long"}, 414))
    decoded.take()
    await stage.advance(5)
    assert decoded.take() == [2, 1, 1]
    fleet.set("installing", ids[3])
    await stage.advance(5)
    assert decoded.take() == [4]
    shown = (await rows(stage))[ids[3]]
    assert shown is not None
    assert shown.installation_progress == 40
