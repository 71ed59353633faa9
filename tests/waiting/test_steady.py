"""When nothing changes nobody is told anything, but those who have just come."""

from primepods import PodChange
from tests.support.server import Reply
from tests.waiting.fleet import Fleet, Stage, anything, body, result, row


async def test_a_row_that_did_not_change_is_no_news(stage: Stage, fleet: Fleet) -> None:
    """Though its neighbours change at each tick, rows change places, and the JSON is spelt another way."""
    ids = fleet.add(3)
    seen: list[PodChange] = []
    stage.start(stage.client().pods.wait(ids, on_change=seen.append))
    await stage.advance(1)
    for n in range(1, 6):
        answers = [row(ids[2], "provisioning"), row(ids[1], "installing", installationProgress=n)]
        answers.append(row(ids[0], "provisioning"))
        fleet.next_status(Reply(200, body(answers).replace(b", ", b" ,\n" * (n % 2) or b", ")))
        await stage.advance(5)
    assert [change.pod_id for change in seen] == [*ids, *[ids[1]] * 5]


async def test_an_unchanged_answer_is_told_to_newcomers(stage: Stage, fleet: Fleet) -> None:
    """The tick brings nothing new, but the first news for one who has just come, without a request more."""
    ids = fleet.add(2)
    stage.start(stage.client().pods.wait(ids))
    await stage.advance(10.1)
    late = stage.start(stage.client().pods.wait(ids, until=anything))
    await stage.advance(0.3)
    assert len(result(late)) == 2
    await stage.advance(4)
    assert fleet.times == [0.25, 5.25, 10.25]


async def test_a_failure_in_between_is_no_news(stage: Stage, fleet: Fleet) -> None:
    """After an error, or an answer that could not be decoded, the same answer as before changes nothing."""
    ids = fleet.add(2)
    seen: list[PodChange] = []
    stage.start(stage.client().pods.wait(ids, on_change=seen.append))
    await stage.advance(6)
    fleet.next_status(Reply(503))
    await stage.advance(10)
    fleet.next_status(Reply(200, b'{"data": [{"podId": []}]}'), times=2)
    await stage.advance(20)
    assert [change.pod_id for change in seen] == ids
