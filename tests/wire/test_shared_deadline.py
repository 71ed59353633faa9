"""Calls about many: one deadline while nothing is answered, and as long as it takes while answers come."""

import pytest

import primepods
from tests.support.client import serve
from tests.support.clock import EarlyClock, ManualClock
from tests.support.server import Answer, Hang, Received, reply


@pytest.mark.parametrize("clock", [ManualClock(auto=True), EarlyClock(auto=True)], ids=["", "early"])
async def test_deleting_many_ends_with_one_deadline_while_nothing_is_answered(clock: ManualClock) -> None:
    """Forty pods, two at a time, an API that hangs: those that were not sent say so."""
    ids = [f"pod{n}" for n in range(40)]
    async with serve(default=Hang(), clock=clock, deadline=0.5, max_concurrency=2) as (server, client):
        deletions = await client.pods.delete_many(ids)
    assert clock.elapsed == pytest.approx(0.5, abs=0.01)
    assert [request.method for request in server.requests] == ["DELETE"] * 2
    assert not deletions
    sent, unsent = [deletions.errors[key] for key in ids[:2]], [deletions.errors[key] for key in ids[2:]]
    assert all("no response in time; deadline of 0.5 s" in str(error) for error in sent)
    for pod_id, error in zip(ids[2:], unsent, strict=True):
        assert isinstance(error, primepods.RequestTimeoutError)
        assert f"DELETE /api/v1/pods/{pod_id} on {server.url} was not sent" in str(error)
        assert (error.limit, error.attempts, error.maybe_received, error.transient) == (
            "deadline",
            0,
            False,
            True,
        )


async def test_deleting_many_goes_on_while_answers_come() -> None:
    """One pod hangs, and nineteen take most of a deadline each, one after another: they are deleted."""
    clock = ManualClock(auto=True)

    def script(request: Received) -> Answer:
        row = {"id": request.path[13:], "status": "DELETING"}
        return Hang() if row["id"] == "pod0" else reply(row, drip=0.01, clock=clock)

    async with serve(script, clock=clock, deadline=0.5, max_concurrency=2) as (_server, client):
        deletions = await client.pods.delete_many([f"pod{n}" for n in range(20)])
    assert sorted(deletions) == sorted(f"pod{n}" for n in range(1, 20))
    assert list(deletions.errors) == ["pod0"]
    assert clock.elapsed > 1.0


async def test_a_look_at_many_pods_ends_with_one_deadline_too() -> None:
    """The DELETEs are answered vaguely, then nothing is: one more deadline, and no pod counts as deleted."""
    clock = ManualClock(auto=True)

    def script(request: Received) -> Answer:
        return reply({}) if request.method == "DELETE" else Hang()

    async with serve(script, clock=clock, deadline=0.5, max_concurrency=2) as (_server, client):
        deletions = await client.pods.delete_many([f"pod{n}" for n in range(40)])
    assert len(deletions.errors) == 40
    assert clock.elapsed < 1.1


def rows(request: Received) -> Answer:
    """All pods that are asked for, PENDING."""
    return reply({"data": [{"podId": pod_id, "status": "PENDING"} for pod_id in request.values("pod_ids")]})


@pytest.mark.parametrize("answered", [0, 1])
async def test_statuses_end_with_one_deadline_while_nothing_is_answered(answered: int) -> None:
    """Five requests, one at a time: what was not asked for says so, unless nothing at all was answered."""
    clock = ManualClock(auto=True)
    ids = [f"pod{n}" for n in range(500)]

    def script(request: Received) -> Answer:
        return rows(request) if request.number < answered else Hang()

    async with serve(script, clock=clock, deadline=0.5, max_concurrency=1) as (server, client):
        if answered:
            found = await client.pods.statuses(ids)
            assert list(found) == ids[:100]
            assert "no response in time" in str(found.errors[ids[100]])
            assert all("was not sent" in str(found.errors[pod_id]) for pod_id in ids[200:])
        else:
            with pytest.raises(primepods.RequestTimeoutError, match="no response in time"):
                await client.pods.statuses(ids)
    assert clock.elapsed == pytest.approx(0.5, abs=0.01)
    assert len(server.requests) == answered + 1


async def test_a_pause_is_no_silence() -> None:
    """Pods that are still shown are deleted again after a pause that is longer than the deadline."""
    clock = ManualClock(auto=True)
    deleted: dict[str, int] = {}

    def script(request: Received) -> Answer:
        pod_id = request.path[13:]
        if request.method == "DELETE":
            deleted[pod_id] = deleted.get(pod_id, 0) + 1
            return reply({"id": pod_id, "status": "DELETING"} if deleted[pod_id] > 1 else {})
        return rows(request)

    retry = primepods.RetryPolicy(base_delay=5, jitter=False)
    async with serve(script, clock=clock, deadline=1, max_concurrency=2, retry=retry) as (_server, client):
        deletions = await client.pods.delete_many([f"pod{n}" for n in range(5)])
    assert (len(deletions), deletions.errors) == (5, {})
    assert clock.elapsed >= 5
