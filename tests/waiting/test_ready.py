"""Waiting until pods are ready: what ready means, and addresses that only `get` has."""

from itertools import pairwise
from typing import Any

import pytest

from tests.support.clock import settle
from tests.support.server import Answer, Reply, Reset, reply
from tests.waiting.fleet import POD, Fleet, Stage, result

# Ready.


@pytest.mark.parametrize(
    ("fields", "is_ready"),
    [
        ({}, True),
        ({"installationStatus": None, "installationProgress": 99}, False),
        ({"ip": ["1.1.1.1", None], "sshConnection": [None, "root@1.1.1.2"]}, True),
        ({"ip": ["1.1.1.1", None], "sshConnection": ["root@1.1.1.1", None]}, False),
        ({"status": "HIBERNATING"}, False),
    ],
)
async def test_ready_means_installed_and_an_address_for_every_node(
    stage: Stage, fleet: Fleet, fields: dict[str, Any], is_ready: bool
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
    """No ids: an empty result, without a poller."""
    assert dict(await stage.client().pods.wait([])) == {}
    assert [change async for change in stage.client().pods.watch([])] == []
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


@pytest.mark.slow
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
    stage.start(pods.wait(["a"], until=lambda s: bool(seen.append(s and s.ip)), timeout=500))  # type: ignore[func-returns-value]  # `append`, for its effect
    await stage.advance(6)
    assert seen[-1] == "9.9.9.9"
    # A state that is no failure and no readiness.
    fleet.set("provisioning", "a")
    await stage.advance(5)
    fleet.set("bare", "a")
    fleet.got["a"] = {"ip": "7.7.7.7"}
    await stage.advance(50)
    assert seen == [None, "9.9.9.9", None, None, "7.7.7.7"]


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
