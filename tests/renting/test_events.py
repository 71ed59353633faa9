"""What `on_event` is told about leases."""

from pathlib import Path

import pytest

import primepods
from primepods.emulator import Status
from primepods.events import (
    Event,
    LeaseKept,
    LeaseReady,
    LeaseReleased,
    LeaseStarted,
    OperationEnded,
    OperationStarted,
    ReleaseFailed,
)
from tests.renting.stage import stage


async def test_a_lease_from_its_order_to_its_end(folder: Path) -> None:
    """It is one operation, with its waits and its deletion in it; price and cost are those of the pod."""
    events: list[Event] = []
    async with stage(folder, options={"on_event": events.append}) as it, it.client.pods.lease(it.spec) as pod:
        events.append(Event())
    [start] = [e for e in events if isinstance(e, OperationStarted) and e.name == "pods.lease"]
    inner = [e.name for e in events if isinstance(e, OperationStarted) and (e.parent,) == start.operations]
    own = [name for name in inner if name in {"pods.wait", "pods.delete"}]
    assert own == ["pods.wait", "pods.delete", "pods.wait"]
    of_lease = [event for event in events if event.operations == start.operations]
    kinds = [type(event) for event in of_lease if "Lease" in type(event).__name__]
    assert kinds == [LeaseStarted, LeaseReady, LeaseReleased]
    [started, ready, released] = [
        event for event in of_lease if isinstance(event, LeaseStarted | LeaseReady | LeaseReleased)
    ]
    assert events.index(ready) < events.index(Event()) < events.index(released)
    assert {(e.pod_id, e.name, e.price_hr) for e in (started, ready, released)} == {
        (pod.id, pod.name, pod.price_hr)
    }
    assert 0 <= started.seconds < ready.seconds < released.seconds
    assert isinstance(released, LeaseReleased)
    assert released.spent == pod.spent() > 0
    assert isinstance(of_lease[-1], OperationEnded)
    assert of_lease[-1].error is None


async def test_a_release_that_fails_and_a_pod_that_is_kept(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A pod that may be running is told, also as fields of its line in the log; a kept one ends its lease."""
    events: list[Event] = []
    async with stage(folder, options={"on_event": events.append}) as it:
        async with it.client.pods.lease(it.spec) as pod:
            pod.keep()
        it.emulator.faults.add(Status(503), on="delete")
        with pytest.raises(primepods.NotReleasedError):
            async with it.client.pods.lease(it.spec, release_timeout=30) as left:
                pass
        await it.clock.sleep(3600)
        assert left.spent() > left.price_hr  # it is billed on
    [kept] = [event for event in events if isinstance(event, LeaseKept)]
    [failed] = [event for event in events if isinstance(event, ReleaseFailed)]
    assert not [event for event in events if isinstance(event, LeaseReleased)]
    assert (kept.pod_id, failed.pod_id, failed.name) == (pod.id, left.id, left.name)
    errors = [
        event.error for event in events if isinstance(event, OperationEnded) and event.name == "pods.lease"
    ]
    assert errors == [None, "NotReleasedError"]
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (vars(record)["pod_id"], vars(record)["pod_name"]) == (left.id, left.name)
