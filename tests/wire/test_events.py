"""What `on_event` is told about calls, and what an exception in it does: nothing."""

import asyncio
import contextvars
import logging
import pickle
import subprocess
import sys
from typing import Any

import attrs
import pytest

import primepods
from primepods import RetryPolicy
from primepods.emulator import Emulator, Reset, Status
from primepods.events import (
    DeletionEnded,
    Event,
    OperationEnded,
    OperationStarted,
    RequestEnded,
    RetryScheduled,
)
from tests.support.client import KEY, emulated, make_client, serve
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Hang, Held, Reply, reply
from tests.support.server import Reset as Cut

PATH = "/api/v1/pods/abc/log"
RETRY = RetryPolicy(attempts=4, base_delay=2.0, jitter=False)


def shape(event: Event) -> tuple[Any, ...]:
    """Its kind and what does not depend on time."""
    match event:
        case RequestEnded():
            return "request", event.method, event.route, event.status, event.error, event.resend_count
        case RetryScheduled():
            return "retry", event.attempt, event.status, event.reason, event.delay
        case OperationStarted():
            return "started", event.name, event.parent
        case OperationEnded():
            return "ended", event.name, event.error
        case DeletionEnded():
            return "deletion", event.pod_id, event.state, event.error
    raise AssertionError(event)


async def test_a_call_with_retries(caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt, and the reason for each retry, belong to the call; the log has the same as fields.

    Neither has the server's text.
    """
    events: list[Event] = []
    caplog.set_level(logging.DEBUG, "primepods")
    named = {"X-Request-Id": "r1", "X-Echo": KEY}
    oops, broken = reply({"detail": "the password is hunter2"}, 500), Reply(200, b"{}", cut=1)
    async with serve(
        [oops, Cut(), Reply(429), Cut(), broken, attrs.evolve(reply("the log"), headers=named)],
        clock=ManualClock(auto=True),
        retry=RETRY,
        on_event=events.append,
    ) as (server, client):
        assert await client.pods.logs("abc") == "the log"
    route = "/api/v1/pods/{id}/log"
    retries = [event for event in events if isinstance(event, RetryScheduled)]
    assert [shape(event) for event in events if not isinstance(event, RetryScheduled)] == [
        ("started", "pods.logs", None),
        ("request", "GET", route, 500, None, 0),
        ("request", "GET", route, 429, None, 2),  # sent twice: the kept connection was closed
        ("request", "GET", route, None, "protocol", 4),  # as well
        ("request", "GET", route, 200, None, 5),
        ("ended", "pods.logs", None),
    ]
    assert [(event.attempt, event.status, event.delay) for event in retries] == [
        (1, 500, 2.0),
        (2, 429, 2.0),
        (3, None, 4.0),
    ]
    ended = [event for event in events if isinstance(event, RequestEnded)]
    assert (ended[0].request_id, ended[-1].request_id) == (None, "r1")
    assert (ended[-1].headers["x-request-id"], ended[-1].headers["x-echo"]) == ("r1", "[redacted]")
    assert [retry.reason for retry in retries[:2]] == ["status 500", "status 429"]
    assert len({event.operations for event in events}) == 1
    assert {event.base_url for event in events if isinstance(event, RequestEnded)} == {server.url}
    records = [vars(record) for record in caplog.records]
    assert [(each.get("status"), each["attempt"]) for each in records if "seconds" in each] == [
        (500, 1),
        (429, 2),
        (None, 3),
        (200, 4),
    ]
    assert [(each["method"], each["delay"]) for each in records if "delay" in each] == [
        ("GET", 2.0),
        ("GET", 2.0),
        ("GET", 4.0),
    ]
    assert not any(text in f"{events}{records}" for text in (KEY, "hunter2", "the log"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [(Reply(200, b'{"a": 1}', cut=3), "protocol"), (Hang(), "timeout"), (Cut(), "transport")],
    ids=["protocol", "timeout", "transport"],
)
async def test_an_attempt_without_a_response(answer: Answer, error: str) -> None:
    """Its event says why in one word, and the call ends with its error's class."""
    events: list[Event] = []
    once = RetryPolicy(attempts=1)
    timeout = 0.05 if isinstance(answer, Hang) else 20.0
    async with serve(default=answer, timeout=timeout, retry=once, on_event=events.append) as (
        _server,
        client,
    ):
        with pytest.raises(primepods.PrimePodsError) as raised:
            await client.request("get", PATH)
    assert [shape(event) for event in events] == [
        ("started", "request", None),
        ("request", "GET", None, None, error, 0),
        ("ended", "request", raised.type.__name__),
    ]


async def test_a_cancelled_call() -> None:
    """The attempt and the call end with the cancellation, and the next call is a new operation."""
    events: list[Event] = []
    async with serve([Held(asyncio.Event(), Reply())], default=reply({}), on_event=events.append) as (
        _server,
        client,
    ):
        call = asyncio.create_task(client.request("GET", PATH))
        await settle()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert shape(events[-2])[4] == shape(events[-1])[2] == "CancelledError"
        await client.request("GET", PATH)
    assert [shape(event)[0] for event in events[3:]] == ["started", "request", "ended"]
    assert events[3].operations != events[0].operations


async def test_calls_that_share_a_request() -> None:
    """A request for several calls of `status` belongs to all of them; pages and deletions are told, too."""
    events: list[Event] = []
    async with emulated({"on_event": events.append}, pods=2, boot_seconds=0) as (_emu, client):
        ids = [pod.id async for pod in client.pods.list()]
        await asyncio.gather(*map(client.pods.status, ids))
        await client.pods.delete_many([*ids, "nonesuch"])
    names = {event.name: event for event in events if isinstance(event, OperationStarted)}
    assert names.keys() == {"pods.list", "pods.status", "pods.delete_many"}
    [(number, other)] = {event.operations for event in events if len(event.operations) > 1}
    statuses = [e.operations for e in events if isinstance(e, OperationEnded) and e.name == "pods.status"]
    assert sorted(statuses) == [(number,), (other,)]
    deletions = {shape(event) for event in events if isinstance(event, DeletionEnded)}
    assert deletions == {
        *(("deletion", pod_id, "DELETING", None) for pod_id in ids),
        ("deletion", "nonesuch", None, "NotFoundError"),
    }


async def test_an_exception_in_it_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Calls, waits and deletions go on as without it; the first exception is logged."""
    heard: list[Event] = []

    def broken(event: Event) -> None:
        heard.append(event)
        raise ZeroDivisionError

    async with Emulator(pods=3, boot_seconds=0, delete_seconds=0) as emu:
        emu.faults.add(Status(503), times=1)
        emu.faults.add(Reset(), on="status", times=1)
        async with make_client(
            emu.url, api_key=emu.api_key, retry=RetryPolicy(base_delay=0), on_event=broken
        ) as client:
            ids = [pod.id async for pod in client.pods.list()]
            assert (await client.pods.wait(ids, interval=0.05)).keys() == set(ids)
            assert not (await client.pods.delete_many(ids)).errors
    assert len(heard) > 10
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


def test_the_blocking_client_tells_the_same() -> None:
    """Operations begin in the caller's context; the callback must be a plain function, and cannot call the
    client.
    """
    caller = contextvars.ContextVar("caller", default="nobody")
    events: list[tuple[Event, str]] = []
    with Emulator(pods=1) as emu:

        def note(event: Event) -> None:
            events.append((event, caller.get()))
            client.pods.page()

        with primepods.Client(emu.api_key, base_url=emu.url, on_event=note) as client:
            caller.set("me")
            client.with_options(timeout=5).pods.page()
    assert [(shape(event)[0], of) for event, of in events] == [
        ("started", "me"),
        ("request", "me"),
        ("ended", "me"),
    ]

    async def coroutine(_: Event) -> None: ...

    for bad in (coroutine, "print"):
        with pytest.raises(TypeError, match="on_event must be a"):
            primepods.Client("key", on_event=bad)  # type: ignore[arg-type]  # what is refused


def test_settings_with_it_are_pickled() -> None:
    """Without the function, which may not be."""
    client = primepods.AsyncClient("key", on_event=lambda _: None)
    assert pickle.loads(pickle.dumps(client._executor.settings)).on_event is None


def test_nothing_is_loaded_without_it() -> None:
    """Only `on_event` loads the events: a client without it starts as fast as ever."""
    code = (
        "import primepods, sys; primepods.AsyncClient('key'); "
        "assert 'primepods.events' not in sys.modules; "
        "primepods.AsyncClient('key', on_event=print); assert 'primepods.events' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
