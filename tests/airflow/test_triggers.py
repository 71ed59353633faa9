"""The trigger alone, in this process, against an emulator."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from primepods import AsyncClient
from primepods.emulator import Emulator
from primepods.emulator.faults import Status
from tests.support.eventually import eventually

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(500)]


@pytest.fixture
def trigger_class(import_airflow: Callable[[str], Any]) -> Any:
    """The trigger."""
    return import_airflow("primepods.airflow.triggers").PrimePodTrigger


def arguments(pod_id: str, **changes: Any) -> dict[str, Any]:
    """What makes a trigger."""
    defaults = {"prime_conn_id": "prime_default", "end": time.time() + 60, "interval": 0.2}
    return {"pod_id": pod_id} | defaults | changes


TASK = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=-1)


def answer_with(
    state: str | Exception | None, monkeypatch: pytest.MonkeyPatch, wait: Callable[[], object] = lambda: None
) -> None:
    """Stand for the triggerer's process, which says, after a wait, what state the task is in."""
    from airflow.sdk.execution_time import comms, task_runner

    class Supervisor:
        """Answers questions about tasks."""

        def send(self, message: Any) -> Any:
            """Return the state, or raise what is in its place."""
            if not isinstance(message, comms.GetTaskStates):
                return None
            wait()
            if isinstance(state, Exception):
                raise state
            return comms.TaskStatesResult(task_states={"run": {"wait": state}})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)


async def event_of(trigger: Any) -> dict[str, Any]:
    """The one event of a trigger."""
    [event] = [event.payload async for event in trigger.run()]
    assert set(event) == {"status", "message", "pod"}
    return dict(event)


async def test_it_is_rebuilt_from_what_it_serializes(trigger_class: Any, connected: Emulator) -> None:
    """With the end of the first start, and without the key."""
    trigger = trigger_class(**arguments("a1", until="gone", delete_on_kill=True))
    path, kwargs = trigger.serialize()
    assert path == "primepods.airflow.triggers.PrimePodTrigger"
    assert trigger_class(**kwargs).serialize() == (path, kwargs)
    assert kwargs["end"] == trigger.end
    assert connected.api_key not in repr(kwargs)


async def test_it_tells_how_its_pod_is(trigger_class: Any, connected: Emulator) -> None:
    """Ready with its address; failed with its reason; gone; late."""
    good, bad = connected.add_pod(boot_seconds=0), connected.add_pod(failure="no capacity", boot_seconds=0)
    slow = connected.add_pod(boot_seconds=3600)
    ready = await event_of(trigger_class(**arguments(good)))
    assert (ready["status"], ready["pod"]["ssh"]["port"] > 0) == ("success", True)
    failed = await event_of(trigger_class(**arguments(bad)))
    assert (failed["status"], "no capacity" in failed["message"]) == ("failed", True)
    assert (await event_of(trigger_class(**arguments("ab" * 16, until="gone"))))["status"] == "success"
    late = await event_of(trigger_class(**arguments(slow, end=time.time() + 0.5)))
    assert (late["status"], late["pod"]["pod_id"]) == ("timeout", slow)


async def test_a_refused_key_is_an_error(trigger_class: Any, connected: Emulator) -> None:
    """The event says what the API said."""
    connected.faults.add(Status(401), on="status")
    event = await event_of(trigger_class(**arguments("ab" * 16)))
    assert event["status"] == "error"
    assert "AuthenticationError" in event["message"]


async def test_a_wait_that_is_over_still_looks(trigger_class: Any, connected: Emulator) -> None:
    """A pod that became ready while no triggerer ran is a success."""
    pod_id = connected.add_pod(boot_seconds=0)
    assert (await event_of(trigger_class(**arguments(pod_id, end=time.time() - 3600))))["status"] == "success"


async def test_fifty_share_one_poller(trigger_class: Any, connected: Emulator) -> None:
    """Fifty waits are one request a poll, over one connection."""
    pods = [connected.add_pod(boot_seconds=3600) for _ in range(50)]
    end = time.time() + 2.0
    async with asyncio.TaskGroup() as group:
        for pod_id in pods:
            group.create_task(event_of(trigger_class(**arguments(pod_id, end=end, interval=0.5))))
    # The first polls are for those that came in between; then there is one every half second. Without
    # sharing, there would be two hundred.
    assert len(connected.requests[:]) < 25
    assert max(len(request.query) for request in connected.requests[:]) == 50


async def test_no_client_is_open_when_the_event_comes(trigger_class: Any, connected: Emulator) -> None:
    """Who takes the event and never comes back, as `dag.test()`, leaves nothing open."""
    events: AsyncIterator[Any] = trigger_class(**arguments(connected.add_pod(boot_seconds=0))).run()
    assert (await anext(events)).payload["status"] == "success"
    gc.collect()
    # By type: `isinstance` would ask objects of Airflow's that pretend to be of other classes.
    clients = [found for found in gc.get_objects() if type(found) is AsyncClient]
    assert all("closed" in repr(client) for client in clients)


async def test_a_cancelled_wait_keeps_its_message(trigger_class: Any, connected: Emulator) -> None:
    """By it Airflow tells whether a user has killed the task."""
    trigger = trigger_class(**arguments(connected.add_pod(boot_seconds=3600), delete_on_kill=True))
    task = asyncio.create_task(event_of(trigger))
    await eventually(lambda: connected.requests[:])
    task.cancel("a user has done it")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("a user has done it",)
    assert len(connected.pods) == 1


@pytest.mark.parametrize(
    ("state", "boot_seconds", "seconds", "is_deleted"),
    [
        ("failed", 0, 60, True),
        (None, 3600, 60, True),
        ("queued", 3600, 60, True),
        ("success", 3600, 60, True),
        # Another triggerer waits, or a retry will.
        ("deferred", 3600, 60, False),
        ("up_for_retry", 3600, 60, False),
        # The wait may have ended in another triggerer.
        ("running", 0, 60, False),
        ("success", 0, 60, False),
        ("restarting", 0, 60, False),
        (None, 0, 60, False),
        ("queued", 3600, -1, False),
        # Airflow does not say.
        (OSError("no database"), 3600, 60, False),
    ],
)
async def test_a_killed_task_takes_its_pod_along(
    trigger_class: Any,
    connected: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    *,
    state: str | Exception | None,
    boot_seconds: float,
    seconds: float,
    is_deleted: bool,
) -> None:
    """Only if a user has killed it: a pod that may be used or waited for is left."""
    answer_with(state, monkeypatch)
    pod_id = connected.add_pod(boot_seconds=boot_seconds)
    trigger = trigger_class(**arguments(pod_id, end=time.time() + seconds, delete_on_kill=True))
    trigger.task_instance = TASK
    await trigger.on_kill()
    assert [request.method for request in connected.requests[:]].count("DELETE") == is_deleted


async def test_killed_tasks_wait_together_for_an_airflow_that_does_not_answer(
    trigger_class: Any, connected: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slow response ends no other request; a second one ends those that wait, and keeps their pods."""
    asked, may_answer = list[None](), threading.Event()

    def wait() -> None:
        asked.append(None)
        may_answer.wait(60)

    answer_with("failed", monkeypatch, wait)
    triggers = []
    for _ in range(4):
        trigger = trigger_class(**arguments(connected.add_pod(), delete_on_kill=True))
        trigger.task_instance = TASK
        triggers.append(trigger)
    loop = asyncio.get_running_loop()
    clock, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + ahead)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(trigger.on_kill()) for trigger in triggers]
            await eventually(lambda: bool(asked))
            ahead = 130.0
            await eventually(lambda: any(task.done() for task in tasks))
            assert sum(task.done() for task in tasks) == 1
            ahead = 260.0
    finally:
        may_answer.set()
    assert {request.method for request in connected.requests[:]} <= {"GET"}


async def test_a_killed_task_keeps_its_pod_by_default(
    trigger_class: Any, connected: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is deleted only where that was asked for."""
    answer_with("failed", monkeypatch)
    trigger = trigger_class(**arguments(connected.add_pod(boot_seconds=3600)))
    trigger.task_instance = TASK
    await trigger.on_kill()
    assert connected.requests[:] == []
